// Inspects the arguments of a transfer: what kind of end each one is, and whether the caller made a mistake.
import { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Duplex, Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import {
  badDescriptor,
  badPath,
  type Failure,
  invalidType,
  invalidValue,
  outOfRange,
  systemFailure,
  unavailable,
} from '../contract/errors.js';
import { isWebStream, urlOf } from '../contract/realms.js';
import { inspectFile, isOneConnection, isOneFile } from './file-status.js';
import { isReadByTransfer } from '../node/held-reads.js';
import { isWrittenByTransfer } from '../node/held-writes.js';
import { binding, isSame, type NativeEnd, openEnd, setProbe } from '../core/core.js';
import {
  descriptorOf,
  hasHandle,
  hasOwnMethods,
  isFileHandle,
  isTcp,
  isTerminal,
  lacks,
  stateOf,
} from '../node/internals.js';
import { descriptorBelow, isAccepted, isPlainSocket } from '../node/plain-socket.js';
import { probeInternals } from '../node/probe.js';
import { isReadable, isSessionSocket, isWritable, type WritableLike } from './stream-kinds.js';
import type { Side } from '../contract/traffic.js';
import { OpenConnection } from './connection.js';

// The core may not depend on Node's side, so the probe is handed to it here, above both.
setProbe(probeInternals);

/** One end of a transfer, after inspection. */
export type Endpoint = NativeEndpoint | StreamEndpoint | FileEndpoint | PathEndpoint;

/** An end that the core serves, or would serve if it could be opened. */
export type NativeEndpoint = DescriptorEndpoint | SocketEndpoint | ConnectionEndpoint | UnavailableEndpoint;

/** An open descriptor of the caller, duplicated when the transfer was called. */
export interface DescriptorEndpoint {
  kind: 'descriptor';
  side: Side;
  end: NativeEnd;
}

/** A connection that connect() made and that the core carries. The stream engine uses the socket that can carry it. */
export interface ConnectionEndpoint {
  kind: 'connection';
  side: Side;
  connection: OpenConnection;
}

/** An open descriptor that cannot be duplicated at this moment. That is a failure, not a caller's mistake. */
export interface UnavailableEndpoint {
  kind: 'unavailable';
  side: Side;
  failure: Failure;
}

/** A socket of Node's. Its descriptor is duplicated when it is connected and flushed. */
export interface SocketEndpoint {
  kind: 'socket';
  side: Side;
  socket: Socket;
  /** The connection that the socket carries. */
  connection?: OpenConnection;
}

/** A stream of Node's without a usable descriptor. */
export interface StreamEndpoint {
  kind: 'stream';
  side: Side;
  stream: (Readable | Writable | WritableLike) & { destroyed?: boolean; errored?: Error | null };
  /** The connection that the stream carries. */
  connection?: OpenConnection;
}

/** A regular file in a process without the core, which could duplicate its descriptor. */
export interface FileEndpoint {
  kind: 'file';
  side: Side;
  fd: number;
  appends: boolean;
  /** Referenced here because the descriptor of a FileHandle is closed when the FileHandle is collected. */
  owner: unknown;
}

/** A regular file given by its path. The transfer opens it, and closes it in every case. */
export interface PathEndpoint {
  kind: 'path';
  side: Side;
  path: string;
  /** Whether the core opens it. Otherwise Node does, whose permission model may deny this process some files. */
  isForCore: boolean;
}

export function isForCore(end: Endpoint): end is NativeEndpoint {
  return end.kind !== 'stream' && end.kind !== 'file' && end.kind !== 'path';
}

/** Whether the core serves both ends. Otherwise both are served as streams. */
export function areNative(
  ends: readonly [Endpoint, Endpoint],
): ends is readonly [NativeEndpoint, NativeEndpoint] {
  return ends.every(isForCore);
}

/** Inspects an end of a copy, which may be the path or URL of a file too. */
export function copyEndpoint(side: 'source' | 'destination', value: unknown): Endpoint {
  const url = typeof value === 'string' ? undefined : urlOf(value);
  if (typeof value !== 'string' && url === undefined) {
    return endpoint(side, value, side, ', or the path or URL of a file');
  }
  if (url !== undefined && url.protocol !== 'file:') {
    throw invalidValue(side, `must be a file: URL. Received ${url.href}`);
  }
  const { permission } = process as { permission?: unknown };
  const isForCore = binding() !== undefined && permission === undefined;
  return { kind: 'path', side, path: pathOf(side, url ?? (value as string)), isForCore };
}

function pathOf(side: Side, file: string | URL): string {
  let path;
  try {
    path = typeof file === 'string' ? file : fileURLToPath(file);
  } catch (mistake) {
    throw badPath(side, mistake as Error);
  }
  if (path.includes('\0')) throw invalidValue(side, 'must be a path without null bytes');
  return path;
}

/**
 * Inspects the argument called `name`. Throws a caller's mistake, and has then taken nothing over. `others` names what else
 * the caller accepts.
 */
export function endpoint(side: Side, value: unknown, name: string = side, others = ''): Endpoint {
  const isRelay = side === 'a' || side === 'b';
  if (value instanceof OpenConnection) return connected(side, value);
  if (isSessionSocket(value)) {
    throw invalidValue(side, 'must be one stream of an HTTP/2 session, not the socket that they all share');
  }
  requireDirection(side, value);
  const fd = isRelay ? value : descriptorIn(value);
  if (typeof fd === 'number') {
    if (mayBeStdio(value)) checkStream(side, value, 'stream');
    return numbered(side, fd, value, name);
  }
  if (isPlainSocket(value, side) && !(isRelay && isTerminal(value) && isStdio(value))) {
    checkStream(side, value, 'socket');
    checkSocket(side, value);
    return binding() === undefined
      ? { kind: 'stream', side, stream: value }
      : { kind: 'socket', side, socket: value };
  }
  const reads = side !== 'destination';
  const writes = side !== 'source';
  if (
    isWebStream(value) ||
    (isRelay && isStdio(value)) ||
    (reads && !isReadable(value)) ||
    (writes && !isWritable(value))
  ) {
    throw invalidType(side, expected(side, value, others), value);
  }
  const stream = value as StreamEndpoint['stream'];
  checkStream(side, stream, 'stream');
  return { kind: 'stream', side, stream };
}

function connected(side: Side, connection: OpenConnection): Endpoint {
  const failure = connection.unusable(side);
  if (failure !== undefined) return { kind: 'unavailable', side, failure };
  if (connection.end !== undefined) return { kind: 'connection', side, connection };
  const socket = connection.socket();
  return binding() === undefined
    ? { kind: 'stream', side, stream: socket, connection }
    : { kind: 'socket', side, socket, connection };
}

function expected(side: Side, value: unknown, others: string): string {
  const kind = {
    source: 'a readable stream',
    destination: 'a writable stream',
    a: 'a duplex stream',
    b: 'a duplex stream',
  };
  const handle = side === 'a' || side === 'b' ? '' : ', a FileHandle';
  const advice = isWebStream(value) ? '; wrap a web stream by Readable.fromWeb() or its like' : '';
  return `${kind[side]} of Node's, as a net.Socket is${handle} or the number of an open descriptor${others}${advice}`;
}

/** Whether a value may be process.stdin or process.stdout. Node creates those when they are first accessed. */
function mayBeStdio(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || isFileHandle(value)) return false;
  return !(value instanceof Socket) || 'fd' in value;
}

/** The descriptors behind process.stdin and process.stdout may be open in both directions, so they do not decide. */
function requireDirection(side: Side, value: unknown): void {
  if (!mayBeStdio(value) || !('fd' in value)) return;
  if (side === 'source' && value === process.stdout) {
    throw invalidValue(side, 'must be readable, which process.stdout is not');
  }
  if (side === 'destination' && value === process.stdin) {
    throw invalidValue(side, 'must be writable, which process.stdin is not');
  }
}

/** Whether `endDestination` applies: process.stdout and process.stderr stay open. */
export function canBeEnded(destination: unknown): boolean {
  return !mayBeStdio(destination) || (destination !== process.stdout && destination !== process.stderr);
}

function isStdio(value: unknown): boolean {
  return value === process.stdin || value === process.stdout;
}

/** The checks that every stream has to pass. */
function checkStream(side: Side, value: object, noun: 'socket' | 'stream'): void {
  if (
    (side !== 'destination' && isReadByTransfer(value)) ||
    (side !== 'source' && isWrittenByTransfer(value))
  ) {
    throw invalidValue(side, `must be a ${noun} that no other transfer is using`);
  }
  const { readableEncoding, readableObjectMode, writableObjectMode } = value as Duplex;
  const isObjectMode =
    (side !== 'destination' && readableObjectMode === true) ||
    (side !== 'source' && writableObjectMode === true);
  if (isObjectMode) throw invalidValue(side, 'must be a stream of bytes, not one of objects');
  if (side !== 'destination' && readableEncoding != null) {
    throw invalidValue(
      side,
      `must be a ${noun} without setEncoding(): bytes decoded to ${readableEncoding} are lost`,
    );
  }
}

function checkSocket(side: Side, socket: Socket): void {
  for (const direction of ['readable', 'writable'] as const) {
    const unused = direction === 'readable' ? 'destination' : 'source';
    if (side !== unused && lacks(socket, direction)) throw invalidValue(side, `must be ${direction}`);
  }
  // Not every platform has descriptors for its sockets.
  const isOpen = binding() === undefined ? hasHandle(socket) : descriptorOf(socket) !== undefined;
  if (!socket.destroyed && !socket.connecting && !isOpen) {
    throw invalidValue(side, 'must be a socket that is connected or connecting');
  }
  if (binding() === undefined) return;
  // Node has the same handles for several kinds of pipes and terminals, and only the system can distinguish them.
  if (hasHandle(socket) && !isTcp(socket) && !socket.connecting) {
    // If no descriptor is left for this check, opening the socket for the transfer reports the failure.
    discard(openDescriptor(side, descriptorOf(socket) ?? -1));
  }
}

function numbered(side: Side, fd: number, owner: unknown, name: string): Endpoint {
  if (binding() !== undefined) return openDescriptor(side, fd, name);
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

/** The descriptor in a FileHandle, or the one of process.stdin or process.stdout where that is no socket. */
function descriptorIn(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('fd' in value)) return value;
  if (isFileHandle(value)) return value.fd;
  // A stream that Node has begun to use may be ahead of the position of its descriptor.
  // A method that was replaced on such a stream sees the bytes, as on a socket.
  const isOfNode = (side: 'source' | 'destination') =>
    !isPlainSocket(value, side) && !hasOwnMethods(value, side === 'source' ? 'reads' : 'writes');
  if (value === process.stdin && isOfNode('source') && process.stdin.readableFlowing === null) return 0;
  if (value === process.stdout && isOfNode('destination') && process.stdout.writableLength === 0) return 1;
  return value;
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

/** Throws if both ends are the same socket, or the same file without the core. */
export function requireDistinct(one: Endpoint, other: Endpoint): void {
  if (one.kind === 'file' && other.kind === 'file' && isOneFile(one.fd, other.fd)) {
    throw unavailable('a copy within one file is for the native core alone');
  }
  if (!isOneSocket(one, other)) return;
  discard(one, other);
  throw invalidValue(other.side, `must not be the same socket as ${one.side}`);
}

/** Two streams, or two descriptors, may be one connection, as standard input and output are under inetd. */
function isOneSocket(one: Endpoint, other: Endpoint): boolean {
  if (one.kind === 'connection' && other.kind === 'connection') return one.connection === other.connection;
  if (one.kind === 'descriptor' && other.kind === 'descriptor') return isSame(one.end, other.end);
  const [first, second] = [streamIn(one), streamIn(other)];
  if (first !== undefined && second !== undefined) {
    if (first === second || stateOf(first, 'readable') === stateOf(second, 'readable')) return true;
    // This spares a gateway the system calls below.
    if (isAccepted(first) || isAccepted(second)) return false;
  }
  const [fd, otherFd] = [descriptorOfEnd(one), descriptorOfEnd(other)];
  return fd !== undefined && otherFd !== undefined && isOneConnection(fd, otherFd);
}

/** The descriptor of an end that may be a connection. A file is none, and its server may not answer a query of its status. */
function descriptorOfEnd(end: Endpoint): number | undefined {
  if (end.kind === 'descriptor') return end.end.kind === 'file' ? undefined : end.end.fd;
  const stream = streamIn(end);
  return stream === undefined ? undefined : descriptorBelow(stream);
}

/** The stream of an end that is one. */
export function streamIn(
  end: Endpoint,
): (StreamEndpoint['stream'] & { writableEnded?: boolean }) | undefined {
  if (end.kind === 'socket') return end.socket;
  return end.kind === 'stream' ? end.stream : undefined;
}

/** Closes duplicates that no transfer took. */
export function discard(...endpoints: Endpoint[]): void {
  for (const each of endpoints) if (each.kind === 'descriptor') each.end.release();
}
