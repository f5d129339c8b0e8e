import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Address } from './address.js';
import { connectionOf, unacknowledged } from './send-queue.js';
import { reset } from './sockets.js';
import { codeOf } from './text.js';

/** How long a peer is waited for that has all it can get. */
export const LINGER_MS = 1000;

/** Waits until the peer's machine has acknowledged every byte; fails if the connection breaks before. */
export async function delivered(
  socket: Socket,
  { signal, idleTimeout = Infinity }: { signal: AbortSignal; idleTimeout?: number | undefined },
): Promise<void> {
  const connection = connectionOf(socket);
  let last = -1;
  let since = performance.now();
  for (let pause = 5; connection !== undefined; pause = Math.min(2 * pause, 100)) {
    const left = await unacknowledged(connection);
    throwIfBroken(socket);
    if (left === 0) {
      return;
    }
    const now = performance.now();
    if (left !== last) {
      [last, since] = [left, now];
    } else if (now - since > idleTimeout) {
      throw Object.assign(new Error('no byte moved in time'), { code: 'ERR_IDLE_TIMEOUT' });
    }
    await delay(pause, undefined, { signal });
  }
}

/** Ends a socket after its last byte, and gives its peer some time to end it as well or to break it. */
export async function end(socket: Socket): Promise<void> {
  const closed = socket.closed || once(socket, 'close');
  socket.end();
  await Promise.race([closed, delay(LINGER_MS)]);
  throwIfBroken(socket);
  socket.destroy();
}

/**
 * Breaks a socket after what it still delivers within `patience` ms. Gives the number of bytes that it did not, exact
 * where nothing was on its way any more.
 */
export async function breakOff(socket: Socket, address: Address, patience: number): Promise<number> {
  const connection = socket.destroyed ? undefined : connectionOf(socket);
  if (connection !== undefined) {
    await delivered(socket, { signal: AbortSignal.timeout(patience) }).catch(() => {});
  }
  const lost = connection === undefined ? 0 : await unacknowledged(connection);
  reset(socket, address);
  return lost;
}

function throwIfBroken({ errored }: Socket): void {
  if (errored !== null) {
    throw Object.assign(
      new Error(`the destination broke the connection: ${errored.message}`, { cause: errored }),
      {
        code: codeOf(errored),
        side: 'destination',
      },
    );
  }
}
