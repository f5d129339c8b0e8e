//! The part of a copy with files that runs on a thread that may block.

use rustix::fs::{SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;

use crate::endpoint::Kind;
use crate::engine::holes::{self, Extent, Holes};
use crate::engine::splice::At;
use crate::engine::{Engine, copy_file_range, engines, read_write, readiness, sendfile, splice};
use crate::file_copy::{Handle, look_at_blocking};
use crate::pipe::Lease;
use crate::plan::{End, Fault, Plan};
use crate::traffic::Control;

/// Bytes one call moves at the most: what an abort may have to wait for.
const CALL: u64 = 1024 * 1024;
/// Bytes one step moves before its thread is given back.
const QUANTUM: u64 = 8 * 1024 * 1024;
/// What a pipe that is writable takes without blocking (`pipe(7)`).
const PIPE_BUF: usize = 4096;

/// Why a step has ended.
pub(crate) enum Step {
    /// It has used up its share.
    Again,
    SourceEmpty,
    DestinationFull,
    /// Everything was delivered.
    Ended,
}

/// The position of a file: all calls name theirs, and the descriptor's own follows by what was
/// delivered. So it is right at any moment, whatever engine ran and however the copy ends.
#[derive(Clone, Copy, Debug)]
struct Position {
    at: u64,
    /// Whether the descriptor's own position is meant, and moves.
    shared: bool,
}

/// Invariant: at most one of `bytes` and a pipe that is not empty holds something, and the source
/// is only read when neither does.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(crate) struct FileJob {
    source: Handle,
    destination: Handle,
    from: Option<Position>,
    to: Option<Position>,
    control: Control,
    engines: &'static [Engine],
    remaining: u64,
    taken: u64,
    bytes: Vec<u8>,
    delivered: usize,
    /// How much of what is held never came from the source.
    head: usize,
    lease: Option<Lease>,
    plan: Plan,
    /// The first step has not run yet.
    fresh: bool,
    holes: Option<Holes>,
    /// Fewer bytes than `remaining` are a failure.
    exact: bool,
    source_ended: bool,
}

impl FileJob {
    pub(crate) fn new(
        source: Handle,
        destination: Handle,
        mut plan: Plan,
        control: Control,
    ) -> Self {
        let bytes = std::mem::take(&mut plan.head);
        Self {
            engines: engines(source.endpoint(), destination.endpoint(), plan.copy_only),
            source,
            destination,
            from: None,
            to: None,
            control,
            remaining: plan.length.unwrap_or(u64::MAX),
            taken: 0,
            head: bytes.len(),
            bytes,
            delivered: 0,
            lease: None,
            plan,
            fresh: true,
            holes: None,
            exact: false,
            source_ended: false,
        }
    }

    pub(crate) fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// Whether the source has ended before what was wanted of it.
    pub(crate) fn is_truncated(&self) -> bool {
        if !self.exact || self.remaining == 0 {
            return false;
        }
        let wanted = self.from.map_or(0, |from| from.at) + self.remaining;
        // Files of sysfs say that they are a page long, and end where their text does.
        let size = |stat: Stat| u64::try_from(stat.st_size).unwrap_or(0);
        fstat(self.source.fd()).map_or(0, size) < wanted
    }

    /// Bytes taken from the source so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes at most `allowed` bytes, and moves them until there is something to wait for, or its
    /// share is used up.
    pub(crate) fn step(&mut self, allowed: u64) -> Result<Step, Fault> {
        if std::mem::take(&mut self.fresh) {
            self.locate()?;
        }
        let step = self.run(allowed.min(QUANTUM));
        self.settle();
        step
    }

    /// What was taken from the source and not accepted by the destination, in order. A file's bytes
    /// were never taken: its position stands in front of them.
    pub(crate) fn into_undelivered(mut self) -> Vec<u8> {
        let mut rest = self.bytes.split_off(self.delivered);
        if let Some(lease) = self.lease.take() {
            rest.extend(lease.into_bytes());
        }
        if self.from.is_some() {
            rest.truncate(self.head);
        }
        rest
    }

    fn locate(&mut self) -> Result<(), Fault> {
        self.from = locate(&self.source, self.plan.start).map_err(Fault::source("lseek"))?;
        if !self.destination.endpoint().appends() {
            self.to = locate(&self.destination, self.plan.position)
                .map_err(Fault::destination("lseek"))?;
        }
        if self.source.endpoint().kind() != Kind::File {
            return Ok(());
        }
        let stat = fstat(self.source.fd()).map_err(Fault::source("fstat"))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if self.plan.whole {
            self.fix_range(size);
        }
        let destination = self.destination.endpoint();
        if destination.kind() != Kind::File {
            return Ok(());
        }
        if self.source.endpoint().same_as(destination) {
            self.keep_apart(size)?;
        }
        // Only a known place in the destination can be left out.
        if self.to.is_some() {
            self.holes = Holes::of(self.source.fd());
        }
        Ok(())
    }

    /// What is to be sent is what is there now: of a file that grows not more, of one that shrinks
    /// not less. A file of size 0 may be one of procfs, whose size nobody knows: it is read to its
    /// end.
    fn fix_range(&mut self, size: u64) {
        let from = self.from.map_or(0, |from| from.at);
        let end = self
            .plan
            .last
            .map_or(u64::MAX, |last| last.saturating_add(1));
        self.exact = size > 0;
        let end = if self.exact { end.min(size) } else { end };
        self.remaining = end.saturating_sub(from);
    }

    /// Within one file, the bytes to copy are those that are there now: otherwise what the copy
    /// appends would be copied again, without end. Ranges that overlap have no right result.
    fn keep_apart(&mut self, size: u64) -> Result<(), Fault> {
        let from = self.from.map_or(0, |from| from.at);
        self.remaining = self.remaining.min(size.saturating_sub(from));
        let to = self.to.map_or(size, |to| to.at);
        // The head is written in front of what is copied.
        let (end, written) = (
            from.saturating_add(self.remaining),
            to.saturating_add(self.head as u64)
                .saturating_add(self.remaining),
        );
        if from < written && to < end {
            return Err(Fault::source("copy_file_range")(Errno::INVAL));
        }
        Ok(())
    }

    /// Moves the descriptors' own positions to where the bytes are.
    fn settle(&self) {
        let held = self.bytes.len() - self.delivered - self.head
            + self.lease.as_ref().map_or(0, Lease::held);
        let ends = [
            (&self.source, self.from, held as u64),
            (&self.destination, self.to, 0),
        ];
        for (handle, position, back) in ends {
            if let Some(Position { at, shared: true }) = position {
                let _ = seek(handle.fd(), SeekFrom::Start(at - back));
            }
        }
    }

    fn run(&mut self, mut quantum: u64) -> Result<Step, Fault> {
        loop {
            if !self.push()? {
                return Ok(Step::DestinationFull);
            }
            if self.source_ended || self.remaining == 0 {
                self.lease = None;
                return Ok(Step::Ended);
            }
            if quantum == 0 || self.control.is_aborted() {
                return Ok(Step::Again);
            }
            let before = self.taken;
            if let Some(step) = self.pull(quantum)? {
                self.lease = None;
                return Ok(step);
            }
            quantum = quantum.saturating_sub(self.taken - before);
        }
    }

    /// Delivers what is held; `false` when the destination is full.
    fn push(&mut self) -> Result<bool, Fault> {
        while self.delivered < self.bytes.len() {
            let rest = self.delivered..self.bytes.len();
            match self.give(rest)? {
                0 => return Ok(false),
                given => {
                    self.delivered += given;
                    self.head = self.head.saturating_sub(given);
                }
            }
        }
        self.bytes.clear();
        self.delivered = 0;
        while let Some(lease) = self.lease.as_mut().filter(|lease| lease.held() > 0) {
            let to = self.to.as_mut().map(|to| &mut to.at);
            match splice::drain(lease, At(self.destination.fd(), to)) {
                Ok(moved) => self.control.tx().add(moved, true),
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) if splice::is_unsupported(errno) => {
                    self.bytes = self.lease.take().map(Lease::into_bytes).unwrap_or_default();
                    self.engines = &[Engine::ReadWrite];
                    return self.push();
                }
                Err(errno) => return Err(Fault::destination("splice")(errno)),
            }
        }
        Ok(true)
    }

    /// Takes from the source once, or says what there is to wait for.
    fn pull(&mut self, quantum: u64) -> Result<Option<Step>, Fault> {
        let mut most = self.remaining.min(CALL).min(quantum);
        if let (Some(holes), Some(from)) = (&self.holes, self.from) {
            match holes.extent(from.at) {
                Some(Extent::Hole(length)) if self.leave_out(length)? => return Ok(None),
                Some(Extent::Data(length)) => most = most.min(length),
                _ => {}
            }
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

    /// Leaves a hole of the source out in the destination too, if it ends there.
    fn leave_out(&mut self, length: u64) -> Result<bool, Fault> {
        let (Some(from), Some(to)) = (&mut self.from, &mut self.to) else {
            return Ok(false);
        };
        let destination = self.destination.fd();
        if !holes::ends_before(destination, to.at) {
            return Ok(false);
        }
        let length = length.min(self.remaining);
        holes::extend(destination, to.at + length).map_err(Fault::destination("ftruncate"))?;
        from.at += length;
        to.at += length;
        self.took(length);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        self.control.tx().add(bytes, true);
        Ok(true)
    }

    fn copy_range(&mut self, most: usize) -> Result<Option<Step>, Fault> {
        let (Some(from), Some(to)) = (&mut self.from, &mut self.to) else {
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
        let Some(from) = &mut self.from else {
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
        let from = self.from.as_mut().map(|from| &mut from.at);
        let to = self.to.as_mut().map(|to| &mut to.at);
        let from_pipe = self.source.endpoint().kind() == Kind::Pipe;
        match splice::direct(
            At(self.source.fd(), from),
            At(self.destination.fd(), to),
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
        let from = self.from.as_mut().map(|from| &mut from.at);
        match splice::fill(At(self.source.fd(), from), lease, most) {
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
        let at = self.from.map(|from| from.at);
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
                if let Some(from) = &mut self.from {
                    from.at += taken as u64;
                }
                Ok(None)
            }
            Err(Errno::AGAIN) => self.empty(),
            Err(errno) => Err(Fault::source(read_write::take_call(self.source.endpoint()))(errno)),
        }
    }

    /// Writes some of the held bytes; 0 when the destination is full.
    fn give(&mut self, range: std::ops::Range<usize>) -> Result<usize, Fault> {
        if self.blocks(End::Destination)? {
            return Ok(0);
        }
        let endpoint = self.destination.endpoint();
        let bytes = &self.bytes[range];
        let bytes = match self.destination {
            // More could block, however ready the pipe or terminal is.
            Handle::Blocking(_) if endpoint.kind() == Kind::Tty => &bytes[..1],
            Handle::Blocking(_) if endpoint.kind() == Kind::Pipe => {
                &bytes[..bytes.len().min(PIPE_BUF)]
            }
            _ => bytes,
        };
        match read_write::give(endpoint, self.to.map(|to| to.at), bytes) {
            Ok(given) => {
                self.control.tx().add(given, false);
                if let Some(to) = &mut self.to {
                    to.at += given as u64;
                }
                Ok(given)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(Fault::destination(read_write::give_call(endpoint))(errno)),
        }
    }

    /// Whether a call on an end would have to wait, in a way that nothing can interrupt.
    fn blocks(&self, end: End) -> Result<bool, Fault> {
        let (handle, fault): (_, fn(&'static str, Errno) -> Fault) = match end {
            End::Source => (&self.source, |call, errno| Fault::source(call)(errno)),
            End::Destination => (&self.destination, |call, errno| {
                Fault::destination(call)(errno)
            }),
        };
        if handle.endpoint().kind() == Kind::File || matches!(handle, Handle::Watched(_)) {
            return Ok(false);
        }
        look_at_blocking(handle, end)
            .map(|ready| !ready)
            .map_err(|errno| fault("poll", errno))
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
        self.remaining -= bytes;
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

fn locate(handle: &Handle, wanted: Option<u64>) -> Result<Option<Position>, Errno> {
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
