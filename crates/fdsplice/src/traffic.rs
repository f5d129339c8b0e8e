//! The counts of a transfer, and the handle to watch and abort it while it runs.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use rustix::time::{ClockId, clock_gettime};

use crate::error::{Side, TransferError};

/// Bytes accepted by the destinations of a transfer.
///
/// Accepted means that the kernel of this machine has taken them for that descriptor. It does not
/// mean that the peer has received them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes accepted by the destination; for a relay, by `b`, coming from `a`.
    pub tx: u64,
    /// Bytes accepted by `a`, coming from `b`; 0 for a copy.
    pub rx: u64,
    /// How many of `tx + rx` never passed through user space.
    pub zero_copy: u64,
}

impl Traffic {
    /// `tx + rx`, in bytes.
    pub fn total(&self) -> u64 {
        self.tx + self.rx
    }
}

/// The result of a transfer: its counts, which are valid in every case, and its failure if there was
/// one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrafficResult {
    /// Bytes accepted by the destination; for a relay, by `b`, coming from `a`.
    pub tx: u64,
    /// Bytes accepted by `a`, coming from `b`; 0 for a copy.
    pub rx: u64,
    /// How many of `tx + rx` never passed through user space.
    pub zero_copy: u64,
    /// Whether the source, or end `a` of a relay, was read to its end.
    pub a_ended: bool,
    /// Whether end `b` of a relay was read to its end; `false` for a copy.
    pub b_ended: bool,
    /// `None` when the transfer ran to its end.
    pub error: Option<TransferError>,
}

#[derive(Debug, Default)]
struct Shared {
    tx: AtomicU64,
    rx: AtomicU64,
    zero_copy: AtomicU64,
    /// When bytes were counted last, by [`coarse_ms`]; 0 before.
    moved_at: AtomicU64,
    aborted: AtomicBool,
    /// The sides of a relay that its caller ends, as bits of [`side_bit`].
    ends: AtomicU8,
    waker: AtomicWaker,
}

/// Resolution of [`coarse_ms`]: a tick of the slowest kernel.
const TICK_MS: u64 = 10;

/// Milliseconds of a monotonic clock that costs no system call on any machine.
fn coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let ms = now.tv_sec * 1000 + now.tv_nsec / 1_000_000;
    ms.try_into().unwrap_or(0)
}

fn side_bit(side: Side) -> u8 {
    match side {
        Side::A => 1,
        Side::B => 2,
        _ => 0,
    }
}

/// A handle on one transfer, usable from any thread while it runs and after it has ended.
///
/// Give a clone to the options of the transfer. A `Control` belongs to one transfer, because two
/// would add to the same counts.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Shared>);

impl Control {
    /// A handle that is not yet tied to a transfer.
    pub fn new() -> Self {
        Self::default()
    }

    /// The live counts. Each is exact, but they are read one after the other.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            tx: self.0.tx.load(Ordering::Relaxed),
            rx: self.0.rx.load(Ordering::Relaxed),
            zero_copy: self.0.zero_copy.load(Ordering::Relaxed),
        }
    }

    /// How long ago bytes were counted last, never more than the real time. `None` before the first.
    pub fn idle(&self) -> Option<Duration> {
        let moved_at = self.0.moved_at.load(Ordering::Relaxed);
        let idle = coarse_ms().saturating_sub(moved_at + TICK_MS);
        (moved_at != 0).then_some(Duration::from_millis(idle))
    }

    /// Ends the transfer with [`Reason::Aborted`](crate::Reason::Aborted). Its counts are kept. Does
    /// nothing once the transfer has ended.
    pub fn abort(&self) {
        self.0.aborted.store(true, Ordering::Release);
        self.0.waker.wake();
    }

    /// Ends one side of a relay before the other side has ended its input: the bytes that have arrived
    /// for that side are delivered, and it is shut down for writing. Bytes that arrive for it later
    /// fail the relay with `EPIPE`. Does nothing when the input of that side has ended already: the
    /// relay then ends it after the other side. Does nothing for other transfers.
    pub fn end(&self, side: Side) {
        self.0.ends.fetch_or(side_bit(side), Ordering::Release);
        self.0.waker.wake();
    }

    /// Whether [`Control::end`] was called for this side since the last look.
    pub(crate) fn take_end(&self, side: Side) -> bool {
        let bit = side_bit(side);
        // The plain load keeps a locked instruction out of every poll.
        self.0.ends.load(Ordering::Acquire) & bit != 0
            && self.0.ends.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Waits for [`Control::abort`]. This is for the time before the transfer starts, such as a connect:
    /// only one task can wait, and a transfer that has this handle waits itself.
    ///
    /// # Cancel safety
    /// Dropping the future ends the wait.
    pub async fn aborted(&self) {
        let wait = |cx: &mut Context<'_>| {
            if self.poll_aborted(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        };
        poll_fn(wait).await;
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.0.aborted.load(Ordering::Acquire)
    }

    /// Whether an abort was requested. Otherwise, a later abort wakes the task of `cx`.
    pub(crate) fn poll_aborted(&self, cx: &Context<'_>) -> bool {
        self.0.waker.register(cx.waker());
        self.is_aborted()
    }

    /// The counts as a result.
    pub(crate) fn result(&self, error: Option<TransferError>) -> TrafficResult {
        let Traffic { tx, rx, zero_copy } = self.traffic();
        TrafficResult {
            tx,
            rx,
            zero_copy,
            a_ended: false,
            b_ended: false,
            error,
        }
    }

    pub(crate) fn tx(&self) -> Counter<'_> {
        Counter {
            moved: &self.0.tx,
            moved_at: &self.0.moved_at,
            zero_copy: &self.0.zero_copy,
        }
    }

    pub(crate) fn rx(&self) -> Counter<'_> {
        Counter {
            moved: &self.0.rx,
            moved_at: &self.0.moved_at,
            zero_copy: &self.0.zero_copy,
        }
    }
}

/// The counts of one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counter<'a> {
    moved: &'a AtomicU64,
    moved_at: &'a AtomicU64,
    zero_copy: &'a AtomicU64,
}

impl Counter<'_> {
    pub(crate) fn get(self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Counts bytes that a destination accepted.
    pub(crate) fn add(self, bytes: u64, zero_copy: bool) {
        // Only one task writes these counts. A plain load and store cannot lose an update, and needs
        // no locked instruction per message.
        let add = |count: &AtomicU64| {
            count.store(count.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
        };
        add(self.moved);
        self.moved_at.store(coarse_ms(), Ordering::Relaxed);
        if zero_copy {
            add(self.zero_copy);
        }
    }
}
