//! The token bucket behind a rate limit. It knows the time, the rate and the queue, but no transfer.

use std::time::Duration;

use tokio::time::Instant;

/// The quantum of a transfer, as seconds at the rate in force: small and even at any rate.
const QUANTUM_SECONDS: f64 = 0.010;
/// The smallest quantum in bytes.
pub(super) const SMALLEST_QUANTUM: f64 = 1.0;
/// The largest quantum in bytes: the capacity of a large pipe.
const LARGEST_QUANTUM: f64 = 1024.0 * 1024.0;
/// The default burst, as seconds at the rate in force.
const BURST_SECONDS: f64 = 0.020;
/// The longest sleep before the bucket is checked again, so that waiting transfers follow a new rate.
pub(super) const RECHECK: Duration = Duration::from_millis(50);

/// A token bucket. All amounts are in bytes.
///
/// A reservation is a position in the queue: the count of all bytes reserved so far, its own
/// included. It is due when that many bytes have been earned. So a change of the rate moves every
/// waiting reservation without computing any of them again.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) rate: f64,
    pub(super) burst: Option<f64>,
    /// Bytes earned until `updated`; at most `reserved` + burst.
    earned: f64,
    reserved: f64,
    updated: Instant,
}

/// A position in the queue of a bucket, and the bytes that it stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reservation {
    pub(super) position: f64,
    pub(super) quantum: f64,
}

impl Bucket {
    pub(super) fn new(rate: f64) -> Self {
        Self {
            rate,
            burst: None,
            earned: 0.0,
            reserved: 0.0,
            updated: Instant::now(),
        }
    }

    /// Adds the bytes that were earned since the last call.
    pub(super) fn earn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.updated = now;
        if self.rate.is_infinite() {
            self.earned = self.reserved;
            return;
        }
        let burst = self
            .burst
            .unwrap_or(self.rate * BURST_SECONDS)
            .max(SMALLEST_QUANTUM);
        self.earned = (self.earned + passed * self.rate).min(self.reserved + burst);
    }

    /// The bytes that one reservation stands for, at the rate in force.
    fn quantum(&self) -> f64 {
        let burst = self.burst.unwrap_or(f64::INFINITY);
        (self.rate * QUANTUM_SECONDS)
            .clamp(SMALLEST_QUANTUM, LARGEST_QUANTUM)
            .min(burst)
            .floor()
            .max(1.0)
    }

    /// Reserves one quantum at the end of the queue.
    pub(super) fn reserve(&mut self) -> Reservation {
        let quantum = self.quantum();
        self.reserved += quantum;
        Reservation {
            position: self.reserved,
            quantum,
        }
    }

    /// Shrinks a reservation that was made at a far higher rate. At the rate in force, such a large
    /// read would delay every transfer queued behind it. The surplus counts as earned at once.
    pub(super) fn shrink(&mut self, reservation: &mut Reservation) {
        let quantum = self.quantum();
        if reservation.quantum > 2.0 * quantum {
            self.earned += reservation.quantum - quantum;
            reservation.quantum = quantum;
        }
    }

    /// Returns the unused bytes of a reservation to the bucket.
    pub(super) fn give_back(&mut self, bytes: f64) {
        self.earned += bytes;
    }

    /// How long it takes until a position is due, at the rate in force; `None` when it is due.
    pub(super) fn wait(&self, position: f64) -> Option<Duration> {
        let missing = position - self.earned;
        (missing > 0.0 && self.rate.is_finite())
            .then(|| Duration::try_from_secs_f64(missing / self.rate).unwrap_or(RECHECK))
    }
}
