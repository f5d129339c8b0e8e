//! File → file inside the file system: a reflink where it has them.

use std::os::fd::BorrowedFd;

use rustix::fs;
use rustix::io::{Errno, retry_on_intr};

/// FdAt most `most` bytes; both positions advance by what was copied. 0: the source ends here.
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

/// Whether the file systems cannot do it between them: `EXDEV` (two of them, or procfs), `EINVAL`
/// (a kind without it), `EBADF` (a target opened with `O_APPEND`), `EIO` (some network file
/// systems), `ENOSYS`, `EOPNOTSUPP`, `EPERM`, `ETXTBSY` (a swap file).
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    super::splice::is_unsupported(errno)
        || matches!(errno, Errno::XDEV | Errno::BADF | Errno::IO | Errno::TXTBSY)
}
