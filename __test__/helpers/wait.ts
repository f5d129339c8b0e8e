// Waiting with a time limit: for a promise, for a polled condition, and for a number that stops changing. A timeout
// error names the event that did not happen.
import { setTimeout as sleep } from 'node:timers/promises';

/** The value of a promise. Rejects after `ms` milliseconds with an error that names the missing `event`. */
export async function within<T>(ms: number, event: string, promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      promise,
      sleep(ms, undefined, { signal: timer.signal }).then(() => {
        throw new Error(`not within ${ms} ms: ${event}`);
      }),
    ]);
  } finally {
    timer.abort();
  }
}

/** Polls every 10 ms until `isDone` accepts the value of `poll`, and returns that value. */
export async function until<T>(
  event: string,
  poll: () => T | Promise<T>,
  isDone: (value: T) => boolean,
  ms = 30_000,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (;;) {
    const value = await poll();
    if (isDone(value)) {
      return value;
    }
    if (performance.now() > deadline) {
      throw new Error(`not within ${ms} ms: ${event}; last seen: ${JSON.stringify(value)}`);
    }
    await sleep(10);
  }
}

/** Waits until a number is above `floor` and has not changed for 300 ms, like the byte count of a blocked writer. */
export async function steady(event: string, poll: () => Promise<number>, floor = 0): Promise<number> {
  let last = -1;
  let since = performance.now();
  return until(event, poll, (value) => {
    if (value !== last) {
      last = value;
      since = performance.now();
    }
    return value > floor && performance.now() - since > 300;
  });
}

/** A promise and its `resolve` function. */
export function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}
