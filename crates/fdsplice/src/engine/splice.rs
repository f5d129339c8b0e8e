//! Socket to socket through a pipe, without a copy in user space.
//!
//! `SPLICE_F_MORE` is never passed on: on the last part it would hold the tail back for about
//! 200 ms, even with `TCP_NODELAY`.

use std::os::fd::BorrowedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{SpliceFlags, splice};

use crate::pipe::Lease;

/// One call moves at most this many bytes; `splice(2)` refuses `usize::MAX`.
const MOST: usize = 1 << 30;

/// Socket → pipe, at most `most` bytes.
///
/// The pipe must be empty: a pipe's room is counted in slots, not bytes, so from one that holds
/// something `EAGAIN` may mean either end. With an empty pipe it says something about the source:
/// that it has nothing, or that an out-of-band byte is next, which splice never passes and only
/// `recv(2)` can tell apart. 0 is as ambiguous: end of input, or the call after a reset.
pub(crate) fn fill(source: BorrowedFd<'_>, lease: &mut Lease, most: usize) -> Result<usize, Errno> {
    debug_assert_eq!(lease.held(), 0, "only an empty pipe is filled");
    let filled = retry_on_intr(|| {
        splice(
            source,
            None,
            lease.writer(),
            None,
            most.min(MOST),
            SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
        )
    })?;
    lease.filled(filled);
    Ok(filled)
}

/// Pipe → socket. The pipe holds something, so `EAGAIN` can only mean the destination.
pub(crate) fn drain(lease: &mut Lease, destination: BorrowedFd<'_>) -> Result<usize, Errno> {
    let drained = retry_on_intr(|| {
        splice(
            lease.reader(),
            None,
            destination,
            None,
            lease.held(),
            SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
        )
    })?;
    lease.drained(drained);
    Ok(drained)
}

/// Whether splice cannot serve these descriptors at all, so that bytes go through a buffer:
/// `EINVAL` (a socket family without splice, or a kernel without a generic one), `ENOSYS`
/// (a seccomp filter or another kernel), `EOPNOTSUPP`, `EPERM` (a security policy).
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM
    )
}
