//! How many bytes of a source a transfer moves: computed from the range that the caller wants and
//! the size of the file.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fstat, open, seek};
use rustix::io::Errno;

use crate::fd::true_size_of;

/// The bytes of a source that are still to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remaining {
    bytes: u64,
    /// Fewer bytes are a failure: the file was truncated.
    exact: bool,
}

impl Remaining {
    pub(crate) fn at_most(bytes: u64) -> Self {
        Self {
            bytes,
            exact: false,
        }
    }

    /// The bytes from `start` to `last` inclusive that a file of `size` bytes has. The file may
    /// grow later; it must not be truncated.
    ///
    /// A file of size 0 is read to its end, because [`true_size`] is 0 where the size is not known.
    pub(crate) fn of_file(start: u64, last: Option<u64>, size: u64) -> Self {
        let exact = size > 0;
        let end = last.map_or(u64::MAX, |last| last.saturating_add(1));
        let end = if exact { end.min(size) } else { end };
        Self {
            bytes: end.saturating_sub(start),
            exact,
        }
    }

    /// Caps the count to the bytes between `start` and the end of a file of `size` bytes.
    #[must_use]
    pub(crate) fn up_to(self, start: u64, size: u64) -> Self {
        Self {
            bytes: self.bytes.min(size.saturating_sub(start)),
            ..self
        }
    }

    pub(crate) fn bytes(self) -> u64 {
        self.bytes
    }

    /// Whether all these bytes were in the file when its size was read.
    pub(crate) fn is_exact(self) -> bool {
        self.exact
    }

    pub(crate) fn take(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }

    /// Whether a file that has ended at `position` was truncated. Files of sysfs report the size of
    /// a page and end earlier, so `size` is read again.
    pub(crate) fn is_truncated(self, position: u64, size: impl FnOnce() -> u64) -> bool {
        self.exact && self.bytes > 0 && size() < position + self.bytes
    }
}

/// The size of the contents of a file or a block device; 0 if it is not known, as for files of procfs
/// and sysfs, whatever size they report.
pub(crate) fn true_size(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        return size(file);
    }
    Ok(true_size_of(file, &stat))
}

/// The size of a file or a block device. `fstat` reports no size for a block device. The device is
/// opened again to seek to its end, so that no other owner's position moves.
pub(crate) fn size(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Ok(u64::try_from(stat.st_size).unwrap_or(0));
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let device = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    seek(device, SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_capped_to_the_file() {
        for (start, last, bytes) in [
            (0, None, 10),
            (3, None, 7),
            (3, Some(5), 3),
            (3, Some(u64::MAX), 7),
            (10, None, 0),
            (u64::MAX, None, 0),
            (5, Some(2), 0),
        ] {
            let remaining = Remaining::of_file(start, last, 10);
            assert_eq!(
                (remaining.bytes(), remaining.is_exact()),
                (bytes, true),
                "{start} to {last:?}"
            );
        }
    }

    #[test]
    fn a_file_without_a_size_is_read_to_its_end() {
        let remaining = Remaining::of_file(0, None, 0);
        assert_eq!((remaining.bytes(), remaining.is_exact()), (u64::MAX, false));
        assert!(!remaining.is_truncated(5, || 0));
        assert_eq!(Remaining::of_file(1, Some(4), 0).bytes(), 4);
    }

    #[test]
    fn only_a_file_that_became_shorter_is_truncated() {
        let mut remaining = Remaining::of_file(2, None, 10);
        remaining.take(3);
        assert!(remaining.is_truncated(5, || 9));
        assert!(!remaining.is_truncated(5, || 10));
        remaining.take(5);
        assert!(!remaining.is_truncated(10, || 0));
        assert!(!Remaining::at_most(10).is_truncated(0, || 0));
    }
}
