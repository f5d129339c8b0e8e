//! File → socket in one call, without a pipe.

use std::os::fd::BorrowedFd;

use rustix::fs;
use rustix::io::{Errno, retry_on_intr};

/// At most `most` bytes from `position` on, which advances by what was sent. 0: the file ends
/// here, or has become shorter.
pub(crate) fn sendfile(
    source: BorrowedFd<'_>,
    position: &mut u64,
    destination: BorrowedFd<'_>,
    most: usize,
) -> Result<usize, Errno> {
    retry_on_intr(|| fs::sendfile(destination, source, Some(position), most))
}

/// Whether sendfile cannot serve these descriptors at all: `EINVAL` (a source that cannot be
/// mapped, as in procfs), `ENOSYS`, `EOPNOTSUPP`, `EPERM` (a security policy).
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    super::splice::is_unsupported(errno)
}
