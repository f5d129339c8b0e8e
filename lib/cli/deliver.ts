// Ends the connection of a copy's destination, and finds out how many bytes its peer's machine has acknowledged.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { AddressSpec } from '../contract/address-text.js';
import { tcpRowOf, unacknowledged } from './send-queue.js';
import { reset } from './sockets.js';
import { codeOf } from './text.js';

/** Milliseconds to wait for a peer that has received every byte it can get. */
export const LINGER_MS = 1000;

/** Waits until the peer's machine has acknowledged every byte. Rejects if the connection breaks before. */
export async function delivered(
  socket: Socket,
  { signal, idleTimeout = Infinity }: { signal: AbortSignal; idleTimeout?: number | undefined },
): Promise<void> {
  const row = tcpRowOf(socket);
  let last = -1;
  let since = performance.now();
  for (let pause = 5; row !== undefined; pause = Math.min(2 * pause, 100)) {
    const left = await unacknowledged(row);
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

/** Ends a socket after its last byte, and waits up to `LINGER_MS` for its peer to end or reset the connection. */
export async function end(socket: Socket): Promise<void> {
  const closed = socket.closed || once(socket, 'close');
  socket.end();
  await Promise.race([closed, delay(LINGER_MS)]);
  throwIfBroken(socket);
  socket.destroy();
}

/**
 * Resets a socket, after waiting up to `timeout` ms for its peer to acknowledge what was sent. Resolves with the number
 * of bytes that were not acknowledged. That number is exact if no segment was in flight any more.
 */
export async function breakOff(socket: Socket, address: AddressSpec, timeout: number): Promise<number> {
  const row = socket.destroyed ? undefined : tcpRowOf(socket);
  if (row !== undefined) {
    await delivered(socket, { signal: AbortSignal.timeout(timeout) }).catch(() => {});
  }
  const lost = row === undefined ? 0 : await unacknowledged(row);
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
