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
