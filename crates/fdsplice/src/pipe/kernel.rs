//! One kernel pipe: made within the budget of this process, sized, and closed.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

use crate::pipe::quota::{self, PipeQuota};

/// The capacity of a new pipe (`pipe(7)`).
pub(super) const DEFAULT: usize = 64 * 1024;
/// The size of leases that want no capacity of their own. No pipe has this capacity.
pub(super) const UNSIZED: usize = 0;
/// How long a refusal of the kernel holds: until then no pipe is made after only very small ones were
/// granted, and no capacity is requested again for a pipe that did not get it.
pub(super) const REFUSED: Duration = Duration::from_millis(500);

/// A pipe, and its capacity in the budget.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reader: OwnedFd,
    pub(super) writer: OwnedFd,
    /// The size of the lease that it was made for, or `UNSIZED`. The kernel may have granted another
    /// capacity.
    pub(super) size: usize,
    /// The capacity that was requested.
    requested: usize,
    /// The capacity that the kernel granted, which is reserved in the budget.
    capacity: usize,
    /// When the kernel last refused the requested capacity.
    refused_at: Option<Instant>,
}

impl Pipe {
    /// Makes a pipe for leases of `size`. `reserved` bytes of the budget become its own.
    ///
    /// # Errors
    /// The kernel makes no pipe (`EMFILE`, `ENFILE`). The reservation is released.
    pub(super) fn make(size: usize, reserved: usize) -> Result<Self, Errno> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .inspect_err(|_| quota::release(reserved))?;
        let mut pipe = Self {
            reader,
            writer,
            size,
            requested: reserved,
            capacity: reserved,
            refused_at: None,
        };
        pipe.resize();
        Ok(pipe)
    }

    /// Requests the capacity. `EPERM`: the pipes of the user's processes exceed the quota. The pipe
    /// still works. Once the quota is used up entirely, a new pipe has room for two pages, and costs
    /// twice as much as a buffer.
    fn resize(&mut self) {
        let granted = fcntl_setpipe_size(&self.writer, self.requested);
        self.refused_at = granted.is_err().then(Instant::now);
        let granted = granted
            .or_else(|_| fcntl_getpipe_size(&self.writer))
            .unwrap_or(DEFAULT);
        quota::adjust(self.capacity, granted);
        self.capacity = granted;
    }

    /// Whether the pipe has room for so few bytes that a buffer is cheaper.
    pub(super) fn is_very_small(&self) -> bool {
        self.capacity < DEFAULT
    }

    /// Requests the capacity again that the kernel refused a while ago. The pipe is empty.
    pub(super) fn retry_refused(&mut self) {
        let missing = self.requested.saturating_sub(self.capacity);
        if missing > 0
            && self.refused_at.is_some_and(|at| at.elapsed() >= REFUSED)
            && quota::reserve(missing, PipeQuota::get().budget)
        {
            self.capacity = self.requested;
            self.resize();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        quota::release(self.capacity);
    }
}
