import type { Socket } from 'node:net';
import { constants } from 'node:os';
import {
  badDescriptor,
  type Failure,
  invalidType,
  invalidValue,
  outOfRange,
  systemFailure,
} from './errors.js';
import { isReadByTransfer } from './held-reads.js';
import { isWrittenByTransfer } from './held-writes.js';
import { isSame, type NativeEnd, openEnd, required } from './native.js';
import { descriptorOf, handleKind, isPlainSocket, lacks } from './plain-socket.js';
import type { Side } from './types.js';

/** One end of a transfer, checked. */
export type Endpoint = DescriptorEndpoint | SocketEndpoint | UnavailableEndpoint;

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

const EXPECTED = 'a net.Socket (TCP or Unix) or the number of an open descriptor';

/** Finds out what was passed in. Throws a caller's mistake, and has then taken nothing over. */
export function endpoint(side: Side, value: unknown): Endpoint {
  required();
  const fd = side === 'a' || side === 'b' ? value : descriptorIn(value);
  if (typeof fd === 'number') return openDescriptor(side, fd);
  const handle = isPlainSocket(value) ? handleKind(value) : undefined;
  if (!isPlainSocket(value) || (handle === 'TTY' && fd === value && (side === 'a' || side === 'b'))) {
    const advice = isWebStream(value) ? '; wrap a web stream by Readable.fromWeb()' : '';
    throw invalidType(
      side,
      `${EXPECTED}${side === 'a' || side === 'b' ? '' : ', or a FileHandle'}${advice}`,
      value,
    );
  }
  if (
    (side !== 'destination' && isReadByTransfer(value)) ||
    (side !== 'source' && isWrittenByTransfer(value))
  ) {
    throw invalidValue(side, 'must be a socket that no other transfer is using');
  }
  for (const direction of ['readable', 'writable'] as const) {
    const unused = direction === 'readable' ? 'destination' : 'source';
    if (side !== unused && lacks(value, direction)) throw invalidValue(side, `must be ${direction}`);
  }
  if (side !== 'destination' && value.readableEncoding !== null) {
    throw invalidValue(
      side,
      `must be a socket without setEncoding(): bytes decoded to ${value.readableEncoding} are lost`,
    );
  }
  if (!value.destroyed && !value.connecting && descriptorOf(value) === undefined) {
    throw invalidValue(side, 'must be a socket that is connected or connecting');
  }
  // Node's Pipe and TTY handles stand for several kinds, which only the system can tell apart.
  if (handle !== undefined && handle !== 'TCP' && !value.connecting) {
    // Where that fails for want of descriptors, opening it for the transfer tells.
    discard(openDescriptor(side, descriptorOf(value) ?? -1));
  }
  return { kind: 'socket', side, socket: value };
}

/** The descriptor in a FileHandle, or in what stands for a file behind `process.stdin` and `process.stdout`. */
function descriptorIn(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('fd' in value)) return value;
  if (value.constructor?.name === 'FileHandle') return value.fd;
  // Of streams, only one that Node has not begun to use: it may be ahead of the descriptor's position.
  if (value === process.stdin && !isPlainSocket(value) && process.stdin.readableFlowing === null) return 0;
  if (value === process.stdout && !isPlainSocket(value) && process.stdout.writableLength === 0) return 1;
  return value;
}

function isWebStream(value: unknown): boolean {
  return value instanceof ReadableStream || value instanceof WritableStream;
}

function openDescriptor(side: Side, fd: number): DescriptorEndpoint | UnavailableEndpoint {
  if (!Number.isInteger(fd) || fd < -1 || fd > 2 ** 31 - 1) {
    throw outOfRange(side, 'the number of an open descriptor', fd);
  }
  const opened = openEnd(fd, side);
  if (opened.end !== undefined) return { kind: 'descriptor', side, end: opened.end };
  const { found, errno = 0, syscall = '' } = opened.refusal;
  if (errno === -constants.errno.EBADF) throw badDescriptor(side, fd, errno, syscall);
  if (found === undefined) return { kind: 'unavailable', side, failure: systemFailure(errno, syscall, side) };
  const wanted = {
    source: 'readable',
    destination: 'writable',
    a: 'a connected stream socket',
    b: 'a connected stream socket',
  };
  throw invalidValue(side, `must be ${wanted[side]}. Descriptor ${fd} is ${found}`);
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
