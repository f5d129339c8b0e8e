//! The budget of pipe capacity of this process, and how much of it is in use.

use std::fs;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

/// The capacity requested while less than half of the budget is in use. It halves the cost per GiB
/// against the default of 64 KiB.
pub(super) const LARGE: usize = 1024 * 1024;
/// The budget without a quota: enough for every bulk flow that a machine can push at once.
const UNLIMITED_BUDGET: usize = 256 * LARGE;

/// Bytes of capacity of all pipes of this process, leased and idle.
static CAPACITY: AtomicUsize = AtomicUsize::new(0);
static QUOTA: LazyLock<PipeQuota> = LazyLock::new(PipeQuota::read);

/// The limits that the kernel and this process put on pipes.
#[derive(Debug)]
pub(super) struct PipeQuota {
    /// The largest capacity in bytes of one pipe.
    pub(super) max_size: usize,
    /// Bytes of pipe capacity that this process may hold.
    pub(super) budget: usize,
}

impl PipeQuota {
    /// The limits as they were at the first call.
    pub(super) fn get() -> &'static Self {
        &QUOTA
    }

    fn read() -> Self {
        let number =
            |path: &str| -> Option<usize> { fs::read_to_string(path).ok()?.trim().parse().ok() };
        let page = rustix::param::page_size();
        // All processes of a user share the quota, so one process takes at most a quarter of it.
        // 0 means that the administrator set no soft limit.
        let quota = match number("/proc/sys/fs/pipe-user-pages-soft") {
            Some(pages) if pages > 0 && !exempt_from_quota() => pages * page / 4,
            _ => UNLIMITED_BUDGET,
        };
        // A pipe has two descriptors. The budget lets pipes of 1 MiB use at most an eighth of the
        // descriptors of the process. Smaller pipes can use more.
        let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let pipes = usize::try_from(files / 16).unwrap_or(usize::MAX);
        Self {
            max_size: number("/proc/sys/fs/pipe-max-size").unwrap_or(LARGE),
            budget: quota.min(UNLIMITED_BUDGET).min(pipes.saturating_mul(LARGE)),
        }
    }
}

/// The largest capacity, in bytes, that an unprivileged process may request
/// (`/proc/sys/fs/pipe-max-size`, see `pipe(7)`).
pub fn pipe_max_size() -> usize {
    PipeQuota::get().max_size
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

/// Reserves capacity for a new pipe, unless the total would exceed `limit`.
pub(super) fn reserve(capacity: usize, limit: usize) -> bool {
    let before = CAPACITY.fetch_add(capacity, Ordering::Relaxed);
    let fits = before + capacity <= limit;
    if !fits {
        release(capacity);
    }
    fits
}

/// Replaces a reserved capacity with the one that the kernel granted.
pub(super) fn adjust(reserved: usize, granted: usize) {
    CAPACITY.fetch_add(granted, Ordering::Relaxed);
    release(reserved);
}

/// Returns the capacity of a pipe that is closed, or was never made.
pub(super) fn release(capacity: usize) {
    CAPACITY.fetch_sub(capacity, Ordering::Relaxed);
}
