//! The idle pipes of this process, and the counts of all its pipes.
//!
//! A shelf is a list of idle pipes with a lock of its own. Each thread that runs transfers has a shelf
//! for itself, so that its lock is free and its pipes are warm in the cache of its core. A global lock
//! would make all workers wait for each other. When a thread ends, its shelf goes to the next thread
//! that starts; more threads than shelves share some. All threads for blocking work share one shelf,
//! because they come and go, and the next step of a copy runs on any of them. No thread owns a pipe: a
//! thread whose shelf is empty takes a pipe from another one.
//!
//! Time passes here in intervals, which the sweep counts. A return of a pipe reads their number instead
//! of a clock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pipe::kernel::Pipe;

/// Number of whole intervals for which an idle pipe is kept.
pub(super) const INTERVALS: u64 = 2;
/// Number of idle pipes that a shelf keeps at most.
const KEPT: usize = 32;
/// The shelf of all threads for blocking work.
pub(super) const OF_BLOCKING_THREADS: usize = 0;
/// One for each bit of `Shelves::owned`.
const COUNT: usize = 64;

/// On a cache line of its own, because another thread locks its neighbour.
#[repr(align(64))]
struct Shelf(Mutex<Contents>);

/// What the lock of a shelf protects.
struct Contents {
    /// Idle pipes, the oldest first.
    idle: Vec<Idle>,
    /// Pipes on loan that will be returned to this shelf.
    leased: usize,
}

/// An idle pipe.
struct Idle {
    // A pipe moves at each lease and return, so it is behind a pointer.
    pipe: Box<Pipe>,
    /// As in the pipe, which a search for a size need not read.
    size: usize,
    /// The interval in which it was returned.
    since: u64,
}

impl Shelf {
    const fn new() -> Self {
        Self(Mutex::new(Contents {
            idle: Vec::new(),
            leased: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn take(&mut self, size: usize) -> Option<Box<Pipe>> {
        // The pipe that was returned last is warm, and the others grow old.
        if let Some(last) = self.idle.pop_if(|last| last.size == size) {
            return Some(last.pipe);
        }
        self.take_from_below(size)
    }

    #[cold]
    #[inline(never)]
    fn take_from_below(&mut self, size: usize) -> Option<Box<Pipe>> {
        let found = self.idle.iter().rposition(|idle| idle.size == size)?;
        Some(self.idle.remove(found).pipe)
    }

    #[cold]
    #[inline(never)]
    fn remove_oldest(&mut self) -> Idle {
        self.idle.remove(0)
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

/// All shelves. The process has one such value; tests have their own.
pub(super) struct Shelves {
    all: [Shelf; COUNT],
    /// The shelves that a running thread has for itself, and the one of blocking threads: a bit each.
    owned: AtomicU64,
    /// The shelves from here on were never used.
    used: AtomicUsize,
    /// The current interval.
    interval: AtomicU64,
    created: AtomicUsize,
}

impl Shelves {
    pub(super) const fn new() -> Self {
        Self {
            all: [const { Shelf::new() }; COUNT],
            owned: AtomicU64::new(1 << OF_BLOCKING_THREADS),
            used: AtomicUsize::new(OF_BLOCKING_THREADS + 1),
            interval: AtomicU64::new(0),
            created: AtomicUsize::new(0),
        }
    }

    /// Gives a thread the first free shelf. `Err`: no shelf is free, and the thread shares this one.
    pub(super) fn claim(&self) -> Result<usize, usize> {
        let claimed = self
            .owned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owned| {
                (owned != u64::MAX).then(|| owned | (owned + 1))
            });
        let Ok(owned) = claimed else {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            return Err(1 + NEXT.fetch_add(1, Ordering::Relaxed) % (COUNT - 1));
        };
        let free = owned.trailing_ones() as usize;
        self.used.fetch_max(free + 1, Ordering::Relaxed);
        Ok(free)
    }

    /// Frees the shelf of a thread that ends. Its pipes stay there.
    pub(super) fn disclaim(&self, at: usize) {
        self.owned.fetch_and(!(1 << at), Ordering::Relaxed);
    }

    pub(super) fn stats(&self) -> PipeStats {
        let mut stats = PipeStats {
            created: self.created.load(Ordering::Relaxed),
            ..PipeStats::default()
        };
        for shelf in self.used() {
            let contents = shelf.lock();
            stats.leased += contents.leased;
            stats.idle += contents.idle.len();
        }
        stats
    }

    fn used(&self) -> &[Shelf] {
        &self.all[..self.used.load(Ordering::Relaxed)]
    }

    /// Takes an idle pipe of `size` from `shelf`, or from another one that no thread uses now.
    pub(super) fn take(&self, at: usize, size: usize) -> Option<Box<Pipe>> {
        let mut own = self.all[at].lock();
        let pipe = own.take(size).or_else(|| self.take_from_others(size))?;
        own.leased += 1;
        Some(pipe)
    }

    /// The caller holds the lock of its own shelf, so this waits for no other.
    #[cold]
    #[inline(never)]
    fn take_from_others(&self, size: usize) -> Option<Box<Pipe>> {
        self.used()
            .iter()
            .filter_map(|shelf| shelf.0.try_lock().ok())
            .find_map(|mut contents| contents.take(size))
    }

    /// Counts a new pipe, on loan from `shelf`.
    pub(super) fn count_created(&self, at: usize) {
        self.created.fetch_add(1, Ordering::Relaxed);
        self.all[at].lock().leased += 1;
    }

    /// Returns an empty pipe to its shelf. A full shelf loses its oldest pipe.
    pub(super) fn put(&self, at: usize, pipe: Box<Pipe>) {
        let mut contents = self.all[at].lock();
        contents.leased -= 1;
        let oldest = (contents.idle.len() == KEPT).then(|| contents.remove_oldest());
        contents.idle.push(Idle {
            size: pipe.size,
            pipe,
            since: self.interval.load(Ordering::Relaxed),
        });
        drop(contents);
        drop(oldest);
    }

    /// Counts a pipe from `shelf` that is not returned.
    pub(super) fn count_closed(&self, at: usize) {
        self.all[at].lock().leased -= 1;
    }

    /// Whether there is an idle pipe on any shelf. This and `close` also look at the shelves
    /// behind `used`: another thread may have raised it just now, and only the locks order what the two
    /// threads see.
    pub(super) fn has_idle(&self) -> bool {
        self.all.iter().any(|shelf| !shelf.lock().idle.is_empty())
    }

    /// Begins the next interval, and closes the pipes that have been idle for `INTERVALS` whole ones.
    pub(super) fn begin_interval(&self) {
        let now = 1 + self.interval.fetch_add(1, Ordering::Relaxed);
        self.close(|idle| now - idle.since > INTERVALS);
    }

    /// Closes all idle pipes.
    pub(super) fn close_all(&self) {
        self.close(|_| true);
    }

    fn close(&self, is_closed: impl Fn(&Idle) -> bool) {
        for shelf in &self.all {
            let mut contents = shelf.lock();
            let closed: Vec<_> = contents
                .idle
                .extract_if(.., |idle| is_closed(idle))
                .collect();
            drop(contents);
            // Closing takes a while, so the lock is free again.
            drop(closed);
        }
    }

    /// Closes one idle pipe, the oldest one of its shelf. `false` when there is none.
    pub(super) fn close_one(&self) -> bool {
        self.used().iter().any(|shelf| {
            let mut contents = shelf.lock();
            if contents.idle.is_empty() {
                return false;
            }
            let oldest = contents.remove_oldest();
            drop(contents);
            drop(oldest);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::kernel::{DEFAULT, UNSIZED};
    use crate::pipe::quota;

    fn put_new(shelves: &Shelves, shelf: usize, size: usize) {
        assert!(quota::reserve(DEFAULT, usize::MAX));
        let pipe = Pipe::make(size, DEFAULT).expect("a pipe");
        shelves.count_created(shelf);
        shelves.put(shelf, Box::new(pipe));
    }

    #[test]
    fn each_thread_has_a_shelf_for_itself_until_it_ends() {
        let shelves = Shelves::new();
        let claimed: Vec<_> = (1..COUNT).map(|_| shelves.claim()).collect();
        assert_eq!(claimed, (1..COUNT).map(Ok).collect::<Vec<_>>());
        for _ in 0..2 * COUNT {
            let shared = shelves.claim().expect_err("all shelves have an owner");
            assert!((1..COUNT).contains(&shared));
        }
        shelves.disclaim(7);
        assert_eq!(shelves.claim(), Ok(7));
    }

    #[test]
    fn a_thread_whose_shelf_has_no_pipe_of_the_size_takes_one_from_another_shelf() {
        let shelves = Shelves::new();
        let (own, other) = (shelves.claim().unwrap_or(1), shelves.claim().unwrap_or(2));
        put_new(&shelves, own, 4096);
        put_new(&shelves, other, UNSIZED);
        let taken = shelves
            .take(own, UNSIZED)
            .expect("the pipe of the other shelf");
        assert!(shelves.take(own, UNSIZED).is_none());
        assert_eq!((taken.size, shelves.stats().leased), (UNSIZED, 1));
        shelves.put(own, taken);
        let stats = shelves.stats();
        assert_eq!((stats.leased, stats.idle, stats.created), (0, 2, 2));
    }

    #[test]
    fn a_pipe_is_kept_for_two_whole_intervals_and_closed_after_the_third_begins() {
        let shelves = Shelves::new();
        put_new(&shelves, OF_BLOCKING_THREADS, UNSIZED);
        let after = |_| {
            shelves.begin_interval();
            shelves.stats().idle
        };
        assert_eq!([1, 2, 3].map(after), [1, 1, 0]);
        // The age counts from the return, in whatever interval that is.
        put_new(&shelves, OF_BLOCKING_THREADS, UNSIZED);
        assert_eq!([1, 2].map(after), [1, 1]);
        let used = shelves
            .take(OF_BLOCKING_THREADS, UNSIZED)
            .expect("the pipe");
        shelves.put(OF_BLOCKING_THREADS, used);
        assert_eq!([1, 2, 3].map(after), [1, 1, 0]);
        assert!(!shelves.has_idle());
    }

    #[test]
    fn a_pipe_is_found_on_a_shelf_whose_claim_is_not_visible_yet() {
        let shelves = Shelves::new();
        put_new(&shelves, 7, UNSIZED);
        assert!(shelves.has_idle());
        shelves.close_all();
        assert!(!shelves.has_idle());
    }

    #[test]
    fn a_full_shelf_loses_its_oldest_pipe() {
        let shelves = Shelves::new();
        put_new(&shelves, OF_BLOCKING_THREADS, 4096);
        for _ in 0..KEPT {
            put_new(&shelves, OF_BLOCKING_THREADS, UNSIZED);
        }
        assert_eq!(shelves.stats().idle, KEPT);
        assert!(shelves.take(OF_BLOCKING_THREADS, 4096).is_none());
    }
}
