// What both engines and files have in common before a transfer starts: something that becomes ready.
import type { Failure } from '../contract/errors.js';

/** An end that can be made ready. */
export interface Preparable {
  readonly isReady: boolean;
  /**
   * Calls `ready` once, possibly before it returns, when the end can be given to an engine. Calls `fail` if that never
   * happens, or if nothing moves for `idleTimeout` ms before.
   */
  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void;
  /** Where the end is ready and the other one is not: watches that it stays so. */
  guard?(fail: (failure: Failure) => void): void;
}
