//! Time limits that do not reset a timer for every message.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

/// Expires when no byte has moved for the length of a limit.
#[derive(Debug)]
pub(crate) struct IdleTimer {
    limit: Duration,
    total: u64,
    moved_at: Instant,
    /// The limit has passed, and the reactor polls for events once more.
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

    /// `total` is the count of bytes moved so far. `excused` means that it does not grow for another
    /// reason than silence.
    ///
    /// The timer runs out once per limit, and is only then reset to the rest of the limit since the
    /// last byte. A process that was stopped (`SIGSTOP`) sees its timers before its sockets, so the
    /// reactor polls for events once more before the transfer counts as idle.
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

/// Expires when its limit has passed since the first poll.
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

/// Detects a destination that accepts nothing. One timer runs per stall, even when a fast flow has
/// to wait briefly many times.
#[derive(Debug)]
pub(crate) struct Stall {
    moved: u64,
    patience: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Stall {
    /// How long a pipe is kept for a destination that accepts nothing.
    const PATIENCE: Duration = Duration::from_millis(200);
    /// The longest time between two attempts to return that pipe.
    const MOST: Duration = Duration::from_secs(5);

    pub(crate) fn new(moved: u64) -> Self {
        Self {
            moved,
            patience: Self::PATIENCE,
            sleep: Box::pin(sleep(Self::PATIENCE)),
        }
    }

    /// Ready when `moved`, the count of bytes moved so far, has not grown for [`Self::PATIENCE`], or
    /// for the time that [`Self::prolong`] has set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            if moved == self.moved {
                return Poll::Ready(());
            }
            self.moved = moved;
            self.patience = Self::PATIENCE;
            self.sleep.as_mut().reset(Instant::now() + self.patience);
        }
        Poll::Pending
    }

    /// Starts the time again, twice as long as before.
    pub(crate) fn prolong(&mut self) {
        self.patience = (2 * self.patience).min(Self::MOST);
        self.sleep.as_mut().reset(Instant::now() + self.patience);
    }
}
