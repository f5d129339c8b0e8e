//! One direction of a transfer between ends that the reactor can wait for: a state machine that
//! `copy` runs once and `relay` twice.
//!
//! A message on TCP costs one `recv` and one `send`. A short read means the socket is empty, so the
//! `recv` that would return `EAGAIN` is skipped. In bulk one `splice` fills a pipe and one empties it, and
//! one more finds the socket empty: 3 to 9 calls per MiB, depending on how much the socket holds at
//! a time.

pub(crate) mod bulk;
pub(crate) mod held;
pub(crate) mod plan;
mod pull;
mod quantum;
pub(crate) mod watch;

use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use rustix::io::{Errno, ioctl_fionread};
use tokio::io::Interest;
use tokio::task::yield_now;

use crate::direction::bulk::BulkDetector;
use crate::direction::held::{Held, Pushed};
use crate::direction::plan::{Plan, Route};
use crate::direction::quantum::Quantum;
use crate::engine::{Engine, engines};
use crate::fault::{End, IoFailure};
use crate::fd::{Facts, TransferEnd};
use crate::limits::deadline::Stall;
use crate::limits::memory;
use crate::limits::rate::Limit;

/// How often one poll pushes to a destination that accepts nothing although it is ready.
const PUSHES: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The source may have more.
    Open,
    /// The source is at its end, or all wanted bytes were taken. The held bytes are still to be
    /// delivered.
    Draining,
    /// Everything was delivered, and the end passed on if the plan says so.
    Ended,
}

/// What a pending direction waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The source. Its failure wakes the task too.
    Source,
    /// The other tasks of the thread. The task is polled again soon.
    Turn,
    /// The destination, or a limiter.
    Other,
}

/// Yields the thread: its other transfers run and the reactor polls for new events before this task
/// is polled again. After a plain wake the task would be polled before the reactor.
fn yield_to_others(cx: &mut Context<'_>) {
    let _ = pin!(yield_now()).poll(cx);
}

/// The state of one direction. Its ends and its count are in the [`Route`] that each poll gets.
#[derive(Debug)]
pub(crate) struct Direction {
    phase: Phase,
    held: Held,
    remaining: u64,
    source_ended: bool,
    pass_end_on: bool,
    /// Bytes to take until the destination is ended, although the source is still open.
    ends_after: Option<u64>,
    ended_early: bool,
    engine: Engine,
    pipe_size: Option<NonZeroUsize>,
    /// Number of buffered reads until a pipe is requested again.
    lease_pause: u32,
    detector: BulkDetector,
    stall: Option<Box<Stall>>,
    wait: Wait,
}

impl Direction {
    /// `source` is `None` when all bytes are in the head of the plan. The [`Route`] of every poll must
    /// agree.
    pub(crate) fn new(plan: Plan, source: Option<Facts>, destination: Facts) -> Self {
        Self {
            phase: Phase::Open,
            engine: engines(source, destination, plan.copy_only)[0],
            held: match source {
                Some(_) => Held::new(plan.head),
                None => Held::without_source(plan.head),
            },
            remaining: plan.wanted.most(),
            source_ended: false,
            pass_end_on: plan.pass_end_on,
            ends_after: None,
            ended_early: false,
            pipe_size: plan.pipe_size,
            lease_pause: 0,
            detector: BulkDetector::default(),
            stall: None,
            wait: Wait::Other,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether the source was read to its end, not only to the wanted length.
    pub(crate) fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// Ends the destination after the bytes that have arrived at the source. Bytes that arrive later
    /// fail with `EPIPE`.
    pub(crate) fn end_early(&mut self, source: &TransferEnd<'_>) {
        if self.pass_end_on && self.phase == Phase::Open {
            self.ends_after = Some(ioctl_fionread(source).unwrap_or(0));
            self.ended_early = true;
        }
    }

    /// Whether the destination was ended, or is to be ended, before the source has ended.
    pub(crate) fn was_ended_early(&self) -> bool {
        self.ended_early
    }

    /// Whether the source is at its end and nothing is held. Unread bytes of the source stay there.
    pub(crate) fn is_at_end(&mut self, route: Route<'_>) -> bool {
        if self.phase == Phase::Open && self.held.is_empty() {
            match route.source.map(TransferEnd::peek) {
                Some(Ok(0)) => self.end_source(),
                None | Some(Ok(_) | Err(Errno::AGAIN)) => {}
                // The source reports its loss only once: the next look would find an end.
                Some(Err(_)) => self.skip(),
            }
        }
        self.source_ended && self.held.is_empty()
    }

    /// What wakes the task after the last poll.
    pub(crate) fn wait(&self) -> Wait {
        self.wait
    }

    /// Passes no end of input on, because the destination is closed after the last direction has ended.
    pub(crate) fn leave_end_to_close(&mut self) {
        self.pass_end_on = false;
    }

    /// Marks the direction as ended: no bytes have to be moved, or none can be.
    pub(crate) fn skip(&mut self) {
        self.phase = Phase::Ended;
    }

    /// Moves bytes until the end, a failure, or until the source or the destination is not ready.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        route: Route<'_>,
        mut limit: Option<Limit<'_>>,
    ) -> Poll<Result<(), IoFailure>> {
        self.wait = Wait::Other;
        let polled = self.poll_steps(cx, route, &mut limit);
        if let Some((throttle, _)) = &mut limit {
            throttle.give_rest_back();
        }
        // EPIPE from a destination that this side has shut down is no sign of a reset.
        let was_shut_down = self.ended_early && self.ends_after.is_none();
        polled.map_err(|failure| {
            if was_shut_down {
                failure
            } else {
                explained(failure, route.destination)
            }
        })
    }

    fn poll_steps(
        &mut self,
        cx: &mut Context<'_>,
        route: Route<'_>,
        limit: &mut Option<Limit<'_>>,
    ) -> Poll<Result<(), IoFailure>> {
        // Invariant: each pass of the loop takes bytes, ends the direction, or clears the readiness
        // that it acted on. Neither is certain: `EAGAIN` may come from an end that is ready, and a
        // readiness stays if an event has renewed it, or if the peer has ended. So a pass costs a part
        // of the quantum in any case, and the number of passes is limited.
        let mut quantum = Quantum::new();
        loop {
            ready!(self.poll_push(cx, route))?;
            if self.ends_after == Some(0) {
                self.ends_after = None;
                self.pass_end_on = false;
                pass_end_on(route.destination)?;
            }
            if self.phase == Phase::Open {
                if route.source.is_none() {
                    self.end_source();
                } else if self.remaining == 0 {
                    self.phase = Phase::Draining;
                }
            }
            let Some(source) = route.source.filter(|_| self.phase == Phase::Open) else {
                self.held.return_pipe();
                return Poll::Ready(self.finish(route));
            };
            let most = if quantum.is_used_up() {
                self.wait = Wait::Turn;
                yield_to_others(cx);
                Poll::Pending
            } else {
                self.poll_start(cx, source, route.destination, limit)
            };
            let Poll::Ready(most) = most else {
                // The pipe is empty here. Other transfers can use it in the meantime.
                self.held.return_pipe();
                return Poll::Pending;
            };
            let taken = match self.engine {
                Engine::SpliceDirect => self.splice_direct(source, route, most?)?,
                _ => self.pull(source, route, true, most?)?,
            };
            if let Some((throttle, direction)) = limit {
                throttle.used_part(*direction, taken as u64);
            }
            let spliced = self.engine == Engine::SpliceDirect || self.held.is_in_pipe();
            quantum.charge(taken, spliced);
        }
    }

    /// Ready when the source may be read, with the most bytes to take.
    fn poll_start(
        &mut self,
        cx: &mut Context<'_>,
        source: &TransferEnd<'_>,
        destination: &TransferEnd<'_>,
        limit: &mut Option<Limit<'_>>,
    ) -> Poll<Result<usize, IoFailure>> {
        let readable = source.poll_readable(cx);
        if readable.is_pending() {
            self.wait = Wait::Source;
        }
        ready!(readable).map_err(IoFailure::source("epoll_wait"))?;
        // A pipe is not filled for a destination that is known to be full, because it would be held
        // until the destination has room. A small message goes through the buffer, and its send
        // returns EAGAIN.
        // With the budget of memory used up, it would be held above the budget.
        let uses_pipe = match self.engine {
            Engine::SpliceDirect => true,
            Engine::SplicePipe => self.detector.is_bulk(),
            _ => false,
        };
        if uses_pipe || memory::is_used_up() {
            let writable = ready!(destination.poll_writable(cx));
            writable.map_err(IoFailure::destination("epoll_wait"))?;
        }
        // The limiter is consulted before reading: unread bytes keep their sender waiting.
        let allowed = match limit {
            None => u64::MAX,
            Some((throttle, direction)) => ready!(throttle.poll_quantum(cx, *direction)),
        };
        let most = usize::try_from(self.remaining.min(allowed));
        Poll::Ready(Ok(most.unwrap_or(usize::MAX)))
    }

    /// Delivers the held bytes and those still in the kernel's buffer of the failed source. Does
    /// not wait for more, and passes no end on.
    pub(crate) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        route: Route<'_>,
    ) -> Poll<Result<(), IoFailure>> {
        self.pass_end_on = false;
        // After a splice only a recv can confirm that the source is empty, so recv is used alone.
        self.engine = Engine::ReadWrite;
        let mut quantum = Quantum::new();
        while !quantum.is_used_up() {
            ready!(self.poll_push(cx, route))?;
            let taken = match route.source {
                Some(source) if self.phase == Phase::Open => {
                    self.pull(source, route, false, usize::MAX).unwrap_or(0)
                }
                _ => 0,
            };
            if taken == 0 {
                self.phase = Phase::Ended;
                return Poll::Ready(Ok(()));
            }
            quantum.charge(taken, false);
        }
        yield_to_others(cx);
        Poll::Pending
    }

    /// Returns the bytes taken from the source that the destination has not accepted, in order.
    pub(crate) fn into_undelivered(self) -> Vec<u8> {
        self.held.into_undelivered()
    }

    fn end_source(&mut self) {
        self.source_ended = true;
        self.phase = Phase::Draining;
    }

    fn finish(&mut self, route: Route<'_>) -> Result<(), IoFailure> {
        if self.phase == Phase::Draining {
            self.phase = Phase::Ended;
            if self.pass_end_on {
                pass_end_on(route.destination)?;
            }
        }
        Ok(())
    }

    /// Ready when no byte is held any more.
    fn poll_push(&mut self, cx: &mut Context<'_>, route: Route<'_>) -> Poll<Result<(), IoFailure>> {
        let mut full = 0;
        // A splice that writes a part of the pipe may have met a reset. Then it has taken the error of
        // the socket, and reports the part alone.
        let mut may_hide_error = false;
        while !self.held.is_empty() {
            let Poll::Ready(ready) = route.destination.poll_writable(cx) else {
                if !self.held.is_in_pipe() {
                    return Poll::Pending;
                }
                ready!(self.poll_stalled(cx, route));
                continue;
            };
            ready.map_err(IoFailure::destination("epoll_wait"))?;
            let destination = route.destination.as_ref();
            let held = &mut self.held;
            let pushed = route.destination.attempt(Interest::WRITABLE, || {
                let pushed = held.push(destination, None, usize::MAX, route.counter);
                let is_full = matches!(pushed, Ok(Pushed::Full));
                (pushed, is_full)
            });
            // `None`: the report of the reactor was withdrawn.
            let pushed = pushed.unwrap_or(Ok(Pushed::Full)).map_err(|failure| {
                let errno = if may_hide_error {
                    route.destination.explain_later(failure.errno)
                } else {
                    failure.errno
                };
                IoFailure { errno, ..failure }
            })?;
            may_hide_error = pushed == Pushed::Accepted && self.held.is_in_pipe();
            match pushed {
                Pushed::Accepted => {}
                // The readiness may stay, as in `poll_steps`.
                Pushed::Full if full == PUSHES => {
                    yield_to_others(cx);
                    return Poll::Pending;
                }
                Pushed::Full => full += 1,
                Pushed::Unsupported => self.engine = Engine::ReadWrite,
            }
        }
        // A direction that waits for its source holds no buffer.
        self.held.free_buffer();
        Poll::Ready(Ok(()))
    }

    /// Ready when the destination has accepted no byte for the stall time. The held bytes are then in
    /// the buffer, and the leased pipe is back in the pool. While the budget of memory has no room for
    /// them, they stay in the pipe.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, route: Route<'_>) -> Poll<()> {
        let moved = route.counter.get();
        let stall = self
            .stall
            .get_or_insert_with(|| Box::new(Stall::new(moved)));
        ready!(stall.poll(cx, moved));
        while !self.held.try_spill() {
            stall.prolong();
            ready!(stall.poll(cx, moved));
        }
        self.stall = None;
        Poll::Ready(())
    }
}

/// A write to a destination that was reset returns `EPIPE`. This replaces it with `ECONNRESET`.
pub(crate) fn explained(failure: IoFailure, destination: &TransferEnd<'_>) -> IoFailure {
    let errno = match failure.end {
        End::Source => failure.errno,
        End::Destination => destination.explain(failure.errno),
    };
    IoFailure { errno, ..failure }
}

/// Shuts the destination down for writing.
pub(crate) fn pass_end_on(destination: &TransferEnd<'_>) -> Result<(), IoFailure> {
    destination
        .end()
        .map_err(IoFailure::destination("shutdown"))
}
