import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { internals } from '../plain-socket.js';

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
  const handle = handleBelow(stream);
  if (handle === undefined) return () => {};
  const close = handle.close.bind(handle);
  handle.close = (done) => {
    // Nothing can be reset that is not connected yet, or is being shut down: libuv refuses, and Node then takes the
    // handle for closed, which leaves its descriptor open for good.
    const isEnding = stream.writableEnded && !stream.writableFinished;
    const isOver = stream.readableEnded && stream.writableFinished;
    const isReset = !isOver && !isEnding && !(stream as Socket).connecting && handle.reset(done) === 0;
    if (!isReset) close(done);
  };
  return () => void Reflect.deleteProperty(handle, 'close');
}

function handleBelow(stream: Duplex): TcpHandle | undefined {
  if (!(stream instanceof Socket)) return undefined;
  const { _handle: own } = internals(stream);
  const { _parent: parent } = (own ?? {}) as { _parent?: Partial<TcpHandle> };
  // A Unix socket has no reset.
  return [own as Partial<TcpHandle> | null | undefined, parent].find(isTcp);
}

function isTcp(handle: Partial<TcpHandle> | null | undefined): handle is TcpHandle {
  return typeof handle?.reset === 'function' && typeof handle.close === 'function';
}
