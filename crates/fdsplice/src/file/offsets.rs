//! The positions of a copy in its files, and how much of the source is still to be taken.

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::direction::plan::{Plan, Wanted};
use crate::fault::IoFailure;
use crate::fd::Kind;
use crate::file::end::{CopyEnd, Pair};
use crate::file::holes::{self, Extent, Holes};
use crate::file::range::{Remaining, size, true_size};

/// The position in a file. Every call names its position explicitly; the descriptor's own position
/// is set afterwards, to the next undelivered byte. It is therefore correct for every engine and after
/// every kind of end.
#[derive(Clone, Copy, Debug)]
struct Position {
    at: u64,
    /// The transfer uses the descriptor's own position, which moves.
    shared: bool,
}

#[derive(Debug)]
pub(super) struct FileOffsets {
    /// The next byte of the source; `None` where it has no position.
    from: Option<Position>,
    /// The next byte of the destination; `None` where it has no position, or appends.
    to: Option<Position>,
    remaining: Remaining,
    holes: Option<Holes>,
}

impl FileOffsets {
    /// The offsets of a plan whose ends have no positions, until [`FileOffsets::locate`] finds
    /// them.
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            from: None,
            to: None,
            remaining: Remaining::at_most(wanted.most()),
            holes: None,
        }
    }

    /// Reads the positions of both ends. `head` bytes are written before those of the source.
    pub(super) fn locate(
        &mut self,
        Pair {
            source,
            destination,
        }: Pair<'_>,
        plan: &Plan,
        head: u64,
    ) -> Result<(), IoFailure> {
        self.from = locate(source, plan.start).map_err(IoFailure::source("lseek"))?;
        self.locate_destination(destination, plan)?;
        if source.endpoint().kind() != Kind::File {
            return Ok(());
        }
        if let Wanted::ExactRange { last } = plan.wanted {
            let size = true_size(source.fd()).unwrap_or(0);
            self.remaining = Remaining::of_file(self.source_position(), last, size);
        }
        if destination.endpoint().kind() != Kind::File {
            return Ok(());
        }
        if source.same_as(destination) {
            let size = size(source.fd()).map_err(IoFailure::source("open"))?;
            self.keep_apart(size, head)?;
        }
        // A hole is only skipped at a known position of the destination.
        if self.to.is_some() {
            self.holes = Holes::of(source.fd());
        }
        Ok(())
    }

    /// Reads the position of the destination alone, for a source that is memory.
    pub(super) fn locate_destination(
        &mut self,
        destination: &CopyEnd,
        plan: &Plan,
    ) -> Result<(), IoFailure> {
        if !destination.endpoint().appends() {
            self.to =
                locate(destination, plan.position).map_err(IoFailure::destination("lseek"))?;
        }
        Ok(())
    }

    /// Within one file, the bytes to copy are those that are there now: otherwise the copy would
    /// read its own output without end. Ranges that overlap have no right result, and are refused.
    fn keep_apart(&mut self, size: u64, head: u64) -> Result<(), IoFailure> {
        let from = self.source_position();
        self.remaining = self.remaining.up_to(from, size);
        let to = self.to.map_or(size, |to| to.at);
        let length = self.remaining.bytes();
        let end = from.saturating_add(length);
        // The head is written before the bytes of the source.
        let written = to.saturating_add(head).saturating_add(length);
        if from < written && to < end {
            return Err(IoFailure::source("copy_file_range")(Errno::INVAL));
        }
        Ok(())
    }

    fn source_position(&self) -> u64 {
        self.from.map_or(0, |from| from.at)
    }

    /// Whether the source has positions. Its bytes then stay in the file: those that were read and
    /// not delivered can be read again.
    pub(super) fn source_has_position(&self) -> bool {
        self.from.is_some()
    }

    /// The positions of the next call, which advance by the bytes it moves.
    pub(super) fn positions(&mut self) -> (Option<&mut u64>, Option<&mut u64>) {
        (
            self.from.as_mut().map(|from| &mut from.at),
            self.to.as_mut().map(|to| &mut to.at),
        )
    }

    /// How many bytes are still to be taken from the source.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining.bytes()
    }

    /// Subtracts bytes that were taken from the source.
    pub(super) fn take(&mut self, bytes: u64) {
        self.remaining.take(bytes);
    }

    /// Whether a source that has ended is shorter than it was at the start.
    pub(super) fn is_truncated(&self, source: &CopyEnd) -> bool {
        self.remaining
            .is_truncated(self.source_position(), || size(source.fd()).unwrap_or(0))
    }

    /// Where the descriptors' own positions belong: the destination's to where the next byte goes, the
    /// source's before the `held` bytes. `None` for an end whose own position stays as it is.
    pub(super) fn own_positions(&self, held: u64) -> [Option<u64>; 2] {
        [(self.from, held), (self.to, 0)].map(|(position, back)| match position {
            Some(Position { at, shared: true }) => Some(at - back),
            _ => None,
        })
    }

    /// The extent at the position of the source. `None` where the source has no holes, or the
    /// destination cannot have them.
    pub(super) fn extent(&self) -> Option<Extent> {
        self.holes.as_ref()?.extent(self.from?.at)
    }

    /// Extends the destination by a hole of the source, if the destination ends here. Returns the
    /// length of the hole, `None` if it has to be copied as bytes.
    pub(super) fn skip_hole(
        &mut self,
        destination: &CopyEnd,
        length: u64,
    ) -> Result<Option<u64>, IoFailure> {
        let (Some(from), Some(to)) = (&mut self.from, &mut self.to) else {
            return Ok(None);
        };
        let destination = destination.fd();
        if !holes::is_past_eof(destination, to.at) {
            return Ok(None);
        }
        let length = length.min(self.remaining.bytes());
        holes::extend(destination, to.at, to.at + length)
            .map_err(IoFailure::destination("write"))?;
        from.at += length;
        to.at += length;
        Ok(Some(length))
    }
}

fn locate(end: &CopyEnd, wanted: Option<u64>) -> Result<Option<Position>, Errno> {
    if end.endpoint().kind() != Kind::File {
        return Ok(None);
    }
    match seek(end.fd(), SeekFrom::Current(0)) {
        Ok(own) => Ok(Some(Position {
            at: wanted.unwrap_or(own),
            shared: wanted.is_none(),
        })),
        Err(Errno::SPIPE) => Ok(None),
        Err(errno) => Err(errno),
    }
}
