import { addAbortListener } from 'node:events';

interface Listeners {
  calls: Set<(reason: unknown) => void>;
  listening: Disposable;
}

// One listener a signal, however many transfers share it: a thousand listeners would make Node warn
// of a leak, and an abort walk a thousand events.
const shared = new WeakMap<AbortSignal, Listeners>();

/** Calls `call` when the signal aborts; returns what takes that back. */
export function onAbort(signal: AbortSignal, call: (reason: unknown) => void): () => void {
  let listeners = shared.get(signal);
  if (listeners === undefined) {
    const calls: Listeners['calls'] = new Set();
    const listening = addAbortListener(signal, () => {
      shared.delete(signal);
      for (const each of calls) each(signal.reason);
    });
    listeners = { calls, listening };
    shared.set(signal, listeners);
  }
  const { calls, listening } = listeners;
  calls.add(call);
  return () => {
    if (calls.delete(call) && calls.size === 0 && shared.get(signal)?.calls === calls) {
      shared.delete(signal);
      listening[Symbol.dispose]();
    }
  };
}
