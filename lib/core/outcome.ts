// The outcome of a transfer in the core, and its wire format.
// crates/fdsplice-node/src/outcome.rs encodes that format.

import type { NativeFailure } from '../binding.js';

/** The outcome of a transfer in the core. */
export interface NativeOutcome {
  tx: number;
  rx: number;
  zeroCopy: number;
  /** Whether the source, or `a`, was read to its end. */
  aEnded: boolean;
  bEnded: boolean;
  /** Absent after a clean end. */
  error?: NativeFailure | undefined;
}

/** The numbers of one outcome: those that {@link decodeBatch} reads, in the same order. */
const NUMBERS = 7;

/**
 * Decodes a batch of outcomes, and calls `settle` with the number of each transfer and its outcome. `failures` has one
 * entry for each transfer that failed, in the same order.
 */
export function decodeBatch(
  numbers: number[],
  failures: NativeFailure[],
  settle: (id: number, outcome: NativeOutcome) => void,
): void {
  let failed = 0;
  for (let at = 0; at < numbers.length; at += NUMBERS) {
    // No slice and no destructuring: an outcome is decoded for every short relay.
    const number = (index: number) => numbers[at + index] ?? 0;
    const error = number(6) === 0 ? undefined : failures[failed++];
    settle(number(0), {
      tx: number(1),
      rx: number(2),
      zeroCopy: number(3),
      aEnded: number(4) !== 0,
      bEnded: number(5) !== 0,
      error,
    });
  }
}
