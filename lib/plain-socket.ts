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
  _onTimeout?(): void;
  _unrefTimer?(): void;
}

/** A socket with the parts of it that Node does not document. */
export function internals(socket: Socket): Socket & Internals {
  return socket;
}

/** Whether this is a socket of Node's own whose bytes can be moved by descriptor: not TLS, no look-alike. */
export function isPlainSocket(value: unknown): value is Socket {
  if (!(value instanceof Socket) || ('encrypted' in value && value.encrypted === true)) return false;
  const handle = internals(value)._handle;
  return handle == null || handle.constructor.name === 'TCP' || handle.constructor.name === 'Pipe';
}

/** Whether an open socket is one of those behind which Node may also have a pipe or a FIFO. */
export function isPipeHandle(socket: Socket): boolean {
  return internals(socket)._handle?.constructor.name === 'Pipe' && descriptorOf(socket) !== undefined;
}

/** The descriptor of an open socket. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = internals(socket)._handle?.fd;
  return fd !== undefined && fd >= 0 ? fd : undefined;
}
