//! The task that closes old idle pipes. One runs in the process while there are idle pipes, in the
//! runtime in which the first of them was returned.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::pipe::shelves::{self, KEEP};

/// The time between two sweeps.
const PAUSE: Duration = Duration::from_secs(KEEP.as_secs() / 2);

/// The time of the next sweep, in seconds since [`START`]. 0 when no task runs.
static DUE: AtomicU64 = AtomicU64::new(0);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn due_after(now: Instant) -> u64 {
    now.saturating_duration_since(*START).as_secs() + PAUSE.as_secs()
}

/// Whether old pipes are closed. A task that is late does not count: its runtime may exist without
/// a thread that drives it.
fn is_running(due: u64, now: Instant) -> bool {
    due > 0 && due_after(now) <= due + KEEP.as_secs()
}

/// Whether pipes that are idle from now on are closed at some time: a sweep runs, or this thread has a
/// runtime for one.
pub(super) fn is_possible(now: Instant) -> bool {
    is_running(DUE.load(Ordering::SeqCst), now) || Handle::try_current().is_ok()
}

/// Starts the task unless it runs. Called after a pipe was put on a shelf.
pub(super) fn ensure(now: Instant) {
    let before = DUE.load(Ordering::SeqCst);
    if is_running(before, now) {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        shelves::close_all();
        return;
    };
    let due = due_after(now);
    if replace(before, due) {
        runtime.spawn(Sweep { due }.run());
    }
}

fn replace(before: u64, after: u64) -> bool {
    DUE.compare_exchange(before, after, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok()
}

/// The running task. When its runtime drops it, no other runtime may exist, so all idle pipes are
/// closed.
struct Sweep {
    /// The value of [`DUE`] that this task has set. Another value belongs to another task.
    due: u64,
}

impl Sweep {
    async fn run(mut self) {
        loop {
            sleep(PAUSE).await;
            let now = Instant::now();
            shelves::close_old(now);
            // A thread may put a pipe on a shelf and see this task just before it ends. So the task
            // first declares its end, and then looks again.
            let is_over = !shelves::has_idle() && self.declare(0) && !shelves::has_idle();
            if is_over || !self.declare(due_after(now)) {
                return;
            }
        }
    }

    /// Sets [`DUE`]. `false` when another task has taken over.
    fn declare(&mut self, due: u64) -> bool {
        let is_mine = replace(self.due, due);
        if is_mine {
            self.due = due;
        }
        is_mine
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        if self.due > 0 && replace(self.due, 0) {
            shelves::close_all();
        }
    }
}
