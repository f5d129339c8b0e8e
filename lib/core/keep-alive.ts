// Keeps the process alive while transfers run. The weak function that delivers outcomes does not keep it alive.

import { setInterval } from '../contract/clock.js';

let pending = 0;
let timer: NodeJS.Timeout | undefined;

/** Keeps the process alive for one more pending transfer, as a socket does, until {@link letProcessEnd}. */
export function keepProcessAlive(): void {
  timer ??= setInterval(() => {}, 2 ** 31 - 1);
  pending += 1;
  if (pending === 1) timer.ref();
}

/** Ends what one call of {@link keepProcessAlive} began. */
export function letProcessEnd(): void {
  pending -= 1;
  if (pending === 0) timer?.unref();
}
