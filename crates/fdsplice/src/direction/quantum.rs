//! The work of one poll of a direction. After it, the other tasks of the thread run, and the reactor
//! polls for new events.

/// Bytes that one poll splices; `docs/decisions/quantum.md` has the measurements. With a smaller number,
/// streams take turns more often. In each turn the receiver sleeps on an empty socket and is woken.
const QUANTUM: u64 = 8 * 1024 * 1024;
/// Bytes of the quantum that each copied byte uses. So one poll copies 1 MiB.
const COPIED: u64 = 8;
/// Number of passes that use the quantum up even if none of them moves a byte.
const PASSES: u64 = 256;

/// The unused part of the quantum of one poll.
#[derive(Debug)]
pub(super) struct Quantum(u64);

impl Quantum {
    pub(super) fn new() -> Self {
        Self(QUANTUM)
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.0 == 0
    }

    /// Charges one pass that took `bytes` from the source, by splice or through a buffer.
    pub(super) fn charge(&mut self, bytes: usize, spliced: bool) {
        let weight = if spliced { 1 } else { COPIED };
        let cost = (bytes as u64).saturating_mul(weight).max(QUANTUM / PASSES);
        self.0 = self.0.saturating_sub(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of passes of `bytes` each that a quantum admits.
    fn passes(bytes: usize, spliced: bool) -> u64 {
        let mut quantum = Quantum::new();
        let mut passes = 0;
        while !quantum.is_used_up() {
            quantum.charge(bytes, spliced);
            passes += 1;
        }
        passes
    }

    #[test]
    fn passes_that_move_nothing_or_little_use_the_quantum_up() {
        for spliced in [true, false] {
            assert_eq!(passes(0, spliced), PASSES);
            assert_eq!(passes(1, spliced), PASSES);
        }
    }

    #[test]
    fn one_poll_copies_less_than_it_splices() {
        assert_eq!(passes(64 * 1024, false), 16);
        assert_eq!(passes(64 * 1024, true), 128);
    }
}
