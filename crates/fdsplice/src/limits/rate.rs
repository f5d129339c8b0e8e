//! A `RateLimiter` limits the bytes per second of all transfers that share it. A `Throttle` holds the
//! reservation and the timer of one transfer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::limits::bucket::{Bucket, RECHECK, Reservation, SMALLEST_QUANTUM};

/// A limit on bytes per second: a token bucket, whose tokens the transfers that share it take in
/// turns.
///
/// Every transfer reserves the same small quantum when it has something to send, and reservations
/// are served in order. So each busy transfer gets the same share, and an idle one leaves its share
/// to the others.
///
/// ```
/// let limiter = fdsplice::RateLimiter::new(1024.0 * 1024.0);
/// limiter.set_bytes_per_second(64.0 * 1024.0);
/// assert_eq!(limiter.bytes_per_second(), 65536.0);
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter(Arc<Mutex<Bucket>>);

impl RateLimiter {
    /// A limit in bytes per second, above 0; `f64::INFINITY` means no limit.
    ///
    /// # Panics
    /// When the rate is not above 0.
    pub fn new(bytes_per_second: f64) -> Self {
        assert!(bytes_per_second > 0.0, "a rate is above 0");
        Self(Arc::new(Mutex::new(Bucket::new(bytes_per_second))))
    }

    /// Bytes that may move at once after a pause. Default: 20 ms at the rate in force.
    ///
    /// # Panics
    /// When the burst is not above 0.
    #[must_use]
    pub fn burst(self, bytes: f64) -> Self {
        assert!(bytes > 0.0, "a burst is above 0");
        self.lock().burst = Some(bytes);
        self
    }

    /// The rate in force.
    pub fn bytes_per_second(&self) -> f64 {
        self.lock().rate
    }

    /// Changes the rate. Running transfers follow within 100 ms.
    ///
    /// # Panics
    /// When the rate is not above 0.
    pub fn set_bytes_per_second(&self, bytes_per_second: f64) {
        assert!(bytes_per_second > 0.0, "a rate is above 0");
        let mut bucket = self.lock();
        bucket.earn(Instant::now());
        bucket.rate = bytes_per_second;
    }

    /// A share of the limit for a caller that moves bytes without this crate's transfers.
    pub fn throttle(&self) -> Throttle {
        Throttle::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reservation and the timer of one transfer at a limiter. When a relay is limited as a whole, both of its
/// directions share one `Throttle` and take turns.
///
/// Request a quantum when there is something to move, move at most that many bytes, and report how
/// many were moved.
#[derive(Debug)]
pub struct Throttle {
    limiter: RateLimiter,
    reservation: Option<Reservation>,
    /// Whether the reservation is the rest of a quantum that was used in part. No direction waits
    /// for it.
    is_rest: bool,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The direction that used the last quantum.
    last: usize,
    /// The directions that have requested a quantum since they used one.
    requested: [bool; 2],
}

impl Throttle {
    pub(crate) fn new(limiter: RateLimiter) -> Self {
        Self {
            limiter,
            reservation: None,
            is_rest: false,
            sleep: None,
            last: 1,
            requested: [false; 2],
        }
    }

    /// Whether a direction waits for the limiter. Such a transfer is not idle.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reservation.is_some() && !self.is_rest
    }

    /// Ready with the bytes that `direction` (0 or 1) may take from its source now.
    pub(crate) fn poll_quantum(&mut self, cx: &mut Context<'_>, direction: usize) -> Poll<u64> {
        loop {
            let wait = match self.try_quantum(direction) {
                Ok(quantum) => {
                    self.sleep = None;
                    if self.requested[1 - direction] {
                        // The other direction waited for the timer dropped here, and must set one.
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Ready(quantum);
                }
                Err(Duration::ZERO) => {
                    // The other direction is polled by the same task.
                    self.sleep = None;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(wait) => wait,
            };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(wait)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
    }

    /// The bytes that `direction` (0 or 1 for a relay, else 0) may move now: a whole number of at
    /// most 1 MiB.
    ///
    /// # Errors
    /// The time to wait before the next request, at most 50 ms; zero when it is the turn of the
    /// other direction.
    ///
    /// # Panics
    /// When `direction` is above 1.
    pub fn try_quantum(&mut self, direction: usize) -> Result<u64, Duration> {
        self.requested[direction] = true;
        let reservation = {
            let mut bucket = self.limiter.lock();
            bucket.earn(Instant::now());
            let reservation = self.reservation.get_or_insert_with(|| bucket.reserve());
            bucket.shrink(reservation);
            if let Some(wait) = bucket.wait(reservation.position) {
                self.is_rest = false;
                return Err(wait.clamp(Duration::from_millis(1), RECHECK));
            }
            *reservation
        };
        if self.last == direction && self.requested[1 - direction] {
            return Err(Duration::ZERO);
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of at most 1 MiB"
        )]
        Ok(reservation.quantum as u64)
    }

    /// Reports how many bytes of its quantum `direction` has used. The rest is given back.
    ///
    /// # Panics
    /// When `direction` is above 1.
    pub fn used(&mut self, direction: usize, bytes: u64) {
        self.used_part(direction, bytes);
        self.give_back();
    }

    /// Reports how many bytes of its quantum `direction` has used. The rest stays with this
    /// transfer as its next quantum.
    ///
    /// This is for a source that yields less than a quantum at a time. A transfer that gives the
    /// rest back each time, but waits a full turn, gets less than its share.
    ///
    /// # Panics
    /// When `direction` is above 1.
    #[allow(clippy::cast_precision_loss, reason = "at most 1 MiB")]
    pub fn used_part(&mut self, direction: usize, bytes: u64) {
        self.leave(direction);
        let Some(reservation) = &mut self.reservation else {
            return;
        };
        reservation.quantum -= bytes as f64;
        self.is_rest = reservation.quantum >= SMALLEST_QUANTUM;
        if !self.is_rest {
            self.reservation = None;
        }
    }

    /// Gives back the rest of a quantum that was used in part, because its direction has to wait
    /// for something other than the limiter.
    pub fn give_rest_back(&mut self) {
        if self.is_rest {
            self.give_back();
        }
    }

    /// Gives the reserved and unused bytes back to the limiter.
    pub fn give_back(&mut self) {
        self.is_rest = false;
        if let Some(reservation) = self.reservation.take() {
            self.limiter.lock().give_back(reservation.quantum);
        }
    }

    /// Withdraws the request of `direction` (0 or 1), so that the other direction does not wait for its
    /// turn.
    ///
    /// # Panics
    /// When `direction` is above 1.
    pub fn leave(&mut self, direction: usize) {
        self.requested[direction] = false;
        self.last = direction;
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A limit on the bytes that a direction takes from its source, and the number of that direction
/// at the limiter.
pub(crate) type Limit<'a> = (&'a mut Throttle, usize);

#[cfg(test)]
mod tests;
