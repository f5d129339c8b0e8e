//! The idle pipes of this process, and the counts of all its pipes.
//!
//! A shelf is a list of idle pipes with a lock of its own. Each thread that runs transfers puts its
//! pipes on one shelf, so that its lock is free and its pipes are warm in the cache of its core. A
//! global lock would make all workers wait for each other. All threads for blocking work share one
//! shelf, because they come and go, and the next step of a copy runs on any of them. No thread owns a
//! pipe: a thread whose shelf is empty takes a pipe from another one.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::pipe::kernel::Pipe;

/// How long an idle pipe is kept.
pub(super) const KEEP: Duration = Duration::from_secs(10);
/// Number of idle pipes that a shelf keeps at most.
const KEPT: usize = 32;
/// The shelf of all threads for blocking work.
pub(super) const OF_BLOCKING_THREADS: usize = 0;
const COUNT: usize = 16;

static SHELVES: [Shelf; COUNT] = [const { Shelf(Mutex::new(Vec::new())) }; COUNT];
static LEASED: AtomicUsize = AtomicUsize::new(0);
static CREATED: AtomicUsize = AtomicUsize::new(0);

/// On a cache line of its own, because another thread locks its neighbour.
#[repr(align(64))]
struct Shelf(Mutex<Vec<Idle>>);

/// An idle pipe.
#[derive(Debug)]
struct Idle {
    // A pipe moves at each lease and return, so it is behind a pointer.
    pipe: Box<Pipe>,
    since: Instant,
}

impl Idle {
    fn is_idle(&self, time: Duration, now: Instant) -> bool {
        now.duration_since(self.since) >= time
    }
}

/// The pipes of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PipeStats {
    /// In use by a transfer.
    pub leased: usize,
    /// Kept for the next lease.
    pub idle: usize,
    /// Made since the process started.
    pub created: usize,
}

/// The pipes of this process, all threads together.
pub fn pipe_stats() -> PipeStats {
    PipeStats {
        leased: LEASED.load(Ordering::Relaxed),
        idle: SHELVES.iter().map(|shelf| lock(shelf).len()).sum(),
        created: CREATED.load(Ordering::Relaxed),
    }
}

pub(super) fn count_created() {
    CREATED.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn count_lease() {
    LEASED.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn count_return() {
    LEASED.fetch_sub(1, Ordering::Relaxed);
}

/// The shelf of this thread, which runs transfers.
pub(super) fn of_this_thread() -> usize {
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(OF_BLOCKING_THREADS) };
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut own = OWN.get();
    if own == OF_BLOCKING_THREADS {
        own = 1 + NEXT.fetch_add(1, Ordering::Relaxed) % (COUNT - 1);
        OWN.set(own);
    }
    own
}

fn lock(shelf: &Shelf) -> MutexGuard<'_, Vec<Idle>> {
    shelf.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an idle pipe of `size` from `shelf`, or from another one that no thread uses now.
pub(super) fn take(shelf: usize, size: Option<usize>) -> Option<Box<Pipe>> {
    let of_size = |mut idle: MutexGuard<'_, Vec<Idle>>| {
        // The pipe that was returned last is warm, and the others grow old.
        let at = idle.iter().rposition(|idle| idle.pipe.size == size)?;
        let last = idle.len() - 1;
        // Without `remove` for the last one, which calls `memmove`.
        let idle = if at == last {
            idle.pop()
        } else {
            Some(idle.remove(at))
        };
        idle.map(|idle| idle.pipe)
    };
    of_size(lock(&SHELVES[shelf])).or_else(|| {
        let others = SHELVES.iter().filter_map(|shelf| shelf.0.try_lock().ok());
        others.into_iter().find_map(of_size)
    })
}

/// Puts an empty pipe on a shelf. A full shelf loses its oldest pipe.
pub(super) fn put(shelf: usize, pipe: Box<Pipe>) {
    let mut idle = lock(&SHELVES[shelf]);
    let oldest = (idle.len() == KEPT).then(|| idle.remove(0));
    let since = Instant::now();
    // The runtime of the sweep may exist without a thread that drives it.
    let is_sweep_late = idle
        .first()
        .is_some_and(|idle| idle.is_idle(2 * KEEP, since));
    idle.push(Idle { pipe, since });
    drop(idle);
    drop(oldest);
    if is_sweep_late {
        close_old(since);
    }
}

pub(super) fn has_idle() -> bool {
    SHELVES.iter().any(|shelf| !lock(shelf).is_empty())
}

/// Closes the pipes that have been idle for a while.
pub(super) fn close_old(now: Instant) {
    close(|idle| idle.is_idle(KEEP, now));
}

/// Closes all idle pipes.
pub(super) fn close_all() {
    close(|_| true);
}

fn close(is_closed: impl Fn(&Idle) -> bool) {
    for shelf in &SHELVES {
        let mut idle = lock(shelf);
        let closed: Vec<_> = idle.extract_if(.., |idle| is_closed(idle)).collect();
        drop(idle);
        // Closing takes a while, so the lock is free again.
        drop(closed);
    }
}

/// Closes one idle pipe, the oldest one of its shelf. `false` when there is none.
pub(super) fn close_one() -> bool {
    SHELVES.iter().any(|shelf| {
        let mut idle = lock(shelf);
        if idle.is_empty() {
            return false;
        }
        let oldest = idle.remove(0);
        drop(idle);
        drop(oldest);
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_keeps_its_shelf_and_never_has_that_of_blocking_threads() {
        let shelves = || {
            std::thread::spawn(|| (of_this_thread(), of_this_thread()))
                .join()
                .expect("a thread")
        };
        for _ in 0..3 * COUNT {
            let (first, again) = shelves();
            assert_eq!(first, again);
            assert!((1..COUNT).contains(&first));
        }
    }
}
