import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Duplex, Readable, Writable } from 'node:stream';
import {
  alreadyDestroyed,
  badDescriptor,
  type Failure,
  invalidType,
  invalidValue,
  outOfRange,
  systemFailure,
  unavailable,
} from '../contract/errors.js';
import { inspectFile, isOneFile } from './file-status.js';
import { isReadByTransfer } from '../node/held-reads.js';
import { isWrittenByTransfer } from '../node/held-writes.js';
import { binding, isSame, type NativeEnd, openEnd } from '../core/core.js';
import { descriptorOf, handleKind, isPlainSocket, lacks } from '../node/plain-socket.js';
import { isReadable, isSessionSocket, isWritable, type WritableLike } from './stream-kinds.js';
import type { Side } from '../contract/traffic.js';

/** One end of a transfer, checked. */
export type Endpoint = NativeEndpoint | StreamEndpoint | FileEndpoint;

/** What the core serves, or would if it could be opened. */
export type NativeEndpoint = DescriptorEndpoint | SocketEndpoint | UnavailableEndpoint;

/** An open descriptor of the caller's, duplicated when the transfer was asked for. */
export interface DescriptorEndpoint {
  kind: 'descriptor';
  side: Side;
  end: NativeEnd;
}

/** An open descriptor of which no duplicate can be had at this moment: a failure, not a mistake of the caller's. */
export interface UnavailableEndpoint {
  kind: 'unavailable';
  side: Side;
  failure: Failure;
}

/** A socket of Node's; its descriptor is duplicated when it is connected and flushed. */
export interface SocketEndpoint {
  kind: 'socket';
  side: Side;
  socket: Socket;
}

/** A stream of Node's without a descriptor that could be used. */
export interface StreamEndpoint {
  kind: 'stream';
  side: Side;
  stream: (Readable | Writable | WritableLike) & { destroyed?: boolean; errored?: Error | null };
}

/** A regular file, where there is no core that could duplicate its descriptor. */
export interface FileEndpoint {
  kind: 'file';
  side: Side;
  fd: number;
  appends: boolean;
  /** Kept from being collected, which would close the descriptor. */
  owner: unknown;
}

export function isForCore(end: Endpoint): end is NativeEndpoint {
  return end.kind === 'descriptor' || end.kind === 'socket' || end.kind === 'unavailable';
}

/** Whether two ends are for the core; otherwise both are streams, or are made to be. */
export function areNative(
  ends: readonly [Endpoint, Endpoint],
): ends is readonly [NativeEndpoint, NativeEndpoint] {
  return ends.every(isForCore);
}

/**
 * Finds out what was passed in, as the argument of this name. Throws a caller's mistake, and has then taken nothing over.
 */
export function endpoint(side: Side, value: unknown, name: string = side): Endpoint {
  const isRelay = side === 'a' || side === 'b';
  if (isSessionSocket(value)) {
    throw invalidValue(side, 'must be one stream of an HTTP/2 session, not the socket that they all share');
  }
  requireDirection(side, value);
  const fd = isRelay ? value : descriptorIn(value);
  if (typeof fd === 'number') {
    if (mayBeStdio(value)) checkStream(side, value, 'stream');
    return numbered(side, fd, value, name);
  }
  if (isPlainSocket(value, side) && !(isRelay && handleKind(value) === 'TTY' && isStdio(value))) {
    checkStream(side, value, 'socket');
    checkSocket(side, value);
    return binding === undefined
      ? { kind: 'stream', side, stream: value }
      : { kind: 'socket', side, socket: value };
  }
  const reads = side !== 'destination';
  const writes = side !== 'source';
  if (
    isWebStream(value) ||
    isStdio(value, isRelay) ||
    (reads && !isReadable(value)) ||
    (writes && !isWritable(value))
  ) {
    throw invalidType(side, expected(side, value), value);
  }
  const stream = value as StreamEndpoint['stream'];
  checkStream(side, stream, 'stream');
  return { kind: 'stream', side, stream };
}

function expected(side: Side, value: unknown): string {
  const what = {
    source: 'a readable stream',
    destination: 'a writable stream',
    a: 'a duplex stream',
    b: 'a duplex stream',
  };
  const handle = side === 'a' || side === 'b' ? '' : ', a FileHandle';
  const advice = isWebStream(value) ? '; wrap a web stream by Readable.fromWeb() or its like' : '';
  return `${what[side]} of Node's, as a net.Socket is${handle} or the number of an open descriptor${advice}`;
}

/** Whether it may be one of the process's own, which Node makes when they are first asked for. */
function mayBeStdio(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || isFileHandle(value)) return false;
  return !(value instanceof Socket) || 'fd' in value;
}

function isFileHandle(value: object): value is { fd: number } {
  return value.constructor?.name === 'FileHandle';
}

/** What is behind the process's own streams may be open both ways. */
function requireDirection(side: Side, value: unknown): void {
  if (!mayBeStdio(value) || !('fd' in value)) return;
  if (side === 'source' && value === process.stdout) {
    throw invalidValue(side, 'must be readable, which process.stdout is not');
  }
  if (side === 'destination' && value === process.stdin) {
    throw invalidValue(side, 'must be writable, which process.stdin is not');
  }
}

/** Whether `endDestination` is obeyed: what the process itself writes to stays open. */
export function canBeEnded(destination: unknown): boolean {
  return !mayBeStdio(destination) || (destination !== process.stdout && destination !== process.stderr);
}

function isStdio(value: unknown, matters = true): boolean {
  return matters && (value === process.stdin || value === process.stdout);
}

/** What holds for every stream. */
function checkStream(side: Side, value: object, what: 'socket' | 'stream'): void {
  if (
    (side !== 'destination' && isReadByTransfer(value)) ||
    (side !== 'source' && isWrittenByTransfer(value))
  ) {
    throw invalidValue(side, `must be a ${what} that no other transfer is using`);
  }
  const { readableEncoding, readableObjectMode, writableObjectMode } = value as Duplex;
  const isOfObjects =
    (side !== 'destination' && readableObjectMode === true) ||
    (side !== 'source' && writableObjectMode === true);
  if (isOfObjects) throw invalidValue(side, 'must be a stream of bytes, not one of objects');
  if (side !== 'destination' && readableEncoding != null) {
    throw invalidValue(
      side,
      `must be a ${what} without setEncoding(): bytes decoded to ${readableEncoding} are lost`,
    );
  }
}

function checkSocket(side: Side, socket: Socket): void {
  for (const direction of ['readable', 'writable'] as const) {
    const unused = direction === 'readable' ? 'destination' : 'source';
    if (side !== unused && lacks(socket, direction)) throw invalidValue(side, `must be ${direction}`);
  }
  // Not every platform has descriptors for its sockets.
  const isOpen = binding === undefined ? handleKind(socket) : descriptorOf(socket);
  if (!socket.destroyed && !socket.connecting && isOpen === undefined) {
    throw invalidValue(side, 'must be a socket that is connected or connecting');
  }
  if (binding === undefined) return;
  // Node's Pipe and TTY handles stand for several kinds, which only the system can tell apart.
  const handle = handleKind(socket);
  if (handle !== undefined && handle !== 'TCP' && !socket.connecting) {
    // Where that fails for want of descriptors, opening it for the transfer tells.
    discard(openDescriptor(side, descriptorOf(socket) ?? -1));
  }
}

function numbered(side: Side, fd: number, owner: unknown, name: string): Endpoint {
  if (binding !== undefined) return openDescriptor(side, fd, name);
  requireNumber(name, fd);
  const { isFile, appends, reads, writes } = inspectFile(name, fd);
  if (!isFile || side === 'a' || side === 'b') {
    throw unavailable(
      `descriptor ${fd} as ${name} is for the native core alone, unless it is a regular file`,
    );
  }
  if (side === 'source' ? !reads : !writes) {
    throw invalidValue(name, `must be ${side === 'source' ? 'readable' : 'writable'}`);
  }
  return { kind: 'file', side, fd, appends, owner };
}

/** The descriptor in a FileHandle, or in what stands for a file behind `process.stdin` and `process.stdout`. */
function descriptorIn(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('fd' in value)) return value;
  if (isFileHandle(value)) return value.fd;
  // Of streams, only one that Node has not begun to use: it may be ahead of the descriptor's position.
  if (value === process.stdin && !isPlainSocket(value, 'source') && process.stdin.readableFlowing === null)
    return 0;
  if (value === process.stdout && !isPlainSocket(value, 'destination') && process.stdout.writableLength === 0)
    return 1;
  return value;
}

/** Also what has one of each, as a `TransformStream` does. */
function isWebStream(value: unknown): boolean {
  if (value instanceof ReadableStream || value instanceof WritableStream) return true;
  return (
    typeof value === 'object' &&
    value !== null &&
    'readable' in value &&
    value.readable instanceof ReadableStream
  );
}

function requireNumber(name: string, fd: number): void {
  if (!Number.isInteger(fd) || fd < -1 || fd > 2 ** 31 - 1) {
    throw outOfRange(name, 'the number of an open descriptor', fd);
  }
}

function openDescriptor(
  side: Side,
  fd: number,
  name: string = side,
): DescriptorEndpoint | UnavailableEndpoint {
  requireNumber(name, fd);
  const opened = openEnd(fd, side);
  if (opened.end !== undefined) return { kind: 'descriptor', side, end: opened.end };
  const { found, errno = 0, syscall = '' } = opened.refusal;
  if (errno === -constants.errno.EBADF) throw badDescriptor(name, fd, errno, syscall);
  if (found === undefined) return { kind: 'unavailable', side, failure: systemFailure(errno, syscall, side) };
  const wanted = {
    source: 'readable',
    destination: 'writable',
    a: 'a connected stream socket',
    b: 'a connected stream socket',
  };
  throw invalidValue(name, `must be ${wanted[side]}. Descriptor ${fd} is ${found}`);
}

/** Throws where both ends are one socket. */
export function requireDistinct(one: Endpoint, other: Endpoint): void {
  if (one.kind === 'file' && other.kind === 'file' && isOneFile(one.fd, other.fd)) {
    throw unavailable('a copy within one file is for the native core alone');
  }
  if (!isOneSocket(one, other)) return;
  discard(one, other);
  throw invalidValue(other.side, `must not be the same socket as ${one.side}`);
}

function isOneSocket(one: Endpoint, other: Endpoint): boolean {
  if (one.kind === 'stream' && other.kind === 'stream') return one.stream === other.stream;
  if (one.kind === 'socket' && other.kind === 'socket') {
    const fd = descriptorOf(one.socket);
    return one.socket === other.socket || (fd !== undefined && fd === descriptorOf(other.socket));
  }
  if (one.kind === 'descriptor' && other.kind === 'descriptor') return isSame(one.end, other.end);
  const [socket, descriptor] = one.kind === 'socket' ? [one, other] : [other, one];
  if (socket.kind !== 'socket' || descriptor.kind !== 'descriptor') return false;
  const opened = openEnd(descriptorOf(socket.socket) ?? -1, socket.side);
  if (opened.end === undefined) return false;
  const same = isSame(opened.end, descriptor.end);
  opened.end.release();
  return same;
}

/** Lets go of duplicates that no transfer took. */
export function discard(...endpoints: Endpoint[]): void {
  for (const each of endpoints) if (each.kind === 'descriptor') each.end.release();
}

/** An end that has not failed before the start. */
export type UsableEndpoint = Exclude<Endpoint, { kind: 'unavailable' }>;

/** Whether an end can be used: it was not destroyed before the call, and a descriptor could be opened for it. */
export function isUsable(endpoint: Endpoint): endpoint is UsableEndpoint {
  if (endpoint.kind === 'unavailable') return false;
  return streamIn(endpoint)?.destroyed !== true;
}

/** Why an end cannot be used. */
export function failureOf(endpoint: Endpoint): Failure {
  if (endpoint.kind === 'unavailable') return endpoint.failure;
  return alreadyDestroyed(endpoint.side, 'stream', streamIn(endpoint)?.errored ?? null);
}

function streamIn(endpoint: Endpoint): StreamEndpoint['stream'] | undefined {
  if (endpoint.kind === 'socket') return endpoint.socket;
  return endpoint.kind === 'stream' ? endpoint.stream : undefined;
}
