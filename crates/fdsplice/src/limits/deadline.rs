//! Time limits, without a timer that is set anew per message.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

/// Expires when no byte has moved for a while.
#[derive(Debug)]
pub(crate) struct IdleTimer {
    limit: Duration,
    total: u64,
    moved_at: Instant,
    /// The time is over, and the reactor was asked for a last look.
    over: bool,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            total: 0,
            moved_at: Instant::now(),
            over: false,
            sleep: Box::pin(sleep(limit)),
        }
    }

    /// `total` is what has moved so far; `excused` says that something else than silence keeps it
    /// from growing. The timer runs out once per limit, and only then is set to what is left since
    /// the last byte. A process that was stopped meanwhile (`SIGSTOP`) learns of the time before it
    /// learns of the bytes that wait, so the reactor looks once more before silence is called that.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>, total: u64, excused: bool) -> bool {
        if excused || total != self.total {
            self.total = total;
            self.moved_at = Instant::now();
            self.over = false;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            let due = self.moved_at + self.limit;
            if Instant::now() >= due {
                if !self.over {
                    self.over = true;
                    let _ = pin!(yield_now()).poll(cx);
                    return false;
                }
                return true;
            }
            self.sleep.as_mut().reset(due);
        }
        false
    }
}

/// Expires a while after it was first asked.
#[derive(Debug)]
pub(crate) struct Countdown {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Countdown {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }

    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        sleep.as_mut().poll(cx).is_ready()
    }
}

/// Notices that a destination takes nothing. One timer runs per stall, however often a fast flow
/// has to wait for a moment.
#[derive(Debug)]
pub(crate) struct Stall {
    moved: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Stall {
    /// How long a pipe is kept for a destination that takes nothing.
    const PATIENCE: Duration = Duration::from_millis(200);

    pub(crate) fn new(moved: u64) -> Self {
        Self {
            moved,
            sleep: Box::pin(sleep(Self::PATIENCE)),
        }
    }

    /// Ready when nothing has `moved` for as long as there is patience.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if moved == self.moved {
                return Poll::Ready(());
            }
            self.moved = moved;
            self.sleep.as_mut().reset(Instant::now() + Self::PATIENCE);
        }
        Poll::Pending
    }
}
