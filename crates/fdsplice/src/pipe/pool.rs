//! The pool of pipes, from which transfers lease one while bytes move in bulk.
//!
//! A pipe is expensive to make: two descriptors, and a megabyte of capacity that counts against a
//! quota shared by all processes of the user. So a transfer leases one when bulk bytes are about to
//! move, and gives it back the moment it is empty. Any thread can give it back, with a runtime or
//! without one. An idle pipe is kept for the next lease for 10 s, and closed at most 5 s later
//! (`sweep`).
//!
//! A transfer that wants a capacity of its own leases from the pipes that were made for that
//! capacity. Requested capacities are rounded up to a power of two, as the kernel does, so at most 20
//! sizes exist, and idle pipes of one size are closed when another size needs their budget.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::io::read;

use crate::pipe::kernel::{DEFAULT, Pipe, REFUSED, UNSIZED};
use crate::pipe::quota::{self, LARGE, PipeQuota};
use crate::pipe::shelves::{OF_BLOCKING_THREADS, PipeStats, Shelves};
use crate::pipe::sweep::Sweeper;

/// The capacity requested after half of the budget is in use. It leaves room for more pipes.
const MEDIUM: usize = 256 * 1024;

static SHELVES: Shelves = Shelves::new();
static SWEEPER: Sweeper = Sweeper::new();

/// The pipes of this process, all threads together.
pub fn pipe_stats() -> PipeStats {
    SHELVES.stats()
}

/// The shelf of this thread, which runs transfers.
fn of_this_thread() -> usize {
    thread_local! {
        // Without a destructor, so that reading it is one load.
        static OWN: Cell<usize> = const { Cell::new(OF_BLOCKING_THREADS) };
        static CLAIM: Claim = Claim(SHELVES.claim());
    }
    let mut own = OWN.get();
    if own == OF_BLOCKING_THREADS {
        // `Err`: the thread is ending, and the destructor of one of its values moves bytes.
        own = CLAIM.try_with(Claim::shelf).unwrap_or(own);
        OWN.set(own);
    }
    own
}

/// The shelf of a thread until the thread ends. `Err`: a shelf that it shares with others.
struct Claim(Result<usize, usize>);

impl Claim {
    fn shelf(&self) -> usize {
        self.0.unwrap_or_else(|shared| shared)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Ok(shelf) = self.0 {
            SHELVES.disclaim(shelf);
        }
    }
}

/// When the kernel last granted only a very small pipe.
fn refused_at() -> MutexGuard<'static, Option<Instant>> {
    static AT: Mutex<Option<Instant>> = Mutex::new(None);
    AT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kind of thread that leases a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Borrower {
    /// A thread that polls transfers.
    Worker,
    /// A thread for blocking work, which comes and goes.
    BlockingThread,
}

/// The size under which the pool keeps pipes of a wanted capacity: the capacity that the kernel makes
/// of it.
fn size_of(wanted: usize) -> usize {
    let most = most();
    let least = rustix::param::page_size().min(most);
    wanted
        .clamp(least, most)
        .checked_next_power_of_two()
        .map_or(most, |size| size.min(most))
}

/// The largest capacity in bytes.
fn most() -> usize {
    PipeQuota::get().max_size.max(DEFAULT)
}

/// Makes a pipe. `None` when the budget is used up, or the kernel refuses (`EMFILE`, `ENFILE`, the
/// quota of the user). The caller then moves its bytes without a pipe.
#[cold]
#[inline(never)]
fn make(size: usize) -> Option<Box<Pipe>> {
    if refused_at().is_some_and(|at| at.elapsed() < REFUSED) {
        return None;
    }
    let pipe = loop {
        if let Ok(pipe) = Pipe::make(size, reserve(size)?) {
            break pipe;
        }
        if !SHELVES.close_one() {
            return None;
        }
    };
    if size == UNSIZED && pipe.is_very_small() {
        *refused_at() = Some(Instant::now());
        return None;
    }
    Some(Box::new(pipe))
}

/// Reserves capacity for a pipe. Idle pipes, all of another size, are closed to make room.
fn reserve(size: usize) -> Option<usize> {
    let budget = PipeQuota::get().budget;
    let most = most();
    let capacities = match size {
        UNSIZED => [(LARGE.min(most), budget / 2), (MEDIUM.min(most), budget)],
        _ => [(size, budget), (size, budget)],
    };
    loop {
        for (capacity, limit) in capacities {
            if quota::reserve(capacity, limit) {
                return Some(capacity);
            }
        }
        if !SHELVES.close_one() {
            return None;
        }
    }
}

/// A pipe on loan from the pool, and how many bytes it holds.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` only while the value is dropped.
    pipe: Option<Box<Pipe>>,
    held: usize,
    /// The shelf to which the pipe is returned.
    shelf: usize,
}

impl Lease {
    /// Takes a pipe from the pool, or makes one. `wanted` is a capacity in bytes.
    pub(crate) fn take(wanted: Option<usize>, borrower: Borrower) -> Option<Self> {
        let size = wanted.map_or(UNSIZED, size_of);
        let shelf = match borrower {
            Borrower::Worker => of_this_thread(),
            Borrower::BlockingThread => OF_BLOCKING_THREADS,
        };
        let pipe = if let Some(mut pipe) = SHELVES.take(shelf, size) {
            pipe.retry_refused();
            pipe
        } else {
            let pipe = make(size)?;
            SHELVES.count_created(shelf);
            pipe
        };
        Some(Self {
            pipe: Some(pipe),
            held: 0,
            shelf,
        })
    }

    pub(crate) fn held(&self) -> usize {
        self.held
    }

    pub(crate) fn filled(&mut self, bytes: usize) {
        self.held += bytes;
    }

    pub(crate) fn drained(&mut self, bytes: usize) {
        self.held -= bytes;
    }

    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.pipe().reader.as_fd()
    }

    pub(crate) fn writer(&self) -> BorrowedFd<'_> {
        self.pipe().writer.as_fd()
    }

    /// The bytes that the pipe holds, in order.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.held];
        let mut filled = 0;
        // Invariant: the pipe holds `held` bytes and no other owner reads it, so a read does not
        // block before `filled == held`.
        while filled < bytes.len() {
            match read(self.reader(), &mut bytes[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        bytes.truncate(filled);
        self.drained(filled);
        bytes
    }

    fn pipe(&self) -> &Pipe {
        self.pipe
            .as_ref()
            .expect("a lease has its pipe until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A pipe that still holds bytes is closed, because the next transfer would send them.
        let Some(pipe) = self.pipe.take().filter(|_| self.held == 0) else {
            SHELVES.count_closed(self.shelf);
            return;
        };
        SHELVES.put(self.shelf, pipe);
        SWEEPER.ensure(&SHELVES);
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::fcntl_getpipe_size;

    use super::*;

    // The pool is common to all tests of this binary. A size that no other test uses makes a test
    // independent of the others.

    fn lease(size: usize) -> Lease {
        Lease::take(Some(size), Borrower::Worker).expect("a pipe")
    }

    fn number(lease: &Lease) -> i32 {
        use std::os::fd::AsRawFd;
        lease.reader().as_raw_fd()
    }

    #[test]
    fn an_empty_pipe_is_leased_again() {
        let first = lease(8 * 1024);
        let pipe = number(&first);
        drop(first);
        let again = lease(8 * 1024);
        assert_eq!((again.held(), number(&again)), (0, pipe));
    }

    #[test]
    fn a_pipe_that_holds_bytes_is_never_leased_again() {
        let mut dirty = lease(16 * 1024);
        dirty.filled(rustix::io::write(dirty.writer(), b"foreign").expect("a write"));
        drop(dirty);
        assert!(SHELVES.take(of_this_thread(), 16 * 1024).is_none());
    }

    #[test]
    fn a_thread_keeps_its_shelf_and_never_has_that_of_blocking_threads() {
        let shelves = || (of_this_thread(), of_this_thread());
        let (first, again) = shelves();
        assert_eq!(first, again);
        let (others, _) = std::thread::spawn(shelves).join().expect("a thread");
        assert!(
            first != others
                && [first, others]
                    .iter()
                    .all(|&own| own != OF_BLOCKING_THREADS)
        );
    }

    #[test]
    fn a_lease_yields_its_bytes_in_order() {
        let mut lease = lease(64 * 1024);
        for part in [b"one ".as_slice(), b"two"] {
            lease.filled(rustix::io::write(lease.writer(), part).expect("a write"));
        }
        assert_eq!(lease.into_bytes(), b"one two");
    }

    #[test]
    fn a_wanted_capacity_is_granted() {
        let lease = lease(128 * 1024);
        assert_eq!(fcntl_getpipe_size(lease.writer()), Ok(128 * 1024));
    }

    #[test]
    fn a_wanted_capacity_is_rounded_as_the_kernel_does() {
        for wanted in [0, 1, 4096, 4097, 50_000, 65_536, 1_000_000, usize::MAX] {
            let size = size_of(wanted);
            let lease = lease(wanted);
            assert_eq!(fcntl_getpipe_size(lease.writer()), Ok(size), "{wanted}");
        }
    }
}
