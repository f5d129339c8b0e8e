//! The budget of memory for held bytes: bytes taken from a source, not yet accepted by a destination,
//! and not in a kernel pipe. A peer that does not read makes its transfer hold some, so all transfers
//! of the process share one budget.
//!
//! The budget is charged after a read, because a reservation before each read would make all workers
//! write the same cache line for every message. A transfer therefore takes less from its source as
//! the budget is used up, and what it has taken is charged even above the limit: at most
//! [`LEAST`] bytes for each direction.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The budget in bytes.
const LIMIT: usize = 32 * 1024 * 1024;
/// Bytes that a direction takes at a time after half of the budget is used.
const LESS: usize = 64 * 1024;
/// Bytes that a direction takes at a time after the budget is used up. Twice the average above which a
/// flow counts as bulk.
const LEAST: usize = 32 * 1024;

/// Bytes charged by all transfers.
static CHARGED: AtomicUsize = AtomicUsize::new(0);

/// The bytes that transfers of this process hold in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldStats {
    /// Taken from sources, and not yet accepted by destinations. Bytes in kernel pipes and in the head
    /// that a caller passes do not count.
    pub bytes: usize,
    /// The budget for all transfers. When it is used up, a direction can exceed it by 32 KiB.
    pub limit: usize,
}

/// The bytes that transfers of this process hold in memory, all threads together.
pub fn held_stats() -> HeldStats {
    HeldStats {
        bytes: CHARGED.load(Ordering::Relaxed),
        limit: LIMIT,
    }
}

/// Whether the budget has no room for [`LESS`] bytes.
pub(crate) fn is_used_up() -> bool {
    CHARGED.load(Ordering::Relaxed) > LIMIT - LESS
}

/// Bytes that a direction may take from its source at a time.
pub(crate) fn allowance() -> usize {
    let charged = CHARGED.load(Ordering::Relaxed);
    if charged < LIMIT / 2 {
        usize::MAX
    } else if charged <= LIMIT - LESS {
        LESS
    } else {
        LEAST
    }
}

/// The share that one direction has of the budget. Dropping it releases the share.
#[derive(Debug, Default)]
pub(crate) struct Charge(usize);

impl Charge {
    /// Charges `bytes` in place of the bytes charged so far.
    pub(crate) fn set(&mut self, bytes: usize) {
        // A direction that holds nothing must not write the counter that all workers share.
        if bytes > self.0 {
            CHARGED.fetch_add(bytes - self.0, Ordering::Relaxed);
        } else if bytes < self.0 {
            CHARGED.fetch_sub(self.0 - bytes, Ordering::Relaxed);
        }
        self.0 = bytes;
    }

    /// Charges `bytes` in place of the bytes charged so far, and returns `true`, unless the budget
    /// would be exceeded.
    pub(crate) fn try_set(&mut self, bytes: usize) -> bool {
        let with_bytes =
            |charged: usize| Some(charged - self.0 + bytes).filter(|sum| *sum <= LIMIT);
        let fits = CHARGED
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, with_bytes)
            .is_ok();
        if fits {
            self.0 = bytes;
        }
        fits
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}
