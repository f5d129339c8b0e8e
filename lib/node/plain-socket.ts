import { Socket } from 'node:net';
import { types } from 'node:util';
import type { Side } from '../contract/traffic.js';

/** What Node keeps behind a socket; undocumented, and the same from Node 20 to 26. */
interface Handle {
  fd?: number;
  reading?: boolean;
  writeQueueSize?: number;
  _externalStream?: unknown;
  readStop?(): number;
}

interface Internals {
  _handle?: Handle | null;
  _readableState?: { reading: boolean; readable?: boolean };
  _writableState?: { writable?: boolean };
  _onTimeout?(): void;
  _unrefTimer?(): void;
}

/** A socket with the parts of it that Node does not document. */
export function internals(socket: Socket): Socket & Internals {
  return socket;
}

/** What Node has behind a socket: `TCP`, `Pipe` (also a Unix socket) or `TTY`; absent once it is closed. */
export function handleKind(socket: Socket): string | undefined {
  return internals(socket)._handle?.constructor.name;
}

/** What decides which bytes a socket gives, and what becomes of those it is given. */
const READS = ['read', 'push', '_read'] as const;
const WRITES = ['write', 'end', '_write', '_writev', '_final'] as const;

/**
 * Whether this is a socket of Node's own whose bytes, on this side of a transfer, can be moved by descriptor: not TLS, no
 * look-alike.
 */
export function isPlainSocket(value: unknown, side: Side): value is Socket {
  if (!(value instanceof Socket) || ('encrypted' in value && value.encrypted === true)) return false;
  // What merely stands for a socket, a Proxy or an object made from one, has the descriptor of another.
  if (types.isProxy(value) || !Object.hasOwn(value, '_readableState')) return false;
  if (side !== 'destination' && overrides(value, READS)) return false;
  if (side !== 'source' && overrides(value, WRITES)) return false;
  const { _handle: handle } = internals(value);
  if (handle == null) return true;
  const kind = handle.constructor.name;
  // Nobody but Node can make the last of these: the number in a handle of somebody else's may be anything's.
  return (kind === 'TCP' || kind === 'Pipe' || kind === 'TTY') && types.isExternal(handle._externalStream);
}

/** Whether the class of a socket has ways of its own to read or write, which bytes moved by descriptor would bypass. */
function overrides(socket: Socket, methods: readonly (keyof Socket)[]): boolean {
  const ofClass = Object.getPrototypeOf(socket) as Socket;
  return ofClass !== Socket.prototype && methods.some((name) => ofClass[name] !== Socket.prototype[name]);
}

/** Whether a socket was made for one direction only, as the pipes of a child process are, and this is the other one. */
export function lacks(socket: Socket, direction: 'readable' | 'writable'): boolean {
  const { _readableState: reads, _writableState: writes } = internals(socket);
  return (direction === 'readable' ? reads?.readable : writes?.writable) === false;
}

/** The descriptor of an open socket. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = internals(socket)._handle?.fd;
  return fd !== undefined && fd >= 0 ? fd : undefined;
}
