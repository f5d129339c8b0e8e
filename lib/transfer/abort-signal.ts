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
    // A signal may abort while it adds the listener.
    const calls: Listeners['calls'] = new Set([call]);
    const listening = addAbortListener(signal, () => {
      shared.delete(signal);
      const reason = reasonOf(signal);
      for (const each of calls) each(reason);
    });
    listeners = { calls, listening };
    shared.set(signal, listeners);
  }
  const { calls, listening } = listeners;
  calls.add(call);
  return () => {
    const isUnused = calls.delete(call) && calls.size === 0 && shared.get(signal)?.calls === calls;
    if (isUnused && dispose(listening)) shared.delete(signal);
  };
}

function reasonOf(signal: AbortSignal): unknown {
  try {
    return signal.reason;
  } catch (error) {
    return error;
  }
}

/**
 * Removes a listener. Its method is found by position: a test runner's realm may have no `Symbol.dispose`. A signal of a
 * polyfill may have no `removeEventListener`: its listener stays, for later transfers.
 */
function dispose(listening: Disposable): boolean {
  const [method] = Object.getOwnPropertySymbols(listening);
  try {
    (Reflect.get(listening, method ?? Symbol.dispose) as () => void)();
    return true;
  } catch {
    return false;
  }
}
