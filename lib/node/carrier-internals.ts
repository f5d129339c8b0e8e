// Names what Node does not document about the connection below a stream: how it is closed by a reset, how the input of a
// TLS session has ended, and what of a response it carries. internals.ts explains the rules for such files.
import type { ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { type Handle, handleOf } from './internals.js';

/** The handle of a TCP connection. */
export interface TcpHandle {
  close(closed?: () => void): void;
  /** Closes with a reset. Returns 0, or a negative error number and has then done nothing. */
  reset(closed?: () => void): number;
}

/** The handle of a TLS session, with the one that carries it. */
interface TlsHandle extends Handle {
  onread?: (this: unknown, ...args: unknown[]) => unknown;
}

/**
 * Calls `cut` where the input of a TLS session ends because its connection has ended. libuv has stopped reading then. After
 * a close_notify it still reads, and refuses to start twice. Returns the way back. Without it, both look the same.
 */
export function interceptTlsReads(socket: Socket, cut: () => void): () => void {
  const handle = handleOf(socket) as TlsHandle | null | undefined;
  const below = handle?._parent as Handle | null | undefined;
  const onread = handle?.onread;
  const kind = below?.constructor.name;
  if (handle == null || below == null || onread === undefined || (kind !== 'TCP' && kind !== 'Pipe')) {
    return () => {};
  }
  // The argument is the buffer of the bytes. A session that Node does not read from can only end by close_notify.
  handle.onread = function (...args) {
    if (args[0] === undefined && handle.reading) {
      const status = below.readStart();
      if (status === 0) below.readStop();
      if (status === 0 || getSystemErrorName(status) !== 'EALREADY') cut();
    }
    return onread.apply(this, args);
  };
  return () => void (handle.onread = onread);
}

// Closing by reset

/**
 * The socket that a stream is, or that it wraps: from Node 26 on, an upgrade request whose body is still to come has a
 * stream of a class that is not public, and keeps the socket under a key that Node does not guarantee. Without it,
 * that connection would be closed by FIN.
 */
function socketOf(stream: object): Socket | undefined {
  if (stream instanceof Socket) return stream;
  if (stream.constructor?.name !== 'UpgradeStream') return undefined;
  return Reflect.ownKeys(stream)
    .map((key): unknown => Reflect.get(stream, key))
    .find((value) => value instanceof Socket);
}

/** The TCP handle that carries a socket. Below TLS it is the parent of the socket's own handle. */
function tcpHandleOf(socket: Socket): TcpHandle | undefined {
  const own = handleOf(socket);
  // A Unix socket has no reset.
  return [own, own?._parent].find(isTcpHandle);
}

function isTcpHandle(handle: unknown): handle is TcpHandle {
  const { reset, close } = (handle ?? {}) as Partial<TcpHandle>;
  return typeof reset === 'function' && typeof close === 'function';
}

/** The socket that carries a stream, and the TCP connection of the socket once it is connected. */
export interface Carrier {
  readonly socket: Socket;
  /** Without it, a stream that fails would be closed by FIN, and its peer would take what it got for complete. */
  handle(): TcpHandle | undefined;
}

export function carrierOf(stream: object): Carrier | undefined {
  const socket = socketOf(stream);
  return socket === undefined ? undefined : { socket, handle: () => tcpHandleOf(socket) };
}

/**
 * Replaces the method that Node calls to close a handle; returns the way back. Without that, a stream that fails would
 * be closed by FIN.
 */
export function replaceClose(handle: TcpHandle, close: TcpHandle['close']): () => void {
  handle.close = close;
  return () => void Reflect.deleteProperty(handle, 'close');
}

/** Whether a connection still carries an earlier response. Without the field, a pipelined response gets a wrong count. */
export function carriesResponse(socket: Socket): boolean {
  return (socket as { _httpMessage?: object | null })._httpMessage != null;
}

/** Bytes that a response without a socket keeps until its turn. Without the field: none. */
export function queuedBytes(response: ServerResponse): number {
  interface Queue {
    outputData?: { data: string | Uint8Array; encoding?: BufferEncoding | null }[];
  }
  let bytes = 0;
  for (const { data, encoding } of (response as Queue).outputData ?? []) {
    bytes += typeof data === 'string' ? Buffer.byteLength(data, encoding ?? 'utf8') : data.byteLength;
  }
  return bytes;
}

/** Bytes of the `100 Continue` before a response. Without the field, they count as bytes of its body. */
export function informationalBytes(response: ServerResponse): number {
  const { _sent100: isSent = false } = response as { _sent100?: boolean };
  return isSent ? 'HTTP/1.1 100 Continue\r\n\r\n'.length : 0;
}
