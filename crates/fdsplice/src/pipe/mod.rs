//! Kernel pipes, kept in one pool per thread and lent out while bytes move in bulk.
//!
//! A pipe is expensive to make (two descriptors, and a megabyte of room counted against a quota
//! that all processes of the user share), so a transfer only leases one: it takes it when bulk
//! bytes are about to move and gives it back the moment it is empty. The pool is a `thread_local`:
//! no lock, and a pipe stays warm in the cache of the core that used it.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::read;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, sleep};

/// Asked for where there is room: it halves the cost per GiB against the default of 64 KiB.
const LARGE: usize = 1024 * 1024;
/// Asked for once half of the budget is used: more flows find a pipe.
const MEDIUM: usize = 256 * 1024;
/// What the kernel gives without asking (`pipe(7)`).
const DEFAULT: usize = 64 * 1024;
/// How long nothing is asked for after the kernel had only a dwarf of a pipe for us.
const REFUSED: Duration = Duration::from_millis(500);
/// How long an idle pipe is kept.
const KEEP: Duration = Duration::from_secs(10);
/// Without a quota: enough for every bulk flow a machine can push at once.
const UNLIMITED_BUDGET: usize = 256 * LARGE;
/// Pipes a thread keeps for the next lease.
const KEPT: usize = 32;

static LEASED: AtomicUsize = AtomicUsize::new(0);
static IDLE: AtomicUsize = AtomicUsize::new(0);
static CREATED: AtomicUsize = AtomicUsize::new(0);
/// Bytes of capacity of all pipes of this process, leased and idle.
static CAPACITY: AtomicUsize = AtomicUsize::new(0);
static LIMITS: LazyLock<Limits> = LazyLock::new(Limits::read);

thread_local! {
    static POOL: RefCell<Vec<Idle>> = const { RefCell::new(Vec::new()) };
    /// When the kernel last had only a dwarf of a pipe for this thread.
    static REFUSED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether a task closes the pipes of this thread that are idle for long.
    static SWEPT: Cell<bool> = const { Cell::new(false) };
}

#[derive(Debug)]
struct Idle {
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
    since: Instant,
}

impl Drop for Idle {
    fn drop(&mut self) {
        IDLE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Closes what has been idle for long, until nothing is left. Only on a runtime with one thread
/// does a task stay where the pool is; elsewhere idle pipes are closed when others are given back.
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
    /// In use by a transfer at this moment.
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

/// The largest capacity, in bytes, that an unprivileged process may ask for
/// (`/proc/sys/fs/pipe-max-size`, see `pipe(7)`).
pub fn pipe_max_size() -> usize {
    LIMITS.max_size
}

#[derive(Debug)]
struct Limits {
    max_size: usize,
    /// Bytes of pipe capacity this process may hold.
    budget: usize,
}

impl Limits {
    fn read() -> Self {
        let number =
            |path: &str| -> Option<usize> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        let page = rustix::param::page_size();
        // The quota counts for all processes of a user together, so one takes at most a quarter.
        // 0 means that the administrator set no soft limit.
        let quota = match number("/proc/sys/fs/pipe-user-pages-soft") {
            Some(pages) if pages > 0 && !exempt_from_quota() => pages * page / 4,
            _ => UNLIMITED_BUDGET,
        };
        // Two descriptors a pipe: at most an eighth of what the process may open goes into pipes.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let pipes = usize::try_from(files / 16).unwrap_or(usize::MAX);
        Self {
            max_size: number("/proc/sys/fs/pipe-max-size").unwrap_or(LARGE),
            budget: quota.min(UNLIMITED_BUDGET).min(pipes.saturating_mul(LARGE)),
        }
    }
}

/// `CAP_SYS_RESOURCE` or `CAP_SYS_ADMIN` lifts the quota (`pipe(7)`).
fn exempt_from_quota() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    const SYS_RESOURCE: u64 = 1 << 24;
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .is_some_and(|caps| caps & (SYS_ADMIN | SYS_RESOURCE) != 0)
}

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// What it counts in [`CAPACITY`].
    capacity: usize,
}

impl Pipe {
    /// `None` where the budget is used up or the kernel has no pipe for us (`EMFILE`, `ENFILE`, the
    /// user's quota): the caller then moves its bytes without one.
    fn create(wanted: Option<usize>) -> Option<Self> {
        if REFUSED_AT.get().is_some_and(|at| at.elapsed() < REFUSED) {
            return None;
        }
        let most = LIMITS.max_size.max(DEFAULT);
        let capacity = match wanted {
            Some(wanted) => [wanted.clamp(4096, most); 2],
            None => [LARGE.min(most), MEDIUM.min(most)],
        };
        let capacity = if reserve(capacity[0], LIMITS.budget / 2) {
            capacity[0]
        } else if reserve(capacity[1], LIMITS.budget) {
            capacity[1]
        } else {
            return None;
        };
        let Ok((reader, writer)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            CAPACITY.fetch_sub(capacity, Ordering::Relaxed);
            return None;
        };
        // EPERM: other processes of the user have used up the quota. The pipe still works; but once
        // they have used up all of it, it has room for two pages, and costs twice what a buffer does.
        let granted = fcntl_setpipe_size(&writer, capacity)
            .or_else(|_| fcntl_getpipe_size(&writer))
            .unwrap_or(DEFAULT);
        if granted < DEFAULT && wanted.is_none() {
            CAPACITY.fetch_sub(capacity, Ordering::Relaxed);
            REFUSED_AT.set(Some(Instant::now()));
            return None;
        }
        CAPACITY.fetch_add(granted, Ordering::Relaxed);
        CAPACITY.fetch_sub(capacity, Ordering::Relaxed);
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
        CAPACITY.fetch_sub(self.capacity, Ordering::Relaxed);
    }
}

/// Counts the capacity of a pipe to be, unless that would be more than `limit` in all.
fn reserve(capacity: usize, limit: usize) -> bool {
    let before = CAPACITY.fetch_add(capacity, Ordering::Relaxed);
    let fits = before + capacity <= limit;
    if !fits {
        CAPACITY.fetch_sub(capacity, Ordering::Relaxed);
    }
    fits
}

/// A pipe on loan, and how many bytes it holds.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
    held: usize,
    /// A pipe of a size somebody asked for is not what the next borrower expects.
    poolable: bool,
}

impl Lease {
    /// Takes a pipe from this thread's pool or makes one; `wanted` is a capacity in bytes.
    pub(crate) fn take(wanted: Option<usize>) -> Option<Self> {
        let pooled = if wanted.is_none() {
            // The one given back last: it is warm, and the others age.
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

    /// What the pipe holds, in order.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.held];
        let mut filled = 0;
        // Invariant: the pipe holds `held` bytes and nobody else knows it, so a read of it does
        // not block before `filled == held`.
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
        // A pipe that still holds bytes is closed: the next borrower would send them.
        let Some(pipe) = self.pipe.take().filter(|_| self.held == 0 && self.poolable) else {
            return;
        };
        // The pool is gone while its thread ends; the pipe is then closed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                IDLE.fetch_add(1, Ordering::Relaxed);
                let since = Instant::now();
                // The oldest stand first.
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
    fn an_empty_pipe_is_lent_again() {
        let first = Lease::take(None).expect("a pipe");
        let created = pipe_stats().created;
        drop(first);
        let again = Lease::take(None).expect("a pipe");
        assert_eq!(again.held(), 0);
        assert!(pipe_stats().created >= created);
        assert!(POOL.with_borrow(Vec::is_empty));
    }

    #[test]
    fn a_pipe_that_holds_bytes_never_reaches_the_next_borrower() {
        let mut dirty = Lease::take(None).expect("a pipe");
        dirty.filled(rustix::io::write(dirty.writer(), b"foreign").expect("a write"));
        drop(dirty);
        assert!(POOL.with_borrow(Vec::is_empty));
    }

    #[test]
    fn what_a_pipe_holds_comes_out_in_order() {
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
