//! The pool of pipes of each thread, from which transfers lease one while bytes move in bulk.
//!
//! A pipe is expensive to make: two descriptors, and a megabyte of capacity that counts against a
//! quota shared by all processes of the user. So a transfer leases one when bulk bytes are about to
//! move, and gives it back the moment it is empty. The pool is a `thread_local`: there is no lock,
//! and a pipe stays warm in the cache of the core that used it.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::read;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, sleep};

use crate::pipe::quota::{self, LARGE, PipeQuota};

/// The capacity requested after half of the budget is in use. It leaves room for more pipes.
const MEDIUM: usize = 256 * 1024;
/// The capacity of a new pipe (`pipe(7)`).
const DEFAULT: usize = 64 * 1024;
/// How long no pipe is made after the kernel granted only a very small one.
const REFUSED: Duration = Duration::from_millis(500);
/// How long an idle pipe is kept.
const KEEP: Duration = Duration::from_secs(10);
/// How many pipes a thread keeps for the next lease.
const KEPT: usize = 32;

static LEASED: AtomicUsize = AtomicUsize::new(0);
static IDLE: AtomicUsize = AtomicUsize::new(0);
static CREATED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: RefCell<Vec<Idle>> = const { RefCell::new(Vec::new()) };
    /// When the kernel last granted this thread only a very small pipe.
    static REFUSED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether a task runs that closes the old idle pipes of this thread.
    static SWEPT: Cell<bool> = const { Cell::new(false) };
}

/// A pipe in the pool.
#[derive(Debug)]
struct Idle {
    /// `None` only while the value is dropped.
    pipe: Option<Pipe>,
    since: Instant,
}

impl Drop for Idle {
    fn drop(&mut self) {
        IDLE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts a task that closes old idle pipes until the pool is empty. A task stays on the thread of
/// the pool only in a current-thread runtime. In other runtimes, old pipes are closed when another
/// one is given back.
fn sweep() {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if runtime.runtime_flavor() != RuntimeFlavor::CurrentThread || SWEPT.replace(true) {
        return;
    }
    runtime.spawn(async {
        while !POOL.with_borrow(Vec::is_empty) {
            sleep(KEEP / 2).await;
            let now = Instant::now();
            POOL.with_borrow_mut(|pool| pool.retain(|idle| !idle.is_old(now)));
        }
        SWEPT.set(false);
    });
}

impl Idle {
    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= KEEP
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
        idle: IDLE.load(Ordering::Relaxed),
        created: CREATED.load(Ordering::Relaxed),
    }
}

/// The largest capacity, in bytes, that an unprivileged process may request
/// (`/proc/sys/fs/pipe-max-size`, see `pipe(7)`).
pub fn pipe_max_size() -> usize {
    PipeQuota::get().max_size
}

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// The capacity that is reserved in the budget.
    capacity: usize,
}

impl Pipe {
    /// `None` when the budget is used up, or the kernel refuses (`EMFILE`, `ENFILE`, the quota of the
    /// user). The caller then moves its bytes without a pipe.
    fn create(wanted: Option<usize>) -> Option<Self> {
        if REFUSED_AT.get().is_some_and(|at| at.elapsed() < REFUSED) {
            return None;
        }
        let PipeQuota { max_size, budget } = *PipeQuota::get();
        let most = max_size.max(DEFAULT);
        let capacity = match wanted {
            Some(wanted) => [wanted.clamp(4096, most); 2],
            None => [LARGE.min(most), MEDIUM.min(most)],
        };
        let capacity = if quota::reserve(capacity[0], budget / 2) {
            capacity[0]
        } else if quota::reserve(capacity[1], budget) {
            capacity[1]
        } else {
            return None;
        };
        let Ok((reader, writer)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            quota::release(capacity);
            return None;
        };
        // EPERM: the pipes of the user's processes exceed the quota. The pipe still works. Once the
        // quota is used up entirely, a new pipe has room for two pages, and costs twice as much as
        // a buffer.
        let granted = fcntl_setpipe_size(&writer, capacity)
            .or_else(|_| fcntl_getpipe_size(&writer))
            .unwrap_or(DEFAULT);
        if granted < DEFAULT && wanted.is_none() {
            quota::release(capacity);
            REFUSED_AT.set(Some(Instant::now()));
            return None;
        }
        quota::adjust(capacity, granted);
        CREATED.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            reader,
            writer,
            capacity: granted,
        })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        quota::release(self.capacity);
    }
}

/// A pipe on loan from the pool, and how many bytes it holds.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` only while the value is dropped.
    pipe: Option<Pipe>,
    held: usize,
    /// Whether the pool may keep the pipe. A transfer that wanted a size of its own gets a pipe that
    /// no other transfer expects.
    poolable: bool,
}

impl Lease {
    /// Takes a pipe from the pool of this thread, or makes one. `wanted` is a capacity in bytes.
    pub(crate) fn take(wanted: Option<usize>) -> Option<Self> {
        let pooled = if wanted.is_none() {
            // The pipe that was given back last is warm, and the others grow old.
            POOL.with_borrow_mut(Vec::pop)
        } else {
            None
        };
        let pipe = match pooled.and_then(|mut idle| idle.pipe.take()) {
            Some(pipe) => pipe,
            None => Pipe::create(wanted)?,
        };
        LEASED.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            pipe: Some(pipe),
            held: 0,
            poolable: wanted.is_none(),
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
        LEASED.fetch_sub(1, Ordering::Relaxed);
        // A pipe that still holds bytes is closed, because the next transfer would send them.
        let Some(pipe) = self.pipe.take().filter(|_| self.held == 0 && self.poolable) else {
            return;
        };
        // The pool no longer exists while its thread ends. The pipe is then closed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                IDLE.fetch_add(1, Ordering::Relaxed);
                let since = Instant::now();
                // The oldest pipe is the first one.
                if pool.first().is_some_and(|oldest| oldest.is_old(since)) {
                    pool.retain(|idle| !idle.is_old(since));
                }
                let pipe = Some(pipe);
                pool.push(Idle { pipe, since });
            }
        });
        sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pipe_is_leased_again() {
        let first = Lease::take(None).expect("a pipe");
        let created = pipe_stats().created;
        drop(first);
        let again = Lease::take(None).expect("a pipe");
        assert_eq!(again.held(), 0);
        assert!(pipe_stats().created >= created);
        assert!(POOL.with_borrow(Vec::is_empty));
    }

    #[test]
    fn a_pipe_that_holds_bytes_is_never_leased_again() {
        let mut dirty = Lease::take(None).expect("a pipe");
        dirty.filled(rustix::io::write(dirty.writer(), b"foreign").expect("a write"));
        drop(dirty);
        assert!(POOL.with_borrow(Vec::is_empty));
    }

    #[test]
    fn a_lease_yields_its_bytes_in_order() {
        let mut lease = Lease::take(None).expect("a pipe");
        for part in [b"one ".as_slice(), b"two"] {
            lease.filled(rustix::io::write(lease.writer(), part).expect("a write"));
        }
        assert_eq!(lease.into_bytes(), b"one two");
    }

    #[test]
    fn a_wanted_capacity_is_granted() {
        let lease = Lease::take(Some(128 * 1024)).expect("a pipe");
        assert_eq!(fcntl_getpipe_size(lease.writer()), Ok(128 * 1024));
    }
}
