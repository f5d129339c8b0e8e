// Counts the events of a socket, so that a test can assert that each came exactly once, or never.
import type { Socket } from 'node:net';

export interface Seen {
  end: number;
  close: number;
  error: number;
  /** Event names in order of arrival. */
  order: string[];
}

/** Counts `end`, `close` and `error`. `data` is left out, because a `data` listener would make the socket flow. */
export function watch(socket: Socket): Seen {
  const seen: Seen = { end: 0, close: 0, error: 0, order: [] };
  for (const event of ['end', 'close', 'error'] as const) {
    socket.on(event, () => {
      seen[event] += 1;
      seen.order.push(event);
    });
  }
  return seen;
}
