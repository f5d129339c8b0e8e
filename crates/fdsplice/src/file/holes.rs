//! Holes of sparse files, which stay holes where the destination ends in front of them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fstat, ftruncate, open, seek};
use rustix::io::{Errno, retry_on_intr};

/// Where the holes of a file are.
#[derive(Debug)]
pub(crate) struct Holes {
    /// A description of its own: looking for holes moves the position, and that of the caller's
    /// descriptor belongs to everybody who shares it.
    file: OwnedFd,
}

/// What there is at a place in a file, and up to where.
pub(crate) enum Extent {
    Hole(u64),
    Data(u64),
}

impl Holes {
    /// `None` for a file without holes, or one that cannot be opened again.
    pub(crate) fn of(file: BorrowedFd<'_>) -> Option<Self> {
        let stat = fstat(file).ok()?;
        // st_blocks counts 512-byte units (`stat(2)`); which integers these two are depends on the platform.
        if i128::from(stat.st_blocks) * 512 >= i128::from(stat.st_size) {
            return None;
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = open(path, flags, Mode::empty()).ok()?;
        Some(Self { file })
    }

    /// What is at `from`; `None` where the file system cannot tell.
    pub(crate) fn extent(&self, from: u64) -> Option<Extent> {
        match seek(&self.file, SeekFrom::Data(from)) {
            Ok(data) if data > from => Some(Extent::Hole(data - from)),
            Ok(_) => {
                let hole = seek(&self.file, SeekFrom::Hole(from)).ok()?;
                (hole > from).then(|| Extent::Data(hole - from))
            }
            // Nothing but a hole until the end, or the end.
            Err(Errno::NXIO) => {
                let end = size(self.file.as_fd());
                (end > from).then(|| Extent::Hole(end - from))
            }
            Err(_) => None,
        }
    }
}

/// Whether a hole can be made at `to`: nothing is there that it would have to replace. Never in a
/// block device, which has no end that moves.
pub(crate) fn ends_before(destination: BorrowedFd<'_>, to: u64) -> bool {
    fstat(destination).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode).is_file()
            && u64::try_from(stat.st_size).is_ok_and(|size| size <= to)
    })
}

/// Makes the destination end with a hole that reaches to `end`.
pub(crate) fn extend(destination: BorrowedFd<'_>, end: u64) -> Result<(), Errno> {
    retry_on_intr(|| ftruncate(destination, end))
}

fn size(file: BorrowedFd<'_>) -> u64 {
    fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0))
}
