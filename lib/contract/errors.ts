// Every error of the package: the public TransferError, the failures it is made from, and the errors for a caller's
// mistakes. All failures are built here, so that one cause has one code and one text.
import { constants } from 'node:os';
import { inspect } from 'node:util';
import { describeErrno } from './errno.js';
import type { Side, Traffic } from './traffic.js';

interface Details {
  code: string;
  traffic: Traffic;
  errno?: number | undefined;
  syscall?: string | undefined;
  side?: Side | undefined;
  cause?: unknown;
  undelivered?: Buffer | undefined;
  afterEnd?: boolean | undefined;
}

/** A transfer that failed or was aborted. A property that does not apply is absent, not `undefined`. */
export class TransferError extends Error {
  /** The system's code (`ECONNRESET`, …) or one of this package (`ABORT_ERR`, `ERR_STREAM_DESTROYED`, …). */
  readonly code: string;
  // `declare` creates no field: an optional property that does not apply stays absent.
  /** The system's error number, negative as in Node; absent for codes of this package. */
  declare readonly errno?: number;
  /** The system call that failed; absent for codes of this package. */
  declare readonly syscall?: string;
  /** The end that failed; absent if neither end did. */
  declare readonly side?: Side;
  /** The counts when the transfer ended. */
  readonly traffic: Traffic;
  /**
   * Bytes that a copy took from its source and that the destination did not accept, in order, not counted. Present only
   * if they could not go back: the source was given as a number, or was a socket that has been destroyed since. Absent
   * when empty.
   */
  declare readonly undelivered?: Buffer;
  /**
   * Whether the peer of `side` had ended its input before it reset or closed the connection (`ECONNRESET`, `EPIPE`), and
   * all of that input was delivered. Many clients leave in this way when they have their answer. Bytes that the other side
   * still sent are lost, and the other side is reset. Present on errors of a relay only.
   */
  declare readonly afterEnd?: boolean;

  constructor(message: string, details: Details) {
    const { code, traffic, errno, syscall, side, cause, undelivered, afterEnd } = details;
    const when = afterEnd === true ? ', after the end of its input' : '';
    const where = side === undefined ? '' : ` (side ${side}${when})`;
    const bytes = `${traffic.total} ${traffic.total === 1 ? 'byte' : 'bytes'}`;
    super(`${message}${where}, after ${bytes}`, cause === undefined ? undefined : { cause });
    this.name = code === 'ABORT_ERR' ? 'AbortError' : 'TransferError';
    this.code = code;
    this.traffic = traffic;
    if (errno !== undefined) this.errno = errno;
    if (syscall !== undefined) this.syscall = syscall;
    if (side !== undefined) this.side = side;
    if (undelivered !== undefined) this.undelivered = undelivered;
    if (afterEnd !== undefined) this.afterEnd = afterEnd;
  }
}

/** Why a transfer ended early. It becomes a {@link TransferError} when the final counts are known. */
export interface Failure {
  message: string;
  code: string;
  errno?: number | undefined;
  syscall?: string | undefined;
  side?: Side | undefined;
  cause?: unknown;
  undelivered?: Buffer | undefined;
  /** Whether the input of `side` had ended before; absent where that is not known yet. */
  afterEnd?: boolean | undefined;
}

/** A system call that failed; `errno` is negative. */
export function systemFailure(errno: number, syscall: string, side?: Side, cause?: unknown): Failure {
  const [code, text] = describeErrno(errno);
  return { message: `${syscall} failed: ${code}, ${text}`, code, errno, syscall, side, cause };
}

/** The failure of a call on a file of `side`. Where no thread could be started for it, neither end has failed. */
export function fileCallFailure(
  { errno = 0, syscall = '' }: { errno?: number | undefined; syscall?: string | undefined },
  side: Side,
): Failure {
  return systemFailure(errno, syscall, syscall === 'clone' ? undefined : side);
}

/** A system call of Node's own that failed: a connect, a flush, a read from a socket. `undefined` for other errors. */
export function nodeFailure(side: Side | undefined, cause: unknown): Failure | undefined {
  // A connect that tried several addresses fails with the errors of all of them.
  const first = (cause as Partial<AggregateError> | null)?.errors?.[0] as unknown;
  const { code, errno, syscall } = (first ?? cause ?? {}) as NodeJS.ErrnoException;
  // The system never returns ECANCELED for a socket: Node does, for a write that was pending when it was destroyed.
  if (code === 'ECANCELED') return undefined;
  if (code === undefined || typeof errno !== 'number' || syscall === undefined) return undefined;
  const failure = systemFailure(errno, syscall, side, cause);
  // Node has no name for some numbers of Linux.
  if (code === 'UNKNOWN' || code.startsWith('Unknown system error')) return failure;
  return { ...failure, message: `${syscall} failed: ${code}`, code };
}

/** The error that Node would have emitted for a failed system call on a socket; `undefined` for other failures. */
export function nodeError({ code, errno, syscall }: Failure): Error | undefined {
  if (errno === undefined || syscall === undefined) return undefined;
  // Node has two calls for a connected socket. Only writing fails with EPIPE.
  const call = code === 'EPIPE' || syscall === 'send' || syscall === 'write' ? 'write' : 'read';
  return Object.assign(new Error(`${call} ${code}`), { errno, code, syscall: call });
}

/** The failure of a transfer whose stream has emitted `error`. */
export function streamFailure(side: Side | undefined, error: unknown): Failure {
  // JavaScript can emit and throw any value, or none.
  const { code, message = 'the stream failed' } = (error ?? {}) as NodeJS.ErrnoException;
  const system = nodeFailure(side, error);
  if (system !== undefined) return system;
  if (typeof code !== 'string' || code === 'ECANCELED') return streamDestroyed(side, { errored: error });
  return { message, code, side, cause: error };
}

/** A stream whose `write` or `end` threw, as that of a response without a body does. */
export function writeThrew(side: Side, error: unknown): Failure {
  return { ...streamFailure(side, error), message: `writing threw: ${textOf(error)}` };
}

function textOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : inspect(thrown, { depth: 0 });
}

/** An exception of a step of a transfer: thrown by Node, by the core, or by a method or listener of the caller. */
export function thrown(error: unknown, side?: Side): Failure {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  const system = nodeFailure(side, error);
  if (system !== undefined) return system;
  // Errors of the addon that are not failed system calls have this code.
  if (code === 'GenericFailure') return { ...internal(error), side };
  const known = typeof code === 'string' && code.startsWith('ERR_') ? code : 'ABORT_ERR';
  return { message: `an error was thrown: ${textOf(error)}`, code: known, side, cause: error };
}

/** A fault of this package, such as a panic in the core. */
export function internal(cause?: unknown): Failure {
  return { message: 'an internal error ended the transfer', code: 'ERR_INVALID_STATE', cause };
}

/** A stream that was closed before it ended. */
export function streamDestroyed(side: Side | undefined, { errored }: { errored?: unknown }): Failure {
  return { message: 'the stream was destroyed', code: 'ABORT_ERR', side, cause: errored ?? null };
}

/** An HTTP/2 stream, or a stream on top of one, that was cancelled. Its class may end it as after a clean end. */
export function streamReset(side: Side, code: number | undefined): Failure {
  const reason = code === undefined ? '' : ` with HTTP/2 error code ${code}`;
  return { message: `the stream was reset${reason}`, code: 'ECONNRESET', side };
}

/** A TLS session whose connection ended without close_notify: its last bytes may be missing. */
export function tlsCutOff(side: Side): Failure {
  return { message: 'the TLS session ended without close_notify', code: 'ECONNRESET', side };
}

/** A channel of ssh2 whose connection was lost: its last bytes may be missing. */
export function channelLost(side: Side): Failure {
  return { message: 'the connection of the SSH channel was lost', code: 'ECONNRESET', side };
}

/** Bytes arrived for a side of a relay that its owner had ended. The core reports the same error. */
export function endedByOwner(side: Side): Failure {
  return { ...systemFailure(-constants.errno.EPIPE, 'write', side), afterEnd: false };
}

/** A socket that was destroyed from JavaScript during the transfer. */
export function socketDestroyed(side: Side, cause: Error | null, whileConnecting: boolean): Failure {
  const when = whileConnecting ? ' while connecting' : '';
  return { message: `the socket was destroyed${when}`, code: 'ABORT_ERR', side, cause };
}

/** A socket or stream that was destroyed before the call. */
export function alreadyDestroyed(
  side: Side,
  kind: 'socket' | 'stream' | 'connection',
  cause: Error | null,
): Failure {
  return { message: `the ${kind} was already destroyed`, code: 'ERR_STREAM_DESTROYED', side, cause };
}

/** A socket that was closed before other code joined it to another one. */
export function closedBeforePipe(cause: Error | null): Failure {
  const message = 'the socket was closed before it was piped both ways';
  return { message, code: 'ERR_STREAM_DESTROYED', side: 'a', cause };
}

/** A stream that its owner had ended before the call: it accepts no more bytes. */
export function alreadyEnded(side: Side): Failure {
  return { message: 'the stream was already ended', code: 'ERR_STREAM_WRITE_AFTER_END', side };
}

/** A descriptor that could not be opened or duplicated; `found` is its kind, if another kind is required. */
export function refusalFailure(
  {
    found,
    errno,
    syscall,
  }: { found?: string | undefined; errno?: number | undefined; syscall?: string | undefined },
  side: Side,
): Failure {
  if (errno !== undefined && syscall !== undefined) return systemFailure(errno, syscall, side);
  return wrongKind(side, found);
}

/** The owner of a socket wrote to it while a relay owned it. */
export function invalidState(side: Side): Failure {
  return { message: 'the socket was written to while a relay owned it', code: 'ERR_INVALID_STATE', side };
}

/** A socket that another relay has taken over since the check of the arguments. */
export function taken(side: Side): Failure {
  return { message: 'another relay has taken the socket over', code: 'ERR_INVALID_STATE', side };
}

/** A socket that Node goes on reading although the transfer has taken it over. */
export function notStopped(side: Side): Failure {
  return { message: 'Node could not be stopped from reading the socket', code: 'ERR_INVALID_STATE', side };
}

/** A socket whose descriptor turned out to be of another kind; `found` completes "the descriptor is ...". */
export function wrongKind(side: Side, found: string | undefined): Failure {
  const message = `expected a connected stream socket: the descriptor is ${found}`;
  return { message, code: 'ERR_INVALID_ARG_VALUE', side };
}

/** The caller's signal or `abort()`; `cause` is the reason given. */
export function aborted(cause?: unknown): Failure {
  return { message: 'aborted', code: 'ABORT_ERR', cause };
}

/** A callback of the caller's threw `cause`. */
export function callbackThrew(name: string, cause: unknown): Failure {
  return { message: `${name} threw`, code: 'ABORT_ERR', cause };
}

/** No byte moved for `idleTimeout`. */
export function idle(): Failure {
  return { message: 'no byte moved in time', code: 'ERR_IDLE_TIMEOUT' };
}

/** One direction of a relay ended and the other did not within `halfCloseTimeout`; `side` is the one still open. */
export function halfCloseTimeout(side: Side | undefined): Failure {
  const message = 'the other direction has ended and this one did not in time';
  return { message, code: 'ERR_HALF_CLOSE_TIMEOUT', side };
}

/** `sendFile` reached the end of its file before the end of the range. */
export function truncated(): Failure {
  return {
    message: 'the file became shorter while it was sent',
    code: 'ERR_SOURCE_TRUNCATED',
    side: 'source',
  };
}

/** The file of a `sendFile` is shorter than the length that its response has announced. */
export function shorterThanAnnounced(): Failure {
  return { ...truncated(), message: 'the file is shorter than the announced length' };
}

/** The body of a response has another length than its headers have announced. */
export function lengthMismatch(): Failure {
  return {
    message: 'the body has another length than its Content-Length',
    code: 'ERR_HTTP_CONTENT_LENGTH_MISMATCH',
    side: 'destination',
  };
}

/** Node could not open or inspect a file: the system refused it, or Node's permission model did. */
export function openFailure(cause: NodeJS.ErrnoException): Failure {
  const { code = '', errno, syscall = '', message } = cause;
  if (errno !== undefined) return systemFailure(errno, syscall, 'source');
  return { message, code, side: 'source', cause };
}

/** A file source that has no descriptor; `message` says why. */
export function notOpen(message: string): Failure {
  return { message, code: 'EBADF', side: 'source' };
}

interface Mistake extends Error {
  code: string;
}

function mistake<E extends Error>(error: E, code: string): E & Mistake {
  // The first line of the stack names the code, as in Node's own errors.
  error.stack = error.stack?.replace(error.name, `${error.name} [${code}]`) ?? '';
  return Object.assign(error, { code });
}

function shown(value: unknown): string {
  const kind = typeof value === 'object' && value !== null ? value.constructor?.name : undefined;
  if (kind !== undefined && kind !== '' && kind !== 'Object' && kind !== 'Array')
    return `an instance of ${kind}`;
  const text = inspect(value, { depth: 0, breakLength: Infinity });
  return text.length > 128 ? `${text.slice(0, 125)}...` : text;
}

/** An argument of the wrong type. */
export function invalidType(name: string, expected: string, value: unknown): Mistake {
  return mistake(
    new TypeError(`"${name}" must be ${expected}. Received ${shown(value)}`),
    'ERR_INVALID_ARG_TYPE',
  );
}

/** An argument of the right type that cannot be used. */
export function invalidValue(name: string, problem: string): Mistake {
  return mistake(new TypeError(`"${name}" ${problem}`), 'ERR_INVALID_ARG_VALUE');
}

/** A number outside of its limits. */
export function outOfRange(name: string, expected: string, value: unknown): Mistake {
  return mistake(
    new RangeError(`"${name}" must be ${expected}. Received ${shown(value)}`),
    'ERR_OUT_OF_RANGE',
  );
}

/** A path or URL that Node rejects without a system call. Node's error names another argument. */
export function badPath(name: string, cause: NodeJS.ErrnoException): Mistake {
  const { code = 'ERR_INVALID_ARG_VALUE', message } = cause;
  return mistake(new TypeError(`"${name}" must be a path or URL of a file: ${message}`, { cause }), code);
}

/** A path that does not name a file which a copy can use as `side`. `found` is what it names, with its article. */
export function pathMistake(side: Side, found = 'something else'): Mistake {
  if (found === 'the source itself') return invalidValue(side, 'must not be the same file as the source');
  return invalidValue(side, `must name a regular file. It names ${found}`);
}

/** A descriptor that the caller has closed: a plain `Error`, as in Node. */
export function badDescriptor(name: string, fd: number, errno: number, syscall: string): Mistake {
  const error = new Error(`EBADF: "${name}" is not an open descriptor (${fd}), ${syscall}`);
  return Object.assign(error, { code: 'EBADF', errno, syscall });
}

/** A call that needs the native core, where there is none. */
export function unavailable(message: string): Mistake {
  return Object.assign(new Error(message), { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' });
}
