//! Where in its files a copy stands, and how much of its source is wanted.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fstat, open, seek};
use rustix::io::Errno;

use crate::direction::plan::Plan;
use crate::fault::Fault;
use crate::fd::Kind;
use crate::file::end::CopyEnd;
use crate::file::holes::{self, Extent, Holes};

/// The position of a file: all calls name theirs, and the descriptor's own follows by what was
/// delivered. So it is right at any moment, whatever engine ran and however the copy ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) at: u64,
    /// Whether the descriptor's own position is meant, and moves.
    shared: bool,
}

#[derive(Debug)]
pub(crate) struct FileOffsets {
    /// The source's next byte; `None` where it has no positions.
    pub(crate) from: Option<Position>,
    /// Where the destination's next byte goes; `None` where it has no positions, or appends.
    pub(crate) to: Option<Position>,
    /// FdAt most this many bytes more are taken from the source.
    pub(crate) remaining: u64,
    holes: Option<Holes>,
    /// Fewer bytes than `remaining` are a failure.
    exact: bool,
}

impl FileOffsets {
    pub(crate) fn new(length: Option<u64>) -> Self {
        Self {
            from: None,
            to: None,
            remaining: length.unwrap_or(u64::MAX),
            holes: None,
            exact: false,
        }
    }

    /// Asks the system where the ends stand; `head` bytes are written in front of the source's.
    pub(crate) fn locate(
        &mut self,
        source: &CopyEnd,
        destination: &CopyEnd,
        plan: &Plan,
        head: u64,
    ) -> Result<(), Fault> {
        self.from = locate(source, plan.start).map_err(Fault::source("lseek"))?;
        if !destination.endpoint().appends() {
            self.to = locate(destination, plan.position).map_err(Fault::destination("lseek"))?;
        }
        if source.endpoint().kind() != Kind::File {
            return Ok(());
        }
        if plan.whole {
            self.fix_range(size(source.fd()).unwrap_or(0), plan.last);
        }
        if destination.endpoint().kind() != Kind::File {
            return Ok(());
        }
        if source.endpoint().same_as(destination.endpoint()) {
            let size = size(source.fd()).map_err(Fault::source("open"))?;
            self.keep_apart(size, head)?;
        }
        // Only a known place in the destination can be left out.
        if self.to.is_some() {
            self.holes = Holes::of(source.fd());
        }
        Ok(())
    }

    /// What is to be sent is what is there now: of a file that grows not more, of one that shrinks
    /// not less. A file of size 0 may be one of procfs, whose size nobody knows: it is read to its
    /// end.
    fn fix_range(&mut self, size: u64, last: Option<u64>) {
        let from = self.from.map_or(0, |from| from.at);
        let end = last.map_or(u64::MAX, |last| last.saturating_add(1));
        self.exact = size > 0;
        let end = if self.exact { end.min(size) } else { end };
        self.remaining = end.saturating_sub(from);
    }

    /// Within one file, the bytes to copy are those that are there now: otherwise what the copy
    /// appends would be copied again, without end. Ranges that overlap have no right result.
    fn keep_apart(&mut self, size: u64, head: u64) -> Result<(), Fault> {
        let from = self.from.map_or(0, |from| from.at);
        self.remaining = self.remaining.min(size.saturating_sub(from));
        let to = self.to.map_or(size, |to| to.at);
        // The head is written in front of what is copied.
        let (end, written) = (
            from.saturating_add(self.remaining),
            to.saturating_add(head).saturating_add(self.remaining),
        );
        if from < written && to < end {
            return Err(Fault::source("copy_file_range")(Errno::INVAL));
        }
        Ok(())
    }

    /// Whether the source has ended before what was wanted of it.
    pub(crate) fn is_truncated(&self, source: &CopyEnd) -> bool {
        if !self.exact || self.remaining == 0 {
            return false;
        }
        let wanted = self.from.map_or(0, |from| from.at) + self.remaining;
        // Files of sysfs say that they are a page long, and end where their text does.
        size(source.fd()).unwrap_or(0) < wanted
    }

    /// Moves the descriptors' own positions to where the bytes are: the source's in front of what
    /// is `held`.
    pub(crate) fn settle(&self, source: &CopyEnd, destination: &CopyEnd, held: u64) {
        for (handle, position, back) in [(source, self.from, held), (destination, self.to, 0)] {
            if let Some(Position { at, shared: true }) = position {
                let _ = seek(handle.fd(), SeekFrom::Start(at - back));
            }
        }
    }

    /// What comes next in a source with holes, if the destination can have them too.
    pub(crate) fn extent(&self) -> Option<Extent> {
        self.holes.as_ref()?.extent(self.from?.at)
    }

    /// Leaves a hole of the source out in the destination too, if it ends there; how much of it.
    pub(crate) fn leave_out(
        &mut self,
        destination: &CopyEnd,
        length: u64,
    ) -> Result<Option<u64>, Fault> {
        let (Some(from), Some(to)) = (&mut self.from, &mut self.to) else {
            return Ok(None);
        };
        let destination = destination.fd();
        if !holes::ends_before(destination, to.at) {
            return Ok(None);
        }
        let length = length.min(self.remaining);
        holes::extend(destination, to.at + length).map_err(Fault::destination("ftruncate"))?;
        from.at += length;
        to.at += length;
        Ok(Some(length))
    }
}

fn locate(handle: &CopyEnd, wanted: Option<u64>) -> Result<Option<Position>, Errno> {
    if handle.endpoint().kind() != Kind::File {
        return Ok(None);
    }
    match seek(handle.fd(), SeekFrom::Current(0)) {
        Ok(own) => Ok(Some(Position {
            at: wanted.unwrap_or(own),
            shared: wanted.is_none(),
        })),
        Err(Errno::SPIPE) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Of a block device `fstat` tells no size. Its end is looked for in a description of its own, so
/// that nobody's position moves.
fn size(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let stat = fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
        return Ok(u64::try_from(stat.st_size).unwrap_or(0));
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let device = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    seek(device, SeekFrom::End(0))
}
