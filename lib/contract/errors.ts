import { getSystemErrorMap, inspect } from 'node:util';
import type { Side, Traffic } from './types.js';

interface Details {
  code: string;
  traffic: Traffic;
  errno?: number | undefined;
  syscall?: string | undefined;
  side?: Side | undefined;
  cause?: unknown;
  undelivered?: Buffer | undefined;
}

/** A transfer that ended before its end. What does not apply to it is absent, not `undefined`. */
export class TransferError extends Error {
  /** The system's code (`ECONNRESET`, …) or one of ours (`ABORT_ERR`, `ERR_STREAM_DESTROYED`, …). */
  readonly code: string;
  // These are declared alone: fields would be there, undefined, where they are to be absent.
  /** The system's error number, negative as Node's; absent for codes of ours. */
  declare readonly errno?: number;
  /** The system call that failed; absent for codes of ours. */
  declare readonly syscall?: string;
  /** The end at which it failed; absent where it failed at neither. */
  declare readonly side?: Side;
  /** What had been delivered by then. */
  readonly traffic: Traffic;
  /**
   * Bytes a copy took from a descriptor given as a number, or from a socket that was destroyed meanwhile, that the
   * destination did not accept, in order, not counted; absent when there are none.
   */
  declare readonly undelivered?: Buffer;

  constructor(what: string, details: Details) {
    const { code, traffic, errno, syscall, side, cause, undelivered } = details;
    const where = side === undefined ? '' : ` (side ${side})`;
    const bytes = `${traffic.total} ${traffic.total === 1 ? 'byte' : 'bytes'}`;
    super(`${what}${where}, after ${bytes}`, cause === undefined ? undefined : { cause });
    this.name = code === 'ABORT_ERR' ? 'AbortError' : 'TransferError';
    this.code = code;
    this.traffic = traffic;
    if (errno !== undefined) this.errno = errno;
    if (syscall !== undefined) this.syscall = syscall;
    if (side !== undefined) this.side = side;
    if (undelivered !== undefined) this.undelivered = undelivered;
  }
}

/** Why a transfer ended early, before its counts are known. */
export interface Failure {
  what: string;
  code: string;
  errno?: number | undefined;
  syscall?: string | undefined;
  side?: Side | undefined;
  cause?: unknown;
  undelivered?: Buffer | undefined;
}

export function systemFailure(errno: number, syscall: string, side?: Side, cause?: unknown): Failure {
  const [code, text] = getSystemErrorMap().get(errno) ?? [`E${-errno}`, 'unknown error'];
  return { what: `${syscall} failed: ${code}, ${text}`, code, errno, syscall, side, cause };
}

/** What Node found out of its own accord: a failed connect or flush, a reset of a socket that it reads. */
export function nodeFailure(side: Side, cause: Error | null): Failure | undefined {
  // A connect that tried several addresses fails with all their errors.
  const first = cause instanceof AggregateError ? (cause.errors[0] as unknown) : cause;
  const { code, errno, syscall } = (first ?? {}) as NodeJS.ErrnoException;
  // The system never says that of a socket: Node does, of a write that was under way when it was destroyed.
  if (code === 'ECANCELED') return undefined;
  if (code === undefined || errno === undefined || syscall === undefined) return undefined;
  return { ...systemFailure(errno, syscall, side, cause), what: `${syscall} failed: ${code}`, code };
}

export function aborted(cause: unknown, side?: Side): Failure {
  return {
    what: side === undefined ? 'aborted' : 'the socket was destroyed',
    code: 'ABORT_ERR',
    side,
    cause,
  };
}

export function idle(): Failure {
  return { what: 'no byte moved in time', code: 'ERR_IDLE_TIMEOUT' };
}

/** Somebody wrote to what belongs to a relay. */
export function invalidState(side: Side): Failure {
  return { what: 'the socket was written to while a relay owned it', code: 'ERR_INVALID_STATE', side };
}

interface Mistake extends Error {
  code: string;
}

function mistake<E extends Error>(error: E, code: string): E & Mistake {
  // Node's own errors carry their code in the stack's first line too.
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

export function invalidType(name: string, expected: string, value: unknown): Mistake {
  return mistake(
    new TypeError(`"${name}" must be ${expected}. Received ${shown(value)}`),
    'ERR_INVALID_ARG_TYPE',
  );
}

export function invalidValue(name: string, problem: string): Mistake {
  return mistake(new TypeError(`"${name}" ${problem}`), 'ERR_INVALID_ARG_VALUE');
}

export function outOfRange(name: string, expected: string, value: unknown): Mistake {
  return mistake(
    new RangeError(`"${name}" must be ${expected}. Received ${shown(value)}`),
    'ERR_OUT_OF_RANGE',
  );
}

/** A path or URL that Node refuses without asking the system, under the name of another argument. */
export function badPath(name: string, cause: NodeJS.ErrnoException): Mistake {
  const { code = 'ERR_INVALID_ARG_VALUE', message } = cause;
  return mistake(new TypeError(`"${name}" must be a path or URL of a file: ${message}`, { cause }), code);
}

/** A descriptor the caller has closed; a plain `Error`, as Node's. */
export function badDescriptor(name: string, fd: number, errno: number, syscall: string): Mistake {
  const error = new Error(`EBADF: "${name}" is not an open descriptor (${fd}), ${syscall}`);
  return Object.assign(error, { code: 'EBADF', errno, syscall });
}

/** What only the native core can do. */
export function unavailable(what: string): Mistake {
  return Object.assign(new Error(what), { code: 'ERR_FEATURE_UNAVAILABLE_ON_PLATFORM' });
}
