//! Holes of sparse files. A hole is skipped, not copied, where the destination ends at its
//! position, so that the copy is sparse too.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom, fallocate, fstat, open, seek};
use rustix::io::{Errno, pwrite, retry_on_intr};

use crate::fd::{Descriptor, Status};
use crate::file::range::size;

/// Where the holes of a file are.
#[derive(Debug)]
pub(super) struct Holes {
    /// A description of its own: searching for holes moves the position, and the position of the
    /// caller's descriptor is shared with its other owners.
    file: Descriptor,
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
        let opened = open(path, flags, Mode::empty()).ok()?;
        let file = Descriptor::new(opened, &Status::of(file).ok()?);
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
            Err(Errno::NXIO) => self.hole_to_end(from).map(Extent::Hole),
            Err(_) => None,
        }
    }

    /// The length of the hole from `from` to the end of the file. `None` if `from` is the end.
    ///
    /// Another writer may extend the file between the search and `fstat`, and the new bytes are
    /// data. So the file counts as a hole only if its size is the same before and after the search.
    fn hole_to_end(&self, from: u64) -> Option<u64> {
        let end = size(self.file.as_fd()).ok()?;
        let is_hole = end > from
            && seek(&self.file, SeekFrom::Data(from)) == Err(Errno::NXIO)
            && size(self.file.as_fd()) == Ok(end);
        is_hole.then(|| end - from)
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

/// Extends the destination by a hole from `start` to `end`.
///
/// Another writer may extend the file at the same time, so the size is not set: `ftruncate` would
/// cut off bytes beyond `end`. A zero byte at the last byte of the hole extends the file if it ends
/// before, and never shortens it. The byte belongs to the range of this copy, in which a hole means
/// zeros. `fallocate` would extend the file too, but some file systems do not have it.
///
/// The block of the byte is deallocated, so that the hole takes no space. On a file system that
/// cannot punch holes, each hole keeps one block.
pub(super) fn extend(destination: BorrowedFd<'_>, start: u64, end: u64) -> Result<(), Errno> {
    if start == end {
        return Ok(());
    }
    if retry_on_intr(|| pwrite(destination, &[0], end - 1))? == 0 {
        return Err(Errno::IO);
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let _ = retry_on_intr(|| fallocate(destination, hole, start, end - start));
    Ok(())
}
