// Makes connections close by a TCP reset, so that a stream that was cut short does not look complete to its peer.
import type { Duplex } from 'node:stream';
import { type Carrier, carrierOf, replaceClose } from './carrier-internals.js';

/** One function for each connection that is still relayed; it resets the connection. */
const resets = new Set<() => boolean>();

/** When a process or a worker exits, its descriptors are closed by FIN. The 'exit' event is the last chance to reset. */
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

/**
 * Makes the connection that carries a stream close by a reset, whatever destroys it, until the returned function is
 * called. TLS sends its close_notify only when it is ended, so a TLS peer sees no clean end either.
 *
 * Node closes the stream in an order that TLS survives; only the last step, closing the handle, is replaced.
 */
export function closeByReset(stream: Duplex): () => void {
  const carrier = carrierOf(stream);
  if (carrier === undefined) return () => {};
  const { socket } = carrier;
  let undo = () => {};
  const exchange = () => (undo = exchangeClose(carrier));
  // A socket that is not connected yet cannot be reset, and a connection to a host name gets a new handle for each
  // address.
  if (socket.connecting) socket.once('connect', exchange);
  else exchange();
  return () => {
    socket.off('connect', exchange);
    undo();
  };
}

function exchangeClose(carrier: Carrier): () => void {
  const { socket } = carrier;
  const handle = carrier.handle();
  if (handle === undefined) return () => {};
  const close = handle.close.bind(handle);
  const reset = (done?: () => void): boolean => {
    // A socket that is being shut down cannot be reset: libuv refuses, and Node then takes the handle for closed, which
    // would leave its descriptor open for good.
    const isEnding = socket.writableEnded && !socket.writableFinished;
    const isOver = socket.readableEnded && socket.writableFinished;
    return !isOver && !isEnding && handle.reset(done) === 0;
  };
  watchExit(reset);
  const restore = replaceClose(handle, (done) => {
    forgetExit(reset);
    if (!reset(done)) close(done);
  });
  return () => {
    forgetExit(reset);
    restore();
  };
}

/** Whether a stream has a TCP connection below it: a reset drops bytes that its peer has not taken. */
export function closesByReset(stream: object): boolean {
  return carrierOf(stream)?.handle() !== undefined;
}
