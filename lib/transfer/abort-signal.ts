// Listens to the caller's AbortSignals: one listener per signal, however many transfers share it. A thousand listeners
// would make Node warn of a leak, and every abort would dispatch a thousand events.
import { addAbortListener } from 'node:events';

interface Listeners {
  calls: Set<(reason: unknown) => void>;
  listening: Disposable;
}

const shared = new WeakMap<AbortSignal, Listeners>();

/** Calls `call` when the signal aborts; returns a function that cancels this. */
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
      dispose(listening);
    }
  };
}

/** Removes a listener. Its method is found by position: a test runner's realm may have no `Symbol.dispose`. */
function dispose(listening: Disposable): void {
  const [method] = Object.getOwnPropertySymbols(listening);
  (Reflect.get(listening, method ?? Symbol.dispose) as () => void)();
}
