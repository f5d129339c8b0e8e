//! How a job takes bytes from its source, by the cheapest engine that serves both ends.

use rustix::io::Errno;

use super::{FileJob, Step};
use crate::engine::splice::FdAt;
use crate::engine::{Engine, copy_file_range, is_refused, read_write, readiness, sendfile, splice};
use crate::fault::{End, IoFailure};
use crate::fd::Kind;
use crate::file::end::Pair;
use crate::file::holes::Extent;
use crate::pipe::Borrower;

/// Bytes that one call moves at most. An abort waits for one call.
const CALL: u64 = 1024 * 1024;

/// `None`: the step continues. `Some`: the reason why the step ends.
type Pulled = Result<Option<Step>, IoFailure>;

impl FileJob {
    /// Takes bytes from the source once.
    pub(super) fn pull(&mut self, pair: Pair<'_>, quantum: u64) -> Pulled {
        let mut most = self.offsets.remaining().min(CALL).min(quantum);
        match self.offsets.extent() {
            Some(Extent::Hole(length)) => {
                if let Some(skipped) = self.offsets.skip_hole(pair.destination, length)? {
                    return self.moved(skipped);
                }
            }
            Some(Extent::Data(length)) => most = most.min(length),
            None => {}
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match self.engines[0] {
            Engine::CopyFileRange => self.copy_file_range(pair, most),
            Engine::Sendfile => self.sendfile(pair, most),
            Engine::SpliceDirect => self.splice_direct(pair, most),
            Engine::SplicePipe => self.splice_through_pipe(pair, most),
            Engine::ReadWrite => self.read(pair, most),
        }
    }

    fn copy_file_range(&mut self, pair: Pair<'_>, most: usize) -> Pulled {
        let (Some(from), Some(to)) = self.offsets.positions() else {
            return self.next_engine(pair, most);
        };
        let (source, destination) = (pair.source.fd(), pair.destination.fd());
        match copy_file_range::copy_file_range(source, from, destination, to, most) {
            // Some file systems return 0 before the end; only a read of 0 bytes is the end.
            Ok(0) => self.next_engine(pair, most),
            // EIO: some network file systems.
            Err(errno) if is_refused(errno) || errno == Errno::IO => self.next_engine(pair, most),
            Ok(copied) => self.moved(copied as u64),
            // FUSE: of either end. The read and the write distinguish them.
            Err(Errno::AGAIN) => self.read(pair, most),
            Err(errno) => Err(IoFailure::destination("copy_file_range")(errno)),
        }
    }

    fn sendfile(&mut self, pair: Pair<'_>, most: usize) -> Pulled {
        let (Some(from), _) = self.offsets.positions() else {
            return self.next_engine(pair, most);
        };
        match sendfile::sendfile(pair.source.fd(), from, pair.destination.fd(), most) {
            // The end; but with procfs, only a read of 0 bytes is the end.
            Ok(0) => self.next_engine(pair, most),
            Err(errno) if is_refused(errno) => self.next_engine(pair, most),
            Ok(sent) => self.moved(sent as u64),
            Err(Errno::AGAIN) if self.has_taken_none() => self.read(pair, most),
            Err(Errno::AGAIN) => Ok(Some(Step::DestinationFull)),
            Err(errno @ Errno::IO) => Err(IoFailure::source("sendfile")(errno)),
            Err(errno) => Err(IoFailure::destination("sendfile")(errno)),
        }
    }

    fn splice_direct(&mut self, pair: Pair<'_>, most: usize) -> Pulled {
        let (source, destination) = (pair.source.fd(), pair.destination.fd());
        let (from, to) = self.offsets.positions();
        match splice::direct(FdAt(source, from), FdAt(destination, to), most) {
            Ok(0) => self.next_engine(pair, most),
            Ok(moved) => self.moved(moved as u64),
            Err(Errno::AGAIN) => match readiness(source, destination) {
                // The source may have bytes: with SO_RCVLOWAT, poll does not report a few.
                Ok((_, false)) => destination_full(pair),
                Ok((false, true)) => source_empty(pair),
                // An end has become ready since the splice, or an out-of-band byte is next.
                Ok((true, true)) | Err(_) => self.read(pair, most),
            },
            Err(errno) if is_refused(errno) => self.next_engine(pair, most),
            // If the source is a pipe, the destination has failed. If the destination is a pipe, every
            // error except EPIPE is one of the source.
            Err(errno) if pair.source.endpoint().kind() == Kind::Pipe || errno == Errno::PIPE => {
                Err(IoFailure::destination("splice")(errno))
            }
            Err(errno) => Err(IoFailure::source("splice")(errno)),
        }
    }

    fn splice_through_pipe(&mut self, pair: Pair<'_>, most: usize) -> Pulled {
        let borrower = Borrower::BlockingThread;
        let Some(lease) = self.held.lease_pipe(self.plan.pipe_size, borrower) else {
            return self.next_engine(pair, most);
        };
        let (from, _) = self.offsets.positions();
        match splice::fill(FdAt(pair.source.fd(), from), lease, most) {
            Ok(0) => self.read(pair, most),
            Ok(taken) => {
                self.note_taken(taken as u64);
                Ok(None)
            }
            // An out-of-band byte may be next; only a recv distinguishes that.
            Err(Errno::AGAIN) if pair.source.may_be_urgent() || self.has_taken_none() => {
                self.read(pair, most)
            }
            Err(Errno::AGAIN) => source_empty(pair),
            Err(errno) if is_refused(errno) => self.next_engine(pair, most),
            Err(errno) => Err(IoFailure::source("splice")(errno)),
        }
    }

    fn read(&mut self, pair: Pair<'_>, most: usize) -> Pulled {
        if pair.source.would_block(End::Source)? {
            return Ok(Some(Step::Again));
        }
        let source = pair.source.endpoint();
        let (mut from, _) = self.offsets.positions();
        match self.held.read(source, from.as_deref().copied(), most) {
            Ok(0) => {
                self.source_ended = true;
                Ok(None)
            }
            Ok(taken) => {
                if let Some(from) = &mut from {
                    **from += taken as u64;
                }
                self.note_taken(taken as u64);
                Ok(None)
            }
            Err(Errno::AGAIN) => source_empty(pair),
            Err(errno) => Err(IoFailure::source(read_write::source_call(source))(errno)),
        }
    }

    /// Whether this step has taken no byte. A step begins when its ends are ready, so an `EAGAIN` at
    /// its first call may be false, and the next step would get the same one.
    fn has_taken_none(&self) -> bool {
        self.taken == self.taken_before
    }

    fn note_taken(&mut self, bytes: u64) {
        self.offsets.take(bytes);
        self.taken += bytes;
    }

    #[allow(
        clippy::unnecessary_wraps,
        reason = "the last expression of every engine"
    )]
    fn moved(&mut self, bytes: u64) -> Pulled {
        self.note_taken(bytes);
        self.control.tx().add(bytes, true);
        Ok(None)
    }

    fn next_engine(&mut self, pair: Pair<'_>, most: usize) -> Pulled {
        tracing::debug!(engine = ?self.engines[0], next = ?self.engines[1], "engine cannot serve");
        self.engines = &self.engines[1..];
        self.held.return_pipe();
        self.pull(pair, most as u64)
    }
}

/// A blocking end is waited for here, because the reactor cannot wait for it and the next step
/// would start at once.
fn source_empty(pair: Pair<'_>) -> Pulled {
    pair.source.would_block(End::Source)?;
    Ok(Some(Step::SourceEmpty))
}

fn destination_full(pair: Pair<'_>) -> Pulled {
    pair.destination.would_block(End::Destination)?;
    Ok(Some(Step::DestinationFull))
}
