//! `FileJob` makes the blocking calls of a copy. Each step moves the job to a thread that may block,
//! and then back to the async task.

mod engines;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::direction::held::{Held, Pushed};
use crate::direction::plan::Plan;
use crate::engine::{Engine, engines};
use crate::fault::{End, IoFailure};
use crate::fd::Kind;
use crate::file::end::{CopyEnd, Ends};
use crate::file::offsets::FileOffsets;
use crate::traffic::Control;

/// Bytes one step moves before its thread is returned.
const QUANTUM: u64 = 8 * 1024 * 1024;
/// Bytes that a writable pipe takes without blocking (`pipe(7)`).
const PIPE_BUF: usize = 4096;

/// Why a step has ended.
pub(super) enum Step {
    /// The next step can follow at once: the quantum is used up, the transfer was aborted, or the
    /// readiness of an end has changed.
    Again,
    SourceEmpty,
    DestinationFull,
    /// Everything was delivered.
    Ended,
    /// The source has become shorter. Its remaining bytes were delivered.
    Truncated,
}

/// The own positions of the ends behind the last byte that was moved, in case a call hangs: each as
/// its number plus 1, and 0 for none.
#[derive(Debug, Default)]
pub(super) struct Positions([AtomicU64; 2]);

impl Positions {
    fn note(&self, positions: [Option<u64>; 2]) {
        for (noted, position) in self.0.iter().zip(positions) {
            noted.store(position.map_or(0, |at| at + 1), Ordering::Relaxed);
        }
    }

    pub(super) fn get(&self) -> [Option<u64>; 2] {
        [0, 1].map(|end| self.0[end].load(Ordering::Relaxed).checked_sub(1))
    }
}

/// The state of one copy. Its ends are passed to each step, because the async side uses them too.
#[derive(Debug)]
pub(super) struct FileJob {
    plan: Plan,
    control: Control,
    engines: &'static [Engine],
    held: Held,
    offsets: FileOffsets,
    positions: Arc<Positions>,
    taken: u64,
    /// `taken` when the current step began.
    taken_before: u64,
    first_step: bool,
    source_ended: bool,
}

impl FileJob {
    pub(super) fn new(ends: &Ends, mut plan: Plan, control: Control) -> Self {
        let source = ends.source.as_ref().map(CopyEnd::endpoint);
        let destination = ends.destination.endpoint();
        Self {
            engines: engines(source.map(|end| *end), *destination, plan.copy_only),
            held: match source {
                Some(_) => Held::new(std::mem::take(&mut plan.head)),
                None => Held::without_source(std::mem::take(&mut plan.head)),
            },
            offsets: FileOffsets::new(plan.wanted),
            positions: Arc::default(),
            plan,
            control,
            taken: 0,
            taken_before: 0,
            first_step: true,
            source_ended: false,
        }
    }

    pub(super) fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// Whether the source is shorter than it was at the start. This queries its size.
    fn is_truncated(&self, ends: &Ends) -> bool {
        ends.source
            .as_ref()
            .is_some_and(|source| self.offsets.is_truncated(source))
    }

    /// Bytes taken from the source so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes at most `allowed` bytes, and moves them until an end is not ready or the quantum is
    /// used up. When the step was abandoned, it makes no further call: its transfer has ended, and
    /// the ends may be in use for something else.
    pub(super) fn step(
        &mut self,
        ends: &Ends,
        allowed: u64,
        is_abandoned: &AtomicBool,
    ) -> Result<Step, IoFailure> {
        if is_abandoned.load(Ordering::Relaxed) {
            return Ok(Step::Again);
        }
        if std::mem::take(&mut self.first_step) {
            match ends.pair() {
                Some(pair) => self
                    .offsets
                    .locate(pair, &self.plan, self.held.len() as u64)?,
                None => self
                    .offsets
                    .locate_destination(&ends.destination, &self.plan)?,
            }
        }
        self.taken_before = self.taken;
        let step = self.run(ends, allowed.min(QUANTUM), is_abandoned);
        if is_abandoned.load(Ordering::Relaxed) {
            return step;
        }
        self.sync_positions(ends);
        match step {
            Ok(Step::Ended) if self.is_truncated(ends) => Ok(Step::Truncated),
            step => step,
        }
    }

    /// Returns the bytes taken from the source that the destination has not accepted, in order. The
    /// bytes of a file are not among them: its position is set to the first undelivered byte.
    pub(super) fn into_undelivered(self) -> Vec<u8> {
        let holds_head = self.holds_head();
        let undelivered = self.held.into_undelivered();
        if self.offsets.source_has_position() && !holds_head {
            return Vec::new();
        }
        undelivered
    }

    /// Whether the held bytes belong to the head. The source is not read before all of the head is
    /// delivered, so the held bytes belong either to the head or to the source.
    fn holds_head(&self) -> bool {
        self.taken == 0
    }

    /// Sets the position of each descriptor to its next undelivered or unwritten byte.
    fn sync_positions(&self, ends: &Ends) {
        ends.set_positions(self.own_positions());
    }

    fn own_positions(&self) -> [Option<u64>; 2] {
        let held = if self.holds_head() {
            0
        } else {
            self.held.len() as u64
        };
        self.offsets.own_positions(held)
    }

    /// The positions to restore if a call hangs.
    pub(super) fn positions(&self) -> Arc<Positions> {
        Arc::clone(&self.positions)
    }

    fn run(
        &mut self,
        ends: &Ends,
        mut quantum: u64,
        is_abandoned: &AtomicBool,
    ) -> Result<Step, IoFailure> {
        loop {
            if !self.push(&ends.destination, is_abandoned)? {
                return Ok(Step::DestinationFull);
            }
            let Some(pair) = ends.pair() else {
                self.source_ended = true;
                return Ok(Step::Ended);
            };
            if self.source_ended || self.offsets.remaining() == 0 {
                self.held.return_pipe();
                return Ok(Step::Ended);
            }
            let is_over = self.control.is_aborted() || is_abandoned.load(Ordering::Relaxed);
            if quantum == 0 || is_over {
                // The pipe is empty. The next step may have to wait for a limiter.
                self.held.return_pipe();
                return Ok(Step::Again);
            }
            self.positions.note(self.own_positions());
            let before = self.taken;
            if let Some(step) = self.pull(pair, quantum)? {
                self.held.return_pipe();
                return Ok(step);
            }
            quantum = quantum.saturating_sub(self.taken - before);
        }
    }

    /// Delivers the held bytes. Returns `false` when the destination is full, or the step was
    /// abandoned.
    fn push(
        &mut self,
        destination: &CopyEnd,
        is_abandoned: &AtomicBool,
    ) -> Result<bool, IoFailure> {
        while !self.held.is_empty() {
            if is_abandoned.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if !self.held.is_in_pipe() && destination.would_block(End::Destination)? {
                return Ok(false);
            }
            let endpoint = destination.endpoint();
            // More bytes could block, even if the pipe or terminal is ready.
            let most = match destination {
                CopyEnd::Blocking(_) if endpoint.kind() == Kind::Tty => 1,
                CopyEnd::Blocking(_) if endpoint.kind() == Kind::Pipe => PIPE_BUF,
                _ => usize::MAX,
            };
            let (_, position) = self.offsets.positions();
            match self
                .held
                .push(endpoint, position, most, self.control.tx())?
            {
                Pushed::Accepted => self.positions.note(self.own_positions()),
                Pushed::Full => return Ok(false),
                Pushed::Unsupported => self.engines = &[Engine::ReadWrite],
            }
        }
        Ok(true)
    }
}
