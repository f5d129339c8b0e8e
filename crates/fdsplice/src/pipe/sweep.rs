//! The task that closes old idle pipes. One runs in the process while there are idle pipes, in the
//! runtime in which the first of them was returned.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::pipe::shelves::{self, KEEP};

/// The time between two sweeps.
const PAUSE: Duration = Duration::from_secs(KEEP.as_secs() / 2);

static IS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether pipes that are idle from now on are closed at some time: the task runs, or this thread has
/// a runtime for it.
pub(super) fn is_possible() -> bool {
    IS_RUNNING.load(Ordering::SeqCst) || Handle::try_current().is_ok()
}

/// Starts the task unless it runs. Called after a pipe was put on a shelf.
pub(super) fn ensure() {
    if IS_RUNNING.load(Ordering::SeqCst) {
        return;
    }
    match Handle::try_current() {
        Ok(runtime) if begin() => drop(runtime.spawn(Sweep.run())),
        Ok(_) => {}
        Err(_) => shelves::close_all(),
    }
}

/// `false` when another task runs.
fn begin() -> bool {
    !IS_RUNNING.swap(true, Ordering::SeqCst)
}

/// The running task. When its runtime drops it, no other runtime may exist, so all idle pipes are
/// closed.
struct Sweep;

impl Sweep {
    async fn run(self) {
        loop {
            sleep(PAUSE).await;
            shelves::close_old(Instant::now());
            if shelves::has_idle() {
                continue;
            }
            IS_RUNNING.store(false, Ordering::SeqCst);
            // A thread may have put a pipe on a shelf and have seen this task just before its end.
            if !shelves::has_idle() || !begin() {
                std::mem::forget(self);
                return;
            }
        }
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        IS_RUNNING.store(false, Ordering::SeqCst);
        shelves::close_all();
    }
}
