// The life of an end before the core takes it: it is prepared, watched while the other end is not ready, and opened.
import type { Failure } from '../contract/errors.js';
import type { NativeEnd } from '../core/core.js';

/** An end that can be made ready for a transfer. */
export interface Preparable {
  readonly isReady: boolean;
  /** Whether it is prepared after the other end is ready: a file that must not be created earlier. */
  readonly isLast?: boolean;
  /**
   * Calls `ready` once when the end can be given to the core, which may be before this returns. Calls `fail` if it never
   * can, or if nothing moves for `idleTimeout` ms before.
   */
  prepare(ready: () => void, fail: (failure: Failure) => void, idleTimeout?: number): void;
  /** Watches an end that is ready while the other one is not. */
  guard?(fail: (failure: Failure) => void): void;
}

/** An end that can be given to the core when it is ready. */
export interface Openable extends Preparable {
  /** The core's own duplicate of the descriptor, or the reason why there is none. */
  open(): NativeEnd | Failure;
}
