import type { Socket } from 'node:net';

export interface Seen {
  end: number;
  close: number;
  error: number;
  /** In the order of their coming. */
  order: string[];
}

/** Counts what a socket tells its owner. `data` is left out: listening to it would make the socket flow. */
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
