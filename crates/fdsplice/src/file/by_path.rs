//! Files that the core opens by their paths for a copy. If both ends are paths, one call opens both, and
//! it also copies a small file and closes both.

use std::os::fd::{AsFd, OwnedFd};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Mode, OFlags, Stat, copy_file_range, fstat, ftruncate, open, stat};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};

use crate::error::{EndpointError, Side};
use crate::fd::{Endpoint, Status, true_size_of};
use crate::threads::{BackgroundCall, Lane};
use crate::traffic::Control;

/// The largest part that the opening call copies. The copy of a larger part costs much more than the
/// additional trips to another thread.
const SMALL: u64 = 1024 * 1024;
/// The largest part that is read and written. A larger one goes through `copy_file_range`, which copies
/// nothing on file systems that share blocks (`docs/decisions/copies-by-path.md`).
const READ: u64 = 64 * 1024;

/// The part of a file that a copy takes, and the place where it goes.
#[derive(Clone, Copy, Debug)]
pub struct CopyRange {
    /// First byte to read.
    pub start: u64,
    /// First byte to write.
    pub position: u64,
    /// At most this many bytes; `None`: until the end of the source.
    pub length: Option<u64>,
    /// Whether all bytes pass through a buffer.
    pub copy_only: bool,
}

/// The ends of a copy that are given as paths.
///
/// Files are opened with `O_NONBLOCK`, so that a FIFO does not wait for its other end. Only regular files
/// are accepted.
#[derive(Debug, Default)]
pub struct CopyPaths {
    source: Option<PathBuf>,
    destination: Option<PathBuf>,
    /// The file that is the source, if it is open already.
    source_identity: Option<(u64, u64)>,
    keeps_contents: bool,
    small: Option<CopyRange>,
    control: Control,
}

/// The result of opening [`CopyPaths`].
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenedPaths {
    /// The file was small. It was copied, and both files are closed.
    Copied {
        /// Bytes written.
        bytes: u64,
        /// Whether none of them passed through user space.
        zero_copy: bool,
    },
    /// The ends that were given as paths, with their positions at 0. The whole range is still to be
    /// copied. An attempt to copy it in the opening call may have written a part, which is written again.
    Open {
        /// The source.
        source: Option<Endpoint>,
        /// The destination.
        destination: Option<Endpoint>,
    },
}

/// A path that cannot be an end of a copy.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PathError {
    /// The end that the path was given for.
    pub side: Side,
    /// The reason.
    pub error: EndpointError,
}

impl CopyPaths {
    /// Without a path yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The path of the source.
    #[must_use]
    pub fn source(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Some(path.into());
        self
    }

    /// The path of the destination. The file is created with mode 0666 minus the umask if it is missing.
    #[must_use]
    pub fn destination(mut self, path: impl Into<PathBuf>) -> Self {
        self.destination = Some(path.into());
        self
    }

    /// The source of the copy, if it is open already. A destination that is the same file is refused
    /// before it is truncated.
    #[must_use]
    pub fn reads_from(mut self, source: &Endpoint) -> Self {
        self.source_identity = Status::of(source).ok().map(|status| status.identity);
        self
    }

    /// Whether the destination is not truncated. It may then be the source too.
    #[must_use]
    pub fn keep_contents(mut self, keep: bool) -> Self {
        self.keeps_contents = keep;
        self
    }

    /// Copies this range in the opening call if it is small: at most 1 MiB without holes, between two
    /// paths.
    #[must_use]
    pub fn copy_if_small(mut self, range: CopyRange) -> Self {
        self.small = Some(range);
        self
    }

    /// The handle to abort the call. After an abort, nothing more is opened, created or truncated.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }

    /// Opens the source, then the destination. May block. After a failure of the source, the destination
    /// was neither created nor truncated.
    ///
    /// # Errors
    /// [`EndpointError::System`], and [`EndpointError::Unsupported`] if a path does not name a regular
    /// file, or if the destination is the source and would be truncated. Nothing was truncated then.
    pub fn open(&self) -> Result<OpenedPaths, PathError> {
        let source = self.source.as_deref().map(open_source);
        let source = source.transpose().map_err(at(Side::Source))?;
        if self.control.is_aborted() {
            return Err(at(Side::Source)(failed("open")(Errno::CANCELED)));
        }
        let identity = match &source {
            Some((_, found)) => Some((found.st_dev, found.st_ino)),
            None => self.source_identity,
        };
        let destination = self
            .destination
            .as_deref()
            .map(|path| self.open_destination(path, identity));
        let destination = destination.transpose().map_err(at(Side::Destination))?;
        if let (Some((from, found)), Some((to, same))) = (&source, &destination)
            && let Some(range) = self.small
            && !same
            && !self.control.is_aborted()
        {
            let copied = self.copy_small(from, found, to, range);
            if let Some(copied) = copied.map_err(at(Side::Destination))? {
                return Ok(copied);
            }
        }
        let endpoint = |fd: Option<OwnedFd>, side| {
            let opened = fd.map(Endpoint::try_from).transpose();
            opened.map_err(at(side))
        };
        Ok(OpenedPaths::Open {
            source: endpoint(source.map(|(fd, _)| fd), Side::Source)?,
            destination: endpoint(destination.map(|(fd, _)| fd), Side::Destination)?,
        })
    }

    /// As [`CopyPaths::open`], on a thread of the core, from which `opened` is called with the result.
    ///
    /// # Errors
    /// [`EndpointError::System`] when no thread can be started. `opened` is then dropped.
    pub fn open_in_background(
        self,
        opened: impl FnOnce(Result<OpenedPaths, PathError>) + Send + 'static,
    ) -> Result<BackgroundCall, EndpointError> {
        let lane = self.lane();
        // A panic must not keep `opened` from being called.
        let open = move || {
            catch_unwind(std::panic::AssertUnwindSafe(|| self.open()))
                .unwrap_or_else(|_| Err(at(Side::Source)(failed("open")(Errno::IO))))
        };
        BackgroundCall::start(lane, open, opened).map_err(failed("clone"))
    }

    /// The lane of the folders together, because the file system of either may stop answering.
    fn lane(&self) -> Lane {
        let lane = |path: &PathBuf| match Lane::of_path(path) {
            Lane::Folder(hash) => hash,
            Lane::Files(..) => 0,
        };
        let [source, destination] =
            [&self.source, &self.destination].map(|path| path.as_ref().map_or(0, lane));
        Lane::Folder(source ^ destination.rotate_left(1))
    }

    /// Opens the destination. Also returns whether it is the source.
    fn open_destination(
        &self,
        path: &Path,
        source: Option<(u64, u64)>,
    ) -> Result<(OwnedFd, bool), EndpointError> {
        let (fd, found) = open_regular(path, OFlags::WRONLY | OFlags::CREATE)?;
        let is_source = source == Some((found.st_dev, found.st_ino));
        if self.keeps_contents {
            return Ok((fd, is_source));
        }
        if is_source {
            return Err(EndpointError::Unsupported {
                expected: "another file",
                found: SOURCE_ITSELF,
            });
        }
        if self.control.is_aborted() {
            return Err(failed("open")(Errno::CANCELED));
        }
        // O_TRUNC would truncate a file that is the source.
        if found.st_size > 0 {
            retry_on_intr(|| ftruncate(&fd, 0)).map_err(failed("ftruncate"))?;
        }
        Ok((fd, false))
    }
}

impl CopyPaths {
    /// Copies a small range. `None` if it is not small, or not copied as far as the size of the source
    /// promised: an ordinary copy of the same range then follows, and reports what fails. It copies less if
    /// the source has become shorter meanwhile, so a truncated destination is made empty again.
    fn copy_small(
        &self,
        source: &OwnedFd,
        found: &Stat,
        destination: &OwnedFd,
        range: CopyRange,
    ) -> Result<Option<OpenedPaths>, EndpointError> {
        let copied = self.try_small(source, found, destination, range);
        if copied.is_none() && !self.keeps_contents {
            let written = fstat(destination).map_err(failed("fstat"))?.st_size;
            if written > 0 {
                retry_on_intr(|| ftruncate(destination, 0)).map_err(failed("ftruncate"))?;
            }
        }
        Ok(copied)
    }

    fn try_small(
        &self,
        source: &OwnedFd,
        found: &Stat,
        destination: &OwnedFd,
        range: CopyRange,
    ) -> Option<OpenedPaths> {
        let size = true_size_of(source.as_fd(), found);
        let available = size.saturating_sub(range.start);
        let bytes = available.min(range.length.unwrap_or(u64::MAX));
        // st_blocks counts 512-byte units (`stat(2)`). Holes are skipped by the ordinary copy.
        let has_holes = i128::from(found.st_blocks) * 512 < i128::from(found.st_size);
        if bytes > SMALL || has_holes || range.position.checked_add(bytes).is_none() {
            return None;
        }
        let needs_end = range.length.is_none_or(|length| length > bytes);
        let zero_copy = if bytes <= READ {
            self.through_buffer(source, destination, range, bytes, needs_end)?;
            false
        } else if range.copy_only {
            return None;
        } else {
            self.in_kernel(source, destination, range, bytes, needs_end)?;
            true
        };
        Some(OpenedPaths::Copied { bytes, zero_copy })
    }

    /// Copies `bytes` bytes through a buffer. `None` if the source has fewer, or with `needs_end` more, or a
    /// call fails.
    fn through_buffer(
        &self,
        source: &OwnedFd,
        destination: &OwnedFd,
        range: CopyRange,
        bytes: u64,
        needs_end: bool,
    ) -> Option<()> {
        let bytes = usize::try_from(bytes).ok()?;
        // One byte more than the file has: a read that returns fewer bytes has reached the end.
        let mut buffer: Vec<u8> = Vec::with_capacity(bytes + usize::from(needs_end));
        if buffer.capacity() > 0 {
            retry_on_intr(|| pread(source, spare_capacity(&mut buffer), range.start)).ok()?;
        }
        let has_more = needs_end && buffer.len() > bytes;
        if buffer.len() < bytes || has_more {
            return None;
        }
        let mut written = 0;
        // A call that was given up while it was reading must not write any more.
        while written < bytes && !self.control.is_aborted() {
            let at = range.position + written as u64;
            match retry_on_intr(|| pwrite(destination, &buffer[written..bytes], at)).ok()? {
                0 => return None,
                more => written += more,
            }
        }
        (written == bytes).then_some(())
    }

    /// As [`CopyPaths::through_buffer`], with `copy_file_range`.
    fn in_kernel(
        &self,
        source: &OwnedFd,
        destination: &OwnedFd,
        range: CopyRange,
        bytes: u64,
        needs_end: bool,
    ) -> Option<()> {
        let (mut from, mut to) = (range.start, range.position);
        let end = range.start + bytes;
        while from < end {
            if self.control.is_aborted() {
                return None;
            }
            let left = usize::try_from(end - from).ok()?;
            let copied = retry_on_intr(|| {
                copy_file_range(source, Some(&mut from), destination, Some(&mut to), left)
            });
            if copied.ok()? == 0 {
                return None;
            }
        }
        let is_end = !needs_end || retry_on_intr(|| pread(source, &mut [0; 1], end)).ok()? == 0;
        is_end.then_some(())
    }
}

/// The description of a destination that must not be truncated.
const SOURCE_ITSELF: &str = "the source itself";

fn open_source(path: &Path) -> Result<(OwnedFd, Stat), EndpointError> {
    open_regular(path, OFlags::RDONLY)
}

fn open_regular(path: &Path, mode: OFlags) -> Result<(OwnedFd, Stat), EndpointError> {
    // Without O_NONBLOCK, opening a FIFO would wait for its other end.
    let flags = mode | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| open(path, flags, Mode::from_raw_mode(0o666)));
    let fd = match opened {
        Ok(fd) => fd,
        // A FIFO without a reader, or a socket.
        Err(errno @ Errno::NXIO) => {
            let found = stat(path).map_err(|_| failed("open")(errno))?;
            require_regular(&found)?;
            return Err(failed("open")(errno));
        }
        Err(errno) => return Err(failed("open")(errno)),
    };
    let found = fstat(&fd).map_err(failed("fstat"))?;
    require_regular(&found)?;
    Ok((fd, found))
}

/// Refuses everything but a regular file.
pub(super) fn require_regular(found: &Stat) -> Result<(), EndpointError> {
    let found = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::BlockDevice => "a block device",
        FileType::CharacterDevice => "a character device",
        _ => "not a file",
    };
    Err(EndpointError::Unsupported {
        expected: "a regular file",
        found,
    })
}

fn at(side: Side) -> impl Fn(EndpointError) -> PathError {
    move |error| PathError { side, error }
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> EndpointError {
    move |errno| EndpointError::System { errno, syscall }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    /// A file in memory.
    fn file(bytes: &[u8]) -> OwnedFd {
        let mut file = File::from(memfd_create("fdsplice", MemfdFlags::CLOEXEC).expect("a file"));
        file.write_all(bytes).expect("bytes");
        file.into()
    }

    #[test]
    fn nothing_is_left_in_the_destination_of_a_source_that_became_shorter() {
        for size in [50 * 1024, 200 * 1024] {
            let (source, destination) = (file(&vec![1; size]), file(b""));
            let found = fstat(&source).expect("a status");
            ftruncate(&source, size as u64 - 1).expect("a shorter file");
            let range = CopyRange {
                start: 0,
                position: 0,
                length: None,
                copy_only: false,
            };
            let copied = CopyPaths::new().copy_small(&source, &found, &destination, range);
            assert!(matches!(copied, Ok(None)), "{copied:?}");
            assert_eq!(fstat(&destination).expect("a status").st_size, 0, "{size}");
        }
    }
}
