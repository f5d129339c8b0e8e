//! Splicing: through a leased pipe, or in one call where one end is a pipe already. No byte is
//! copied to user space.
//!
//! `SPLICE_F_MORE` is never set: on the last part it would delay the tail by about 200 ms, even
//! with `TCP_NODELAY`.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{SpliceFlags, splice};

use crate::pipe::Lease;

/// Bytes that one call moves at most; `splice(2)` refuses `usize::MAX`.
const MOST: usize = 1 << 30;

/// A descriptor, and the file position to use instead of its own.
pub(crate) struct FdAt<'a>(pub(crate) BorrowedFd<'a>, pub(crate) Option<&'a mut u64>);

/// Source → leased pipe, at most `most` bytes.
///
/// The pipe must be empty. The room in a pipe is counted in slots, not bytes, so with a pipe that
/// holds bytes `EAGAIN` may come from either end. With an empty pipe it comes from the source:
/// either no bytes are there, or an out-of-band byte is next in the socket, which splice never
/// passes. Only `recv(2)` distinguishes the two. A return of 0 from a socket is also ambiguous: the
/// end of input, or the first call after a reset.
pub(crate) fn fill(source: FdAt<'_>, lease: &mut Lease, most: usize) -> Result<usize, Errno> {
    debug_assert_eq!(lease.held(), 0, "only an empty pipe is filled");
    let filled = direct(source, FdAt(lease.writer(), None), most)?;
    lease.filled(filled);
    Ok(filled)
}

/// Leased pipe → destination. The pipe holds bytes, so `EAGAIN` can only come from the destination.
pub(crate) fn drain(lease: &mut Lease, destination: FdAt<'_>) -> Result<usize, Errno> {
    let drained = direct(FdAt(lease.reader(), None), destination, lease.held())?;
    lease.drained(drained);
    Ok(drained)
}

/// Source → destination, one of them a pipe. `EAGAIN` may come from either end.
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
