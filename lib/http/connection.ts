// The connection below a response. Before its turn, a pipelined response has none, and Node up to version 22 reports its
// loss to the request alone.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import { alreadyDestroyed, type Failure } from '../contract/errors.js';
import type { Response } from './framing.js';

/** The connection that a response has, or will have when its turn comes; `undefined` if its request does not name it. */
export function connectionOf({ socket, req }: ServerResponse): Socket | undefined {
  return socket ?? (req as IncomingMessage | undefined)?.socket;
}

/** Whether nothing can be sent any more, because the response or the connection below it was closed. */
export function isClosed(response: Response): boolean {
  if (response instanceof Http2ServerResponse) return response.stream.destroyed || response.stream.closed;
  return response.destroyed || (response.socket === null && connectionOf(response)?.destroyed === true);
}

/** The failure of a transfer into a response that {@link isClosed}. */
export function closedFailure(response: Response): Failure {
  const { errored } = response instanceof Http2ServerResponse ? response.stream : response;
  return alreadyDestroyed('destination', 'stream', errored ?? null);
}

/** What to call when a connection closes. One listener serves them all: Node warns of more than ten. */
const watchers = new WeakMap<Socket, Set<() => void>>();

/**
 * Calls `lost` when the connection closes before it is the turn of this response, or when the response is destroyed before.
 * From then on the response itself emits 'close'. Returns a function that cancels this.
 */
export function watchConnection(response: Response, lost: () => void): () => void {
  if (response instanceof Http2ServerResponse || response.socket !== null) return () => {};
  const connection = connectionOf(response);
  if (connection === undefined) return () => {};
  const closed = () => {
    if (response.socket === null) lost();
  };
  const calls = watchers.get(connection) ?? startWatching(connection);
  calls.add(closed);
  // Up to version 22, a queued response that is destroyed only listens for its socket, in order to destroy that.
  const destroyed = (name: string) => {
    if (name === 'socket' && response.destroyed) lost();
  };
  response.on('newListener', destroyed);
  return () => {
    calls.delete(closed);
    response.off('newListener', destroyed);
  };
}

function startWatching(connection: Socket): Set<() => void> {
  const calls = new Set<() => void>();
  watchers.set(connection, calls);
  connection.once('close', () => {
    for (const call of [...calls]) call();
  });
  return calls;
}
