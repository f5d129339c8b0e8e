//! Holes of sparse files. A hole is skipped, not copied, where the destination ends at its
//! position, so that the copy is sparse too.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fstat, ftruncate, open, seek};
use rustix::io::{Errno, retry_on_intr};

use crate::file::range::size;

/// Where the holes of a file are.
#[derive(Debug)]
pub(super) struct Holes {
    /// A description of its own: searching for holes moves the position, and the position of the
    /// caller's descriptor is shared with its other owners.
    file: OwnedFd,
}

/// A run of bytes of one kind at a position in a file, with its length.
pub(super) enum Extent {
    Hole(u64),
    Data(u64),
}

impl Holes {
    /// `None` for a file without holes, or one that cannot be opened again.
    pub(super) fn of(file: BorrowedFd<'_>) -> Option<Self> {
        let stat = fstat(file).ok()?;
        // st_blocks counts 512-byte units (`stat(2)`). The integer types of both depend on the
        // platform.
        if i128::from(stat.st_blocks) * 512 >= i128::from(stat.st_size) {
            return None;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open(path, flags, Mode::empty()).ok()?;
        Some(Self { file })
    }

    /// The extent at `from`; `None` where the file system does not report it.
    pub(super) fn extent(&self, from: u64) -> Option<Extent> {
        match seek(&self.file, SeekFrom::Data(from)) {
            Ok(data) if data > from => Some(Extent::Hole(data - from)),
            Ok(_) => {
                let hole = seek(&self.file, SeekFrom::Hole(from)).ok()?;
                (hole > from).then(|| Extent::Data(hole - from))
            }
            // Only a hole follows until the end, or `from` is the end.
            Err(Errno::NXIO) => {
                let end = size(self.file.as_fd()).unwrap_or(0);
                (end > from).then(|| Extent::Hole(end - from))
            }
            Err(_) => None,
        }
    }
}

/// Whether `position` is at or past the end of a regular file, so that a hole made there replaces
/// no bytes. `false` for a block device, whose end cannot move.
pub(super) fn is_past_eof(destination: BorrowedFd<'_>, position: u64) -> bool {
    fstat(destination).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode).is_file()
            && u64::try_from(stat.st_size).is_ok_and(|size| size <= position)
    })
}

/// Extends the destination to `end` with a hole.
pub(super) fn extend(destination: BorrowedFd<'_>, end: u64) -> Result<(), Errno> {
    retry_on_intr(|| ftruncate(destination, end))
}
