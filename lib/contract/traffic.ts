// The counts of a transfer and the names of its ends. A file of its own, because errors and sockets need only these.

/** The end of a transfer that a failure or a mistake belongs to: of a copy or sendFile, or of a relay. */
export type Side = 'source' | 'destination' | 'a' | 'b';

/**
 * Bytes accepted by this machine's kernel for the destinations of a transfer. Bytes that were only read, or that are
 * still in a pipe, are not counted. Accepted does not mean received by the peer.
 */
export interface Traffic {
  /** Bytes accepted by the destination; for a relay, by `b`, coming from `a`. */
  tx: number;
  /** Bytes accepted by `a`, coming from `b`. Always 0 for a copy. */
  rx: number;
  /** `tx + rx`. */
  total: number;
}
