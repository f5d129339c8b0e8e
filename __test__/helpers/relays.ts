// The results of the relays that run meanwhile, for code that does not return them.
import { tracingChannel } from 'node:diagnostics_channel';

import type { TrafficResult } from 'fdsplice';

import { until } from './wait.js';

/** Runs `work` and collects the results of all relays that start meanwhile. Peers may see the end before a relay settles. */
export async function relaysOf<T>(work: () => Promise<T>): Promise<{ outcome: T; relays: TrafficResult[] }> {
  const relays: TrafficResult[] = [];
  let running = 0;
  const started = () => (running += 1);
  const ended = (message: unknown) => {
    running -= 1;
    const { result } = message as { result?: TrafficResult };
    if (result !== undefined) relays.push(result);
  };
  const { start, asyncEnd } = tracingChannel('fdsplice');
  start.subscribe(started);
  asyncEnd.subscribe(ended);
  try {
    const outcome = await work();
    await until(
      'the relays have ended',
      () => running,
      (count) => count === 0,
    );
    return { outcome, relays };
  } finally {
    start.unsubscribe(started);
    asyncEnd.unsubscribe(ended);
  }
}
