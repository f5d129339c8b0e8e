//! The part of a copy with files that runs on a thread that may block.

use rustix::io::Errno;

use crate::direction::plan::Plan;
use crate::engine::splice::FdAt;
use crate::engine::{Engine, engines, read_write, splice};
use crate::fault::{End, Fault};
use crate::fd::Kind;
use crate::file::end::{CopyEnd, look_at_blocking};
use crate::file::offsets::FileOffsets;
use crate::pipe::Lease;
use crate::traffic::Control;

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

/// Invariant: at most one of `bytes` and a pipe that is not empty holds something, and the source
/// is only read when neither does.
#[derive(Debug)]
pub(crate) struct FileJob {
    pub(super) source: CopyEnd,
    pub(super) destination: CopyEnd,
    pub(super) places: FileOffsets,
    pub(super) control: Control,
    pub(super) engines: &'static [Engine],
    pub(super) taken: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) delivered: usize,
    /// How much of what is held never came from the source.
    pub(super) head: usize,
    pub(super) lease: Option<Lease>,
    pub(super) plan: Plan,
    /// The first step has not run yet.
    pub(super) fresh: bool,
    pub(super) source_ended: bool,
}

impl FileJob {
    pub(crate) fn new(
        source: CopyEnd,
        destination: CopyEnd,
        mut plan: Plan,
        control: Control,
    ) -> Self {
        let bytes = std::mem::take(&mut plan.head);
        Self {
            engines: engines(source.endpoint(), destination.endpoint(), plan.copy_only),
            source,
            destination,
            places: FileOffsets::new(plan.length),
            control,
            taken: 0,
            head: bytes.len(),
            bytes,
            delivered: 0,
            lease: None,
            plan,
            fresh: true,
            source_ended: false,
        }
    }

    pub(crate) fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// Whether the source has ended before what was wanted of it.
    pub(crate) fn is_truncated(&self) -> bool {
        self.places.is_truncated(&self.source)
    }

    /// Bytes taken from the source so far.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes at most `allowed` bytes, and moves them until there is something to wait for, or its
    /// share is used up.
    pub(crate) fn step(&mut self, allowed: u64) -> Result<Step, Fault> {
        if std::mem::take(&mut self.fresh) {
            self.places.locate(
                &self.source,
                &self.destination,
                &self.plan,
                self.head as u64,
            )?;
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
        if self.places.from.is_some() {
            rest.truncate(self.head);
        }
        rest
    }

    /// Moves the descriptors' own positions to where the bytes are.
    pub(super) fn settle(&self) {
        let held = self.bytes.len() - self.delivered - self.head
            + self.lease.as_ref().map_or(0, Lease::held);
        self.places
            .settle(&self.source, &self.destination, held as u64);
    }

    pub(super) fn run(&mut self, mut quantum: u64) -> Result<Step, Fault> {
        loop {
            if !self.push()? {
                return Ok(Step::DestinationFull);
            }
            if self.source_ended || self.places.remaining == 0 {
                self.lease = None;
                return Ok(Step::Ended);
            }
            if quantum == 0 || self.control.is_aborted() {
                // Empty; what follows may have to wait for a limiter.
                self.lease = None;
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
    pub(super) fn push(&mut self) -> Result<bool, Fault> {
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
            let to = self.places.to.as_mut().map(|to| &mut to.at);
            match splice::drain(lease, FdAt(self.destination.fd(), to)) {
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

    /// Writes some of the held bytes; 0 when the destination is full.
    pub(super) fn give(&mut self, range: std::ops::Range<usize>) -> Result<usize, Fault> {
        if self.blocks(End::Destination)? {
            return Ok(0);
        }
        let endpoint = self.destination.endpoint();
        let bytes = &self.bytes[range];
        let bytes = match self.destination {
            // More could block, however ready the pipe or terminal is.
            CopyEnd::Blocking(_) if endpoint.kind() == Kind::Tty => &bytes[..1],
            CopyEnd::Blocking(_) if endpoint.kind() == Kind::Pipe => {
                &bytes[..bytes.len().min(PIPE_BUF)]
            }
            _ => bytes,
        };
        match read_write::give(endpoint, self.places.to.map(|to| to.at), bytes) {
            Ok(given) => {
                self.control.tx().add(given, false);
                if let Some(to) = &mut self.places.to {
                    to.at += given as u64;
                }
                Ok(given)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(Fault::destination(read_write::give_call(endpoint))(errno)),
        }
    }

    /// Whether a call on an end would have to wait, in a way that nothing can interrupt.
    pub(super) fn blocks(&self, end: End) -> Result<bool, Fault> {
        let (handle, fault): (_, fn(&'static str, Errno) -> Fault) = match end {
            End::Source => (&self.source, |call, errno| Fault::source(call)(errno)),
            End::Destination => (&self.destination, |call, errno| {
                Fault::destination(call)(errno)
            }),
        };
        if handle.endpoint().kind() == Kind::File || matches!(handle, CopyEnd::Watched(_)) {
            return Ok(false);
        }
        look_at_blocking(handle, end)
            .map(|ready| !ready)
            .map_err(|errno| fault("poll", errno))
    }
}
