//! Decides whether a direction carries bulk or messages, from the sizes of its reads. Bulk is
//! cheaper through a pipe, messages through a buffer.

/// A moving average of the bytes per read, with hysteresis so that a mixed flow does not change
/// engines back and forth.
#[derive(Debug, Default)]
pub(crate) struct BulkDetector {
    average: u32,
    bulk: bool,
}

/// Above this average a pipe is cheaper than a buffer; the two cost the same at about 16 KiB.
const BULK_FROM: u32 = 16 * 1024;
/// Below this average a buffer is cheaper again.
const BULK_UNTIL: u32 = 8 * 1024;
/// Larger reads count as this many bytes: one huge splice must not keep a flow of small messages in
/// bulk for long.
const SAMPLE_CAP: u32 = 64 * 1024;

impl BulkDetector {
    pub(crate) fn is_bulk(&self) -> bool {
        self.bulk
    }

    /// Adds a read of `bytes` to the average.
    pub(crate) fn note(&mut self, bytes: usize) {
        let sample = u32::try_from(bytes).map_or(SAMPLE_CAP, |bytes| bytes.min(SAMPLE_CAP));
        self.average = (self.average * 3 + sample) / 4;
        self.bulk = self.average >= if self.bulk { BULK_UNTIL } else { BULK_FROM };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_flow_is_not_bulk() {
        let mut detector = BulkDetector::default();
        detector.note(32 * 1024);
        assert!(!detector.is_bulk());
    }

    #[test]
    fn full_reads_become_bulk_at_once_and_messages_end_it() {
        let mut detector = BulkDetector::default();
        detector.note(SAMPLE_CAP as usize);
        assert!(detector.is_bulk());
        for _ in 0..10 {
            detector.note(64);
        }
        assert!(!detector.is_bulk());
    }

    #[test]
    fn a_flow_around_the_threshold_does_not_flap() {
        let mut detector = BulkDetector::default();
        let mut changes = 0;
        for round in 0..100 {
            let before = detector.is_bulk();
            detector.note(if round % 2 == 0 { 18 * 1024 } else { 14 * 1024 });
            changes += usize::from(before != detector.is_bulk());
        }
        assert!(changes <= 1, "{changes} changes");
    }
}
