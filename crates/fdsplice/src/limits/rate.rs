//! A limit on bytes per second that any number of transfers share.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// What one transfer asks for at a time, in seconds' worth: small and even pieces at any rate.
const PIECE_SECONDS: f64 = 0.010;
/// Bounds of such a piece in bytes. The upper one is a full pipe.
const PIECE: (f64, f64) = (1.0, 1024.0 * 1024.0);
/// The default burst, in seconds' worth.
const BURST_SECONDS: f64 = 0.020;
/// The longest sleep before the bucket is looked at again: a new rate takes effect within this.
const NAP: Duration = Duration::from_millis(50);

/// A limit on bytes per second: a token bucket, whose tokens the transfers that share it take in
/// turns.
///
/// Every transfer asks for the same small piece when it has something to send, and is served in
/// order: so each busy one gets the same share, and one that has nothing to send leaves its share
/// to the others.
///
/// ```
/// let limiter = fdsplice::RateLimiter::new(1024.0 * 1024.0);
/// limiter.set_bytes_per_second(64.0 * 1024.0);
/// assert_eq!(limiter.bytes_per_second(), 65536.0);
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter(Arc<Mutex<Bucket>>);

/// All in bytes. A reservation is a place in the queue: the count of bytes reserved so far, its own
/// included. It is due when as many have come in. So a change of the rate moves all that wait, and
/// nothing has to be computed anew.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    burst: Option<f64>,
    /// Bytes that have come in until `seen`; at most `reserved` + burst.
    earned: f64,
    reserved: f64,
    seen: Instant,
}

impl RateLimiter {
    /// A limit in bytes per second, above 0; `f64::INFINITY` is none.
    ///
    /// # Panics
    /// When the rate is not above 0.
    pub fn new(bytes_per_second: f64) -> Self {
        assert!(bytes_per_second > 0.0, "a rate is above 0");
        let bucket = Bucket {
            rate: bytes_per_second,
            burst: None,
            earned: 0.0,
            reserved: 0.0,
            seen: Instant::now(),
        };
        Self(Arc::new(Mutex::new(bucket)))
    }

    /// Bytes that may go at once after a pause. Default: 20 ms' worth.
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

    /// Changes the rate, also of transfers that run: within 100 ms.
    ///
    /// # Panics
    /// When the rate is not above 0.
    pub fn set_bytes_per_second(&self, bytes_per_second: f64) {
        assert!(bytes_per_second > 0.0, "a rate is above 0");
        let mut bucket = self.lock();
        bucket.earn(Instant::now());
        bucket.rate = bytes_per_second;
    }

    /// A place among those that share the limit, for whoever moves bytes by other means than this
    /// crate's transfers.
    pub fn throttle(&self) -> Throttle {
        Throttle::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn earn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.seen).as_secs_f64();
        self.seen = now;
        if self.rate.is_infinite() {
            self.earned = self.reserved;
            return;
        }
        let burst = self.burst.unwrap_or(self.rate * BURST_SECONDS).max(PIECE.0);
        self.earned = (self.earned + passed * self.rate).min(self.reserved + burst);
    }

    /// What one transfer gets at a time, at the rate in force.
    fn piece(&self) -> f64 {
        let burst = self.burst.unwrap_or(f64::INFINITY);
        (self.rate * PIECE_SECONDS)
            .clamp(PIECE.0, PIECE.1)
            .min(burst)
            .floor()
            .max(1.0)
    }

    /// A place in the queue for one piece, of the bytes it covers.
    fn reserve(&mut self) -> Ticket {
        let piece = self.piece();
        self.reserved += piece;
        Ticket {
            place: self.reserved,
            piece,
        }
    }

    /// A piece that was reserved at a far higher rate would be a lump at this one, and keep all that
    /// wait behind it waiting: what it has too much comes in at once instead.
    fn shrink(&mut self, ticket: &mut Ticket) {
        let piece = self.piece();
        if ticket.piece > 2.0 * piece {
            self.earned += ticket.piece - piece;
            ticket.piece = piece;
        }
    }

    /// How long until a place is due, at the rate in force; nothing when it is.
    fn wait(&self, place: f64) -> Option<Duration> {
        let missing = place - self.earned;
        (missing > 0.0 && self.rate.is_finite())
            .then(|| Duration::try_from_secs_f64(missing / self.rate).unwrap_or(NAP))
    }
}

#[derive(Clone, Copy, Debug)]
struct Ticket {
    place: f64,
    piece: f64,
}

/// One transfer's dealings with a limiter. Both directions of a relay that is limited as a whole
/// share one, and take turns at it.
///
/// Ask for a piece when there is something to move, move at most that many bytes, and say how many
/// it were.
#[derive(Debug)]
pub struct Throttle {
    limiter: RateLimiter,
    ticket: Option<Ticket>,
    /// The ticket is what is left of a piece that was used in part: nobody waits for it.
    is_rest: bool,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Who used the last piece, and who has asked since.
    last: usize,
    asked: [bool; 2],
}

impl Throttle {
    pub(crate) fn new(limiter: RateLimiter) -> Self {
        Self {
            limiter,
            ticket: None,
            is_rest: false,
            sleep: None,
            last: 1,
            asked: [false; 2],
        }
    }

    /// Whether somebody waits for the limiter: that is not idleness.
    pub(crate) fn is_waiting(&self) -> bool {
        self.ticket.is_some() && !self.is_rest
    }

    /// Ready with the bytes that `who` (0 or 1) may take from its source now.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>, who: usize) -> Poll<u64> {
        loop {
            let nap = match self.try_piece(who) {
                Ok(piece) => {
                    self.sleep = None;
                    if self.asked[1 - who] {
                        // It waited for the timer that is dropped here, and has to set one for itself.
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Ready(piece);
                }
                Err(Duration::ZERO) => {
                    // The other direction is polled by the same task.
                    self.sleep = None;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(nap) => nap,
            };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(nap)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
    }

    /// The bytes that `who` (0 or 1, the directions of a relay; else 0) may move now, a whole number
    /// of at most 1 MiB.
    ///
    /// # Errors
    /// With how long to wait before asking again, at most 50 ms; zero when it is the other
    /// direction's turn.
    ///
    /// # Panics
    /// When `who` is above 1.
    pub fn try_piece(&mut self, who: usize) -> Result<u64, Duration> {
        self.asked[who] = true;
        let ticket = {
            let mut bucket = self.limiter.lock();
            bucket.earn(Instant::now());
            let ticket = self.ticket.get_or_insert_with(|| bucket.reserve());
            bucket.shrink(ticket);
            if let Some(due) = bucket.wait(ticket.place) {
                self.is_rest = false;
                return Err(due.clamp(Duration::from_millis(1), NAP));
            }
            *ticket
        };
        if self.last == who && self.asked[1 - who] {
            return Err(Duration::ZERO);
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number of at most 1 MiB"
        )]
        Ok(ticket.piece as u64)
    }

    /// Says how many bytes of the piece `who` has used; the rest is for whoever asks next.
    ///
    /// # Panics
    /// When `who` is above 1.
    pub fn used(&mut self, who: usize, bytes: u64) {
        self.used_part(who, bytes);
        self.give_back();
    }

    /// The same, but the rest of the piece stays with this transfer, whose next piece it is. For a
    /// source that gives less at a time than a piece has: who gives the rest back each time, and
    /// then waits as long for its next piece as those who use all of theirs, has the smaller share.
    ///
    /// # Panics
    /// When `who` is above 1.
    #[allow(clippy::cast_precision_loss, reason = "at most 1 MiB")]
    pub fn used_part(&mut self, who: usize, bytes: u64) {
        self.leave(who);
        let Some(ticket) = &mut self.ticket else {
            return;
        };
        ticket.piece -= bytes as f64;
        self.is_rest = ticket.piece >= PIECE.0;
        if !self.is_rest {
            self.ticket = None;
        }
    }

    /// Gives back what is left of a piece that was used in part: its user has to wait for something
    /// else than the limiter.
    pub fn give_rest_back(&mut self) {
        if self.is_rest {
            self.give_back();
        }
    }

    /// Leaves what is reserved and not used to whoever asks next.
    pub fn give_back(&mut self) {
        self.is_rest = false;
        if let Some(ticket) = self.ticket.take() {
            self.limiter.lock().earned += ticket.piece;
        }
    }

    /// `who` (0 or 1) has ended and asks no more.
    ///
    /// # Panics
    /// When `who` is above 1.
    pub fn leave(&mut self, who: usize) {
        self.asked[who] = false;
        self.last = who;
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A limit on what a direction takes from its source, and which of its users the direction is.
pub(crate) type Limit<'a> = (&'a mut Throttle, usize);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const MIB: f64 = 1024.0 * 1024.0;

    async fn spend(limiter: RateLimiter, seconds: u64) -> u64 {
        let mut throttle = Throttle::new(limiter);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut spent = 0;
        while Instant::now() < end {
            let piece = poll_fn(|cx| throttle.poll_piece(cx, 0)).await;
            throttle.used(0, piece);
            spent += piece;
        }
        spent
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    }

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn a_rate_is_kept_at_any_speed() {
        for rate in [16.0 * 1024.0, MIB, 100.0 * MIB, 1024.0 * MIB] {
            let spent = runtime().block_on(spend(RateLimiter::new(rate), 4)) as f64;
            assert!((spent / (rate * 4.0) - 1.0).abs() < 0.03, "{rate}: {spent}");
        }
    }

    #[test]
    fn busy_transfers_get_equal_shares() {
        runtime().block_on(async {
            let limiter = RateLimiter::new(MIB);
            let shares = [(); 4].map(|()| tokio::spawn(spend(limiter.clone(), 4)));
            for share in shares {
                let spent = share.await.expect("a share");
                assert!(spent.abs_diff(1 << 20) < (1 << 20) / 10, "{spent}");
            }
        });
    }

    #[test]
    fn a_source_that_gives_little_at_a_time_gets_the_same_share() {
        runtime().block_on(async {
            let limiter = RateLimiter::new(MIB);
            let shared = limiter.clone();
            let little = tokio::spawn(async move {
                let mut throttle = Throttle::new(shared);
                let end = Instant::now() + Duration::from_secs(4);
                let mut spent = 0;
                while Instant::now() < end {
                    let piece = poll_fn(|cx| throttle.poll_piece(cx, 0)).await;
                    let part = piece.min(1000);
                    throttle.used_part(0, part);
                    spent += part;
                }
                spent
            });
            for spent in [spend(limiter, 4).await, little.await.expect("its share")] {
                assert!(spent.abs_diff(2 << 20) < (2 << 20) / 50, "{spent}");
            }
        });
    }

    #[test]
    fn what_is_not_used_is_left_to_others() {
        runtime().block_on(async {
            let limiter = RateLimiter::new(MIB);
            let idle = limiter.clone();
            let idler = tokio::spawn(async move {
                let mut throttle = Throttle::new(idle);
                for _ in 0..1000 {
                    poll_fn(|cx| throttle.poll_piece(cx, 0)).await;
                    throttle.used(0, 0);
                }
            });
            let spent = spend(limiter, 4).await;
            assert!(spent.abs_diff(4 << 20) < (4 << 20) * 3 / 100, "{spent}");
            idler.abort();
        });
    }

    #[test]
    #[allow(clippy::cast_precision_loss)]
    fn a_rate_that_falls_far_is_kept_without_a_pause() {
        runtime().block_on(async {
            let limiter = RateLimiter::new(50.0 * MIB);
            let shares = [(); 4].map(|()| tokio::spawn(spend(limiter.clone(), 1)));
            sleep(Duration::from_millis(1)).await;
            limiter.set_bytes_per_second(32.0 * 1024.0);
            sleep(Duration::from_millis(100)).await;
            let spent = spend(limiter, 4).await as f64;
            for share in shares {
                share.await.expect("a share");
            }
            // Four others take their share of the first of the four seconds.
            let expected = 32.0 * 1024.0 * (0.9 / 5.0 + 3.1);
            assert!(
                (spent / expected - 1.0).abs() < 0.1,
                "{spent} of {expected}"
            );
        });
    }

    #[test]
    fn one_that_waits_is_woken_when_the_other_took_the_piece_and_ended() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let mut throttle = Throttle::new(RateLimiter::new(MIB));
        // The first turn was 0's, so the next is 1's.
        throttle.used(0, 0);
        let mut other_was_served = false;
        let piece = poll_fn(|cx| {
            let waits = throttle.poll_piece(cx, 0);
            if other_was_served {
                return waits;
            }
            assert!(waits.is_pending());
            // While one poll of the task goes on, the piece becomes due.
            std::thread::sleep(Duration::from_millis(30));
            assert!(throttle.poll_piece(cx, 1).is_ready());
            throttle.used(1, 0);
            throttle.leave(1);
            other_was_served = true;
            Poll::Pending
        });
        let before = Instant::now();
        let limit = Duration::from_secs(20);
        let served = runtime.block_on(async { tokio::time::timeout(limit, piece).await });
        assert!(served.is_ok());
        assert!(
            before.elapsed() < limit / 2,
            "only the end of the test woke it"
        );
    }

    #[test]
    fn a_new_rate_reaches_a_transfer_that_waits() {
        runtime().block_on(async {
            let limiter = RateLimiter::new(1.0);
            let waiting = tokio::spawn(spend(limiter.clone(), 1));
            sleep(Duration::from_millis(500)).await;
            limiter.set_bytes_per_second(MIB);
            let before = Instant::now();
            assert!(waiting.await.expect("a share") > 64);
            assert!(before.elapsed() < Duration::from_millis(600));
        });
    }
}
