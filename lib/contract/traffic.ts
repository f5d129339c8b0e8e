// The counts of a transfer, and the names of its ends.

/** The end of a transfer that something is said about. */
export type Side = 'source' | 'destination' | 'a' | 'b';

/**
 * Bytes accepted by this machine's kernel for the destinations of a transfer: never what was merely
 * read, never what is still on its way. Accepted does not mean received by the peer.
 */
export interface Traffic {
  /** Bytes accepted by the destination; for a relay, by `b`, coming from `a`. */
  tx: number;
  /** Bytes accepted by `a`, coming from `b`. Always 0 for a copy. */
  rx: number;
  /** `tx + rx`. */
  total: number;
}
