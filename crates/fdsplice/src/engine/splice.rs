//! Through a pipe, without a copy in user space; a single call where one end is a pipe already.
//!
//! `SPLICE_F_MORE` is never passed on: on the last part it would hold the tail back for about
//! 200 ms, even with `TCP_NODELAY`.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{SpliceFlags, splice};

use crate::pipe::Lease;

/// One call moves at most this many bytes; `splice(2)` refuses `usize::MAX`.
const MOST: usize = 1 << 30;

/// A descriptor, and the file position to use instead of its own.
pub(crate) struct FdAt<'a>(pub(crate) BorrowedFd<'a>, pub(crate) Option<&'a mut u64>);

/// Source → leased pipe, at most `most` bytes.
///
/// The pipe must be empty: a pipe's room is counted in slots, not bytes, so from one that holds
/// something `EAGAIN` may mean either end. With an empty pipe it says something about the source:
/// that it has nothing, or, of a socket, that an out-of-band byte is next, which splice never
/// passes and only `recv(2)` can tell apart. 0 is as ambiguous for a socket: end of input, or the
/// call after a reset.
pub(crate) fn fill(source: FdAt<'_>, lease: &mut Lease, most: usize) -> Result<usize, Errno> {
    debug_assert_eq!(lease.held(), 0, "only an empty pipe is filled");
    let filled = direct(source, FdAt(lease.writer(), None), most)?;
    lease.filled(filled);
    Ok(filled)
}

/// Leased pipe → destination. The pipe holds something, so `EAGAIN` can only mean the destination.
pub(crate) fn drain(lease: &mut Lease, destination: FdAt<'_>) -> Result<usize, Errno> {
    let drained = direct(FdAt(lease.reader(), None), destination, lease.held())?;
    lease.drained(drained);
    Ok(drained)
}

/// Source → destination, one of them a pipe. `EAGAIN` may mean either end.
pub(crate) fn direct(source: FdAt<'_>, destination: FdAt<'_>, most: usize) -> Result<usize, Errno> {
    let (FdAt(from, mut from_position), FdAt(to, mut to_position)) = (source, destination);
    retry_on_intr(|| {
        splice(
            from.as_fd(),
            from_position.as_deref_mut(),
            to.as_fd(),
            to_position.as_deref_mut(),
            most.min(MOST),
            SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
        )
    })
}

/// Whether splice cannot serve these descriptors at all, so that bytes go through a buffer:
/// `EINVAL` (a kind of file without splice, since Linux 5.10 without a generic one too; a target
/// opened with `O_APPEND`), `ENOSYS` (a seccomp filter or another kernel), `EOPNOTSUPP`, `EPERM`
/// (a security policy).
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM
    )
}
