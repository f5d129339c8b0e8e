import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { internals } from './plain-socket.js';

/** Resets each connection that is still relayed. */
const resets = new Set<() => boolean>();

/** When a process or a worker exits, its descriptors would be closed cleanly: there is no other moment left. */
const resetAll = (): void => {
  for (const reset of resets) reset();
};

function watchExit(reset: () => boolean): void {
  if (resets.size === 0) process.on('exit', resetAll);
  resets.add(reset);
}

function forgetExit(reset: () => boolean): void {
  if (resets.delete(reset) && resets.size === 0) process.off('exit', resetAll);
}

/** What Node keeps behind a TCP connection. */
interface TcpHandle {
  close(done?: () => void): void;
  reset(done?: () => void): number;
}

/**
 * Makes the connection that carries a stream close by a reset, whoever destroys it, until what is returned is called:
 * its peer is to see no end that looks clean. TLS sends its close_notify only when it is ended.
 *
 * Closing is left to Node, which does it in an order that TLS survives; what it calls at the end is exchanged.
 */
export function closeByReset(stream: Duplex): () => void {
  const socket = socketOf(stream);
  if (socket === undefined) return () => {};
  let undo = () => {};
  const exchange = () => (undo = exchangeClose(socket));
  // Nothing can be reset that is not connected yet, and a connection to a name has a new handle for each address.
  if (socket.connecting) socket.once('connect', exchange);
  else exchange();
  return () => {
    socket.off('connect', exchange);
    undo();
  };
}

/** The socket that a stream is; or wraps, as that of an upgrade request does whose body is still to come (Node 26 on). */
function socketOf(stream: object): Socket | undefined {
  if (stream instanceof Socket) return stream;
  if (stream.constructor?.name !== 'UpgradeStream') return undefined;
  // The key it is under is none to rely on.
  return Reflect.ownKeys(stream)
    .map((key): unknown => Reflect.get(stream, key))
    .find((value) => value instanceof Socket);
}

function exchangeClose(socket: Socket): () => void {
  const handle = handleBelow(socket);
  if (handle === undefined) return () => {};
  const close = handle.close.bind(handle);
  const reset = (done?: () => void): boolean => {
    // Nothing can be reset that is being shut down: libuv refuses, and Node then takes the handle for closed, which
    // leaves its descriptor open for good.
    const isEnding = socket.writableEnded && !socket.writableFinished;
    const isOver = socket.readableEnded && socket.writableFinished;
    return !isOver && !isEnding && handle.reset(done) === 0;
  };
  watchExit(reset);
  handle.close = (done) => {
    forgetExit(reset);
    if (!reset(done)) close(done);
  };
  return () => {
    forgetExit(reset);
    Reflect.deleteProperty(handle, 'close');
  };
}

/** Whether there is a TCP connection below that can be reset, dropping what its peer has not taken. */
export function closesByReset(stream: object): boolean {
  const socket = socketOf(stream);
  return socket !== undefined && handleBelow(socket) !== undefined;
}

function handleBelow(socket: Socket): TcpHandle | undefined {
  const { _handle: own } = internals(socket);
  const { _parent: parent } = (own ?? {}) as { _parent?: Partial<TcpHandle> };
  // A Unix socket has no reset.
  return [own as Partial<TcpHandle> | null | undefined, parent].find(isTcp);
}

function isTcp(handle: Partial<TcpHandle> | null | undefined): handle is TcpHandle {
  return typeof handle?.reset === 'function' && typeof handle.close === 'function';
}
