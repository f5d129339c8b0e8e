// The one door of failures. Code of a transfer that can throw runs through it: in the call of the verb, and in every
// callback of Node, of a timer or of the core until the promise has settled. What it throws is the failure of that
// transfer, never an exception in the caller or in the process.
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
