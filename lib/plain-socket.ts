import { Socket } from 'node:net';

/** What Node keeps behind a socket; undocumented, and the same from Node 20 to 26. */
interface Handle {
  fd?: number;
  reading?: boolean;
  writeQueueSize?: number;
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

/** Whether this is a socket of Node's own whose bytes can be moved by descriptor: not TLS, no look-alike. */
export function isPlainSocket(value: unknown): value is Socket {
  if (!(value instanceof Socket) || ('encrypted' in value && value.encrypted === true)) return false;
  const kind = handleKind(value);
  return kind === undefined || kind === 'TCP' || kind === 'Pipe' || kind === 'TTY';
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
