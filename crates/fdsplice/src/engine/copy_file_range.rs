//! File → file inside the file system: a reflink where it has them, holes stay holes.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, SeekFrom, fstat, ftruncate, seek};
use rustix::io::{Errno, retry_on_intr};

/// At most `most` bytes; both positions advance by what was copied. 0: the source ends here.
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

/// Bytes of a hole at `from` that can become one at `to`, because the destination ends at or
/// before it; at most `most`. Moves the source's own position.
pub(crate) fn hole(
    source: BorrowedFd<'_>,
    from: u64,
    destination: BorrowedFd<'_>,
    to: u64,
    most: u64,
) -> u64 {
    let size = |fd| fstat(fd).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    if size(destination) > to {
        return 0;
    }
    let end = match seek(source, SeekFrom::Data(from)) {
        Ok(data) => data,
        // Nothing but a hole until the end.
        Err(Errno::NXIO) => size(source),
        Err(_) => return 0,
    };
    end.saturating_sub(from).min(most)
}

/// Makes the destination end with a hole that reaches to `end`.
pub(crate) fn extend(destination: BorrowedFd<'_>, end: u64) -> Result<(), Errno> {
    retry_on_intr(|| ftruncate(destination, end))
}

/// Whether the file systems cannot do it between them: `EXDEV` (two of them, or procfs), `EINVAL`
/// (a kind without it), `EBADF` (a target opened with `O_APPEND`), `EIO` (some network file
/// systems), `ENOSYS`, `EOPNOTSUPP`, `EPERM`, `ETXTBSY` (a swap file).
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    super::splice::is_unsupported(errno)
        || matches!(errno, Errno::XDEV | Errno::BADF | Errno::IO | Errno::TXTBSY)
}
