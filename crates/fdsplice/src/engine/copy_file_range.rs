//! File → file inside the file system, which shares blocks (a reflink) where it can.

use std::os::fd::BorrowedFd;

use rustix::fs;
use rustix::io::{Errno, retry_on_intr};

/// Copies at most `most` bytes and advances both positions by the bytes copied. Returns 0 at the
/// end of the source.
pub(crate) fn copy_file_range(
    source: BorrowedFd<'_>,
    from: &mut u64,
    destination: BorrowedFd<'_>,
    to: &mut u64,
    most: usize,
) -> Result<usize, Errno> {
    retry_on_intr(|| {
        fs::copy_file_range(source, Some(&mut *from), destination, Some(&mut *to), most)
    })
}

/// Whether the call cannot serve this pair of files: `EXDEV` (two file systems, or procfs),
/// `EINVAL` (a kind of file without it), `EBADF` (a target opened with `O_APPEND`), `EIO` (some
/// network file systems), `ENOSYS`, `EOPNOTSUPP`, `EPERM`, `ETXTBSY` (a swap file).
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    super::splice::is_unsupported(errno)
        || matches!(errno, Errno::XDEV | Errno::BADF | Errno::IO | Errno::TXTBSY)
}
