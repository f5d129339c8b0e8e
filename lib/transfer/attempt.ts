// Turns exceptions into failures. Each step of a transfer that can throw runs through `attempt`: in the call of the verb,
// and in the callbacks of Node, of timers and of the core until the promise has settled. An exception is the failure of
// that transfer. It never reaches the caller or the process.
import { type Failure, thrown } from '../contract/errors.js';
import type { Side } from '../contract/traffic.js';

/** Runs a step of a transfer, and passes what it throws to `fail`, as a failure of `side`. */
export function attempt(fail: (failure: Failure) => void, step: () => void, side?: Side): void {
  try {
    step();
  } catch (error) {
    fail(thrown(error, side));
  }
}
