// The time limit on bytes that were read before a failure. Both engines use it.

/**
 * Milliseconds that bytes read before a failure may take to be accepted by the other side and to leave this machine.
 * The core has the same value as `FAILURE_GRACE` in crates/fdsplice/src/relay.rs.
 */
export const FAILURE_GRACE_MS = 1000;
