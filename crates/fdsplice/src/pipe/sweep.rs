//! The thread that closes old idle pipes. One runs in the process while there are idle pipes.
//!
//! It is a thread of its own, because nothing else is certain to run while pipes are idle. A task needs
//! a runtime, which belongs to the caller: it may have ended, stand still, have a paused clock, or be
//! watched until it has no task left. A check by the next lease may never come, and would read a clock
//! each time. The thread sleeps, except for a look at the shelves every five seconds. It holds no
//! descriptor and nothing waits for it, so the process can exit at any time.
//!
//! If the thread cannot be started, the idle pipes are closed at once: without it, they could stay open
//! for as long as the process.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::pipe::shelves::{INTERVALS, Shelves};

/// How long an idle pipe is kept at least. It is closed at most one `PAUSE` later.
const KEEP: Duration = Duration::from_secs(10);
/// The time between two sweeps: one interval of the shelves.
const PAUSE: Duration = Duration::from_secs(KEEP.as_secs() / INTERVALS);
/// Enough for signal handlers of the program that run on this thread.
const STACK: usize = 256 * 1024;

/// Whether the thread runs.
pub(super) struct Sweeper {
    // Invariant: a pipe that lies on a shelf while this is `false` was put there by a thread that has
    // not called `ensure` yet. The thread of the sweep looks at all shelves after it has cleared this.
    // A pipe that it does not see there is put later, under the same lock, so `ensure` sees `false`.
    is_running: AtomicBool,
}

impl Sweeper {
    pub(super) const fn new() -> Self {
        Self {
            is_running: AtomicBool::new(false),
        }
    }

    /// Starts the thread unless it runs. Called after each time that a pipe was put on a shelf.
    pub(super) fn ensure(&'static self, shelves: &'static Shelves) {
        // The locks of the shelves order this.
        if !self.is_running.load(Ordering::Relaxed) {
            self.start(shelves, || {
                let thread = thread::Builder::new().name("fdsplice-pipes".to_owned());
                let sweep = || self.run(shelves);
                thread.stack_size(STACK).spawn(sweep).map(drop)
            });
        }
    }

    #[cold]
    fn start(&self, shelves: &Shelves, start_thread: impl FnOnce() -> io::Result<()>) {
        if self.begin() && start_thread().is_err() {
            self.is_running.store(false, Ordering::Relaxed);
            shelves.close_all();
        }
    }

    /// `false` when another thread runs, or is being started.
    fn begin(&self) -> bool {
        !self.is_running.swap(true, Ordering::Relaxed)
    }

    fn run(&self, shelves: &Shelves) {
        loop {
            thread::sleep(PAUSE);
            shelves.begin_interval();
            if shelves.has_idle() {
                continue;
            }
            self.is_running.store(false, Ordering::Relaxed);
            // A thread may have put a pipe on a shelf and have seen this thread just before its end.
            if !shelves.has_idle() || !self.begin() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::kernel::{DEFAULT, Pipe, UNSIZED};
    use crate::pipe::quota;
    use crate::pipe::shelves::OF_BLOCKING_THREADS;

    fn with_an_idle_pipe() -> Shelves {
        let shelves = Shelves::new();
        assert!(quota::reserve(DEFAULT, usize::MAX));
        let pipe = Pipe::make(UNSIZED, DEFAULT).expect("a pipe");
        shelves.count_created(OF_BLOCKING_THREADS);
        shelves.put(OF_BLOCKING_THREADS, Box::new(pipe));
        shelves
    }

    #[test]
    fn idle_pipes_are_closed_at_once_when_no_thread_can_be_started() {
        let sweeper = Sweeper::new();
        let refused = || Err(io::ErrorKind::WouldBlock.into());
        let shelves = with_an_idle_pipe();
        sweeper.start(&shelves, refused);
        assert_eq!(shelves.stats().idle, 0);
        // The next idle pipe is another attempt.
        let shelves = with_an_idle_pipe();
        sweeper.start(&shelves, || Ok(()));
        assert_eq!(shelves.stats().idle, 1);
    }

    #[test]
    fn only_one_thread_is_started() {
        let sweeper = Sweeper::new();
        let shelves = with_an_idle_pipe();
        sweeper.start(&shelves, || Ok(()));
        sweeper.start(&shelves, || unreachable!("a second thread"));
        assert_eq!(shelves.stats().idle, 1);
    }
}
