import type { Socket } from 'node:net';
import { badDescriptor, type Failure, invalidType, invalidValue, outOfRange, systemFailure } from './errors.js';
import { HeldSocket } from './held-socket.js';
import { isSame, type NativeEnd, openEnd } from './native.js';
import { descriptorOf, isPipeHandle, isPlainSocket } from './plain-socket.js';
import type { Side } from './types.js';

/** One end of a transfer, checked. */
export type Endpoint = DescriptorEndpoint | SocketEndpoint;

/** An open descriptor of the caller's, duplicated when the transfer was asked for. */
export interface DescriptorEndpoint {
  kind: 'descriptor';
  side: Side;
  end: NativeEnd;
}

/** A socket of Node's; its descriptor is duplicated when it is connected and flushed. */
export interface SocketEndpoint {
  kind: 'socket';
  side: Side;
  socket: Socket;
}

/** Finds out what was passed in. Throws a caller's mistake, and has then taken nothing over. */
export function endpoint(side: Side, value: unknown): Endpoint {
  if (typeof value === 'number') return { kind: 'descriptor', side, end: openDescriptor(side, value) };
  if (!isPlainSocket(value)) {
    throw invalidType(side, 'a net.Socket (TCP or Unix) or the number of an open descriptor', value);
  }
  if (value.readableEncoding !== null) {
    throw invalidValue(side, `must be a socket without setEncoding(): bytes decoded to ${value.readableEncoding} are lost`);
  }
  if (!value.destroyed && !value.connecting && descriptorOf(value) === undefined) {
    throw invalidValue(side, 'must be a socket that is connected or connecting');
  }
  // Node's Pipe handle also stands for pipes, which only the system can tell apart.
  if (isPipeHandle(value)) openDescriptor(side, descriptorOf(value) ?? -1).release();
  return { kind: 'socket', side, socket: value };
}

function openDescriptor(side: Side, fd: number): NativeEnd {
  if (!Number.isInteger(fd) || fd < 0 || fd > 2 ** 31 - 1) {
    throw outOfRange(side, 'the number of an open descriptor', fd);
  }
  const opened = openEnd(fd);
  if (opened.end !== undefined) return opened.end;
  const { found, errno = 0, syscall = '' } = opened.refusal;
  if (found === undefined) throw badDescriptor(side, fd, errno, syscall);
  throw invalidValue(side, `must be a connected stream socket. Descriptor ${fd} is ${found}`);
}

/** Throws where both ends are one socket. */
export function requireTwo(one: Endpoint, other: Endpoint): void {
  if (!isOneSocket(one, other)) return;
  discard(one, other);
  throw invalidValue(other.side, `must not be the same socket as ${one.side}`);
}

function isOneSocket(one: Endpoint, other: Endpoint): boolean {
  if (one.kind === 'socket' && other.kind === 'socket') {
    const fd = descriptorOf(one.socket);
    return one.socket === other.socket || (fd !== undefined && fd === descriptorOf(other.socket));
  }
  if (one.kind === 'descriptor' && other.kind === 'descriptor') return isSame(one.end, other.end);
  const [socket, descriptor] = one.kind === 'socket' ? [one, other] : [other, one];
  if (socket.kind !== 'socket' || descriptor.kind !== 'descriptor') return false;
  const opened = openEnd(descriptorOf(socket.socket) ?? -1);
  if (opened.end === undefined) return false;
  const same = isSame(opened.end, descriptor.end);
  opened.end.release();
  return same;
}

/** Lets go of duplicates that no transfer took. */
export function discard(...endpoints: Endpoint[]): void {
  for (const each of endpoints) if (each.kind === 'descriptor') each.end.release();
}

/** An end that is being made ready: connected, flushed, its unread bytes at hand. */
export class PreparedEnd {
  readonly side: Side;
  readonly held: HeldSocket | undefined;
  readonly #descriptor: NativeEnd | undefined;
  #ready = false;

  constructor(endpoint: Endpoint) {
    this.side = endpoint.side;
    this.held = endpoint.kind === 'socket' ? new HeldSocket(endpoint.socket) : undefined;
    this.#descriptor = endpoint.kind === 'descriptor' ? endpoint.end : undefined;
  }

  get isReady(): boolean {
    return this.#ready;
  }

  /** Calls `ready` once, perhaps at once, when the end can be given to the core; `fail` if it never can. */
  prepare(ready: () => void, fail: (failure: Failure) => void): void {
    const { held, side } = this;
    const done = () => {
      this.#ready = true;
      ready();
    };
    if (held === undefined) {
      done();
      return;
    }
    const { socket } = held;
    if (socket.destroyed) {
      fail({ what: 'the socket was already destroyed', code: 'ERR_STREAM_DESTROYED', side, cause: socket.errored ?? undefined });
      return;
    }
    const wasConnecting = socket.connecting;
    // Failures are in the result alone: without a listener, Node would throw them.
    held.on('error', () => {});
    held.on('close', () => fail(this.#closed(wasConnecting && !this.#ready)));
    const flush = () => {
      if (held.isWriting) held.flush(done);
      else done();
    };
    if (wasConnecting) held.on('connect', flush);
    else flush();
  }

  #closed(whileConnecting: boolean): Failure {
    const { side, held } = this;
    const cause = held?.socket.errored ?? null;
    const what = whileConnecting ? 'the socket was destroyed while connecting' : 'the socket was destroyed';
    return (this.#ready ? undefined : reportedByNode(side, cause)) ?? { what, code: 'ABORT_ERR', side, cause };
  }

  /** The core's own duplicate; or why there is none. */
  open(): NativeEnd | Failure {
    if (this.#descriptor !== undefined) return this.#descriptor;
    const fd = this.held === undefined ? undefined : descriptorOf(this.held.socket);
    const opened = openEnd(fd ?? -1);
    if (opened.end !== undefined) return opened.end;
    const { found, errno, syscall } = opened.refusal;
    if (errno !== undefined && syscall !== undefined) return systemFailure(errno, syscall, this.side);
    return { what: `expected a connected stream socket, found ${found}`, code: 'ERR_INVALID_ARG_VALUE', side: this.side };
  }

  /** Lets go of what no transfer took. */
  release(): void {
    this.#descriptor?.release();
  }
}

/** What Node found out of its own accord before the core took over: a failed connect or flush. */
function reportedByNode(side: Side, cause: Error | null): Failure | undefined {
  // A connect that tried several addresses fails with all their errors.
  const first = cause instanceof AggregateError ? (cause.errors[0] as unknown) : cause;
  const { code, errno, syscall } = (first ?? {}) as NodeJS.ErrnoException;
  if (code === undefined || errno === undefined || syscall === undefined) return undefined;
  return { ...systemFailure(errno, syscall, side, cause), what: `${syscall} failed: ${code}`, code };
}
