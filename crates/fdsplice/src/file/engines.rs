//! Taking from the source, by the cheapest engine that serves both ends.

use rustix::io::Errno;

use crate::engine::splice::FdAt;
use crate::engine::{Engine, copy_file_range, read_write, readiness, sendfile, splice};
use crate::fault::{End, Fault};
use crate::fd::Kind;
use crate::file::holes::Extent;
use crate::file::job::{FileJob, Step};
use crate::pipe::Lease;

/// Bytes one call moves at the most: what an abort may have to wait for.
const CALL: u64 = 1024 * 1024;

impl FileJob {
    /// Takes from the source once, or says what there is to wait for.
    pub(super) fn pull(&mut self, quantum: u64) -> Result<Option<Step>, Fault> {
        let mut most = self.places.remaining.min(CALL).min(quantum);
        match self.places.extent() {
            Some(Extent::Hole(length)) => {
                if let Some(left_out) = self.places.leave_out(&self.destination, length)? {
                    return self.moved(usize::try_from(left_out).unwrap_or(usize::MAX));
                }
            }
            Some(Extent::Data(length)) => most = most.min(length),
            None => {}
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        match self.engines[0] {
            Engine::CopyFileRange => self.copy_range(most),
            Engine::Sendfile => self.send_file(most),
            Engine::SpliceDirect => self.splice_direct(most),
            Engine::SplicePipe => self.splice_through_pipe(most),
            Engine::ReadWrite => self.read_and_write(most),
        }
    }

    fn copy_range(&mut self, most: usize) -> Result<Option<Step>, Fault> {
        let (Some(from), Some(to)) = (&mut self.places.from, &mut self.places.to) else {
            return self.next_engine(most);
        };
        let (source, destination) = (self.source.fd(), self.destination.fd());
        match copy_file_range::copy_file_range(source, &mut from.at, destination, &mut to.at, most)
        {
            // A file system that cannot say so may answer 0; reading tells the end for sure.
            Ok(0) => self.next_engine(most),
            Err(errno) if copy_file_range::is_unsupported(errno) => self.next_engine(most),
            Ok(copied) => self.moved(copied),
            Err(errno) => Err(Fault::destination("copy_file_range")(errno)),
        }
    }

    fn send_file(&mut self, most: usize) -> Result<Option<Step>, Fault> {
        let Some(from) = &mut self.places.from else {
            return self.next_engine(most);
        };
        match sendfile::sendfile(self.source.fd(), &mut from.at, self.destination.fd(), most) {
            // The end, but of procfs only reading tells.
            Ok(0) => self.next_engine(most),
            Err(errno) if sendfile::is_unsupported(errno) => self.next_engine(most),
            Ok(sent) => self.moved(sent),
            Err(Errno::AGAIN) => Ok(Some(Step::DestinationFull)),
            Err(errno @ Errno::IO) => Err(Fault::source("sendfile")(errno)),
            Err(errno) => Err(Fault::destination("sendfile")(errno)),
        }
    }

    fn splice_direct(&mut self, most: usize) -> Result<Option<Step>, Fault> {
        let from = self.places.from.as_mut().map(|from| &mut from.at);
        let to = self.places.to.as_mut().map(|to| &mut to.at);
        let from_pipe = self.source.endpoint().kind() == Kind::Pipe;
        match splice::direct(
            FdAt(self.source.fd(), from),
            FdAt(self.destination.fd(), to),
            most,
        ) {
            Ok(0) => self.next_engine(most),
            Ok(moved) => self.moved(moved),
            Err(Errno::AGAIN) => {
                let (source, destination) = (self.source.fd(), self.destination.fd());
                let (can_read, can_write) =
                    readiness(source, destination).map_err(Fault::source("poll"))?;
                match (can_read, can_write) {
                    (false, _) => self.empty(),
                    (true, false) => self.full(),
                    (true, true) => Ok(Some(Step::Again)),
                }
            }
            Err(errno) if splice::is_unsupported(errno) => self.next_engine(most),
            Err(errno) if from_pipe || errno == Errno::PIPE => {
                Err(Fault::destination("splice")(errno))
            }
            Err(errno) => Err(Fault::source("splice")(errno)),
        }
    }

    fn splice_through_pipe(&mut self, most: usize) -> Result<Option<Step>, Fault> {
        if self.lease.is_none() {
            self.lease = Lease::take(self.plan.pipe_size);
        }
        let Some(lease) = &mut self.lease else {
            return self.next_engine(most);
        };
        let from = self.places.from.as_mut().map(|from| &mut from.at);
        match splice::fill(FdAt(self.source.fd(), from), lease, most) {
            Ok(0) => self.read_and_write(most),
            Ok(taken) => {
                self.took(taken as u64);
                Ok(None)
            }
            // An out-of-band byte may hide behind this; only a recv tells.
            Err(Errno::AGAIN) if self.source.urgent() => self.read_and_write(most),
            Err(Errno::AGAIN) => self.empty(),
            Err(errno) if splice::is_unsupported(errno) => self.next_engine(most),
            Err(errno) => Err(Fault::source("splice")(errno)),
        }
    }

    fn read_and_write(&mut self, most: usize) -> Result<Option<Step>, Fault> {
        if self.blocks(End::Source)? {
            return Ok(Some(Step::Again));
        }
        let source = self.source.endpoint();
        let at = self.places.from.map(|from| from.at);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(most.min(read_write::BUFFER), 0);
        let taken = read_write::take(source, at, &mut bytes);
        bytes.truncate(*taken.as_ref().unwrap_or(&0));
        self.bytes = bytes;
        match taken {
            Ok(0) => {
                self.source_ended = true;
                Ok(None)
            }
            Ok(taken) => {
                self.took(taken as u64);
                if let Some(from) = &mut self.places.from {
                    from.at += taken as u64;
                }
                Ok(None)
            }
            Err(Errno::AGAIN) => self.empty(),
            Err(errno) => Err(Fault::source(read_write::take_call(self.source.endpoint()))(errno)),
        }
    }

    fn empty(&self) -> Result<Option<Step>, Fault> {
        // An end that only blocks is looked at for a moment, so that this does not spin.
        self.blocks(End::Source)?;
        Ok(Some(Step::SourceEmpty))
    }

    fn full(&self) -> Result<Option<Step>, Fault> {
        self.blocks(End::Destination)?;
        Ok(Some(Step::DestinationFull))
    }

    fn took(&mut self, bytes: u64) {
        self.places.remaining -= bytes;
        self.taken += bytes;
    }

    #[allow(clippy::unnecessary_wraps, reason = "the tail of every engine")]
    fn moved(&mut self, bytes: usize) -> Result<Option<Step>, Fault> {
        self.took(bytes as u64);
        self.control.tx().add(bytes, true);
        Ok(None)
    }

    fn next_engine(&mut self, most: usize) -> Result<Option<Step>, Fault> {
        tracing::debug!(engine = ?self.engines[0], next = ?self.engines[1], "engine cannot serve");
        self.engines = &self.engines[1..];
        self.lease = None;
        self.pull(most as u64)
    }
}
