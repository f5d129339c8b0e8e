import { setTimeout as sleep } from 'node:timers/promises';

/** What a promise gives, or a failure that says what did not happen in time. */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      promise,
      sleep(ms, undefined, { signal: timer.signal }).then(() => {
        throw new Error(`not within ${ms} ms: ${what}`);
      }),
    ]);
  } finally {
    timer.abort();
  }
}

/** Polls until `look` gives something that `good` accepts. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  good: (value: T) => boolean,
  ms = 30_000,
): Promise<T> {
  const deadline = performance.now() + ms;
  for (;;) {
    const value = await look();
    if (good(value)) {
      return value;
    }
    if (performance.now() > deadline) {
      throw new Error(`not within ${ms} ms: ${what}; last seen: ${JSON.stringify(value)}`);
    }
    await sleep(10);
  }
}

/** Waits until a number has stopped changing, as a blocked writer's count does, and is above `floor`. */
export async function steady(what: string, look: () => Promise<number>, floor = 0): Promise<number> {
  let last = -1;
  let since = performance.now();
  return until(what, look, (value) => {
    if (value !== last) {
      last = value;
      since = performance.now();
    }
    return value > floor && performance.now() - since > 300;
  });
}

/** A promise with its ends in hand. */
export function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}
