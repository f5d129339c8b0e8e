// The results of the relays that run meanwhile, for code that does not return them.
import { tracingChannel } from 'node:diagnostics_channel';

import type { TrafficResult } from 'fdsplice';

/** Runs `work` and collects the results of all relays meanwhile. */
export async function relaysOf<T>(work: () => Promise<T>): Promise<{ outcome: T; relays: TrafficResult[] }> {
  const relays: TrafficResult[] = [];
  const ended = (message: unknown) => {
    const { result } = message as { result?: TrafficResult };
    if (result !== undefined) relays.push(result);
  };
  const { asyncEnd } = tracingChannel('fdsplice');
  asyncEnd.subscribe(ended);
  try {
    return { outcome: await work(), relays };
  } finally {
    asyncEnd.unsubscribe(ended);
  }
}
