//! The ways to move bytes: a few functions on descriptors each. They know nothing of limits,
//! timers or abort; [`direction`](crate::direction) and [`file_copy`](crate::file_copy) decide
//! when, an engine does it.

pub(crate) mod copy_file_range;
pub(crate) mod read_write;
pub(crate) mod sendfile;
pub(crate) mod splice;

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Whether a source can be read from and a destination written to at this moment. Where one call serves both ends, this tells which of them its `EAGAIN` was about.
pub(crate) fn readiness(
    source: BorrowedFd<'_>,
    destination: BorrowedFd<'_>,
) -> Result<(bool, bool), Errno> {
    let mut ends = [
        PollFd::from_borrowed_fd(source, PollFlags::IN),
        PollFd::from_borrowed_fd(destination, PollFlags::OUT),
    ];
    rustix::io::retry_on_intr(|| poll(&mut ends, Some(&Timespec::default())))?;
    // Errors and hang-ups count as ready: the next call tells what they are.
    Ok((!ends[0].revents().is_empty(), !ends[1].revents().is_empty()))
}
