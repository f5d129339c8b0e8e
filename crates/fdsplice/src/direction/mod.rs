//! One direction of a transfer: a state machine that both verbs use, a relay twice.
//!
//! A message costs one `recv` and one `send`, so a round trip through a relay two of each: a short
//! read has emptied the socket, and nothing is asked twice. In bulk a pipe is filled and emptied by
//! one `splice` each, and one more finds the socket empty: 3 to 9 calls a MiB, by how much the
//! socket holds at a time.

pub(crate) mod bulk;
pub(crate) mod plan;
mod pull;

use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::task::yield_now;

use crate::direction::bulk::BulkDetector;
use crate::direction::plan::{Plan, Route};
use crate::engine::splice::FdAt;
use crate::engine::{read_write, splice};
use crate::fault::{End, Fault};
use crate::fd::Kind;
use crate::fd::{Ready, RegisteredFd};
use crate::limits::deadline::Stall;
use crate::limits::rate::Limit;
use crate::pipe::Lease;

/// Bytes one poll moves before it lets other transfers of its thread go first.
const QUANTUM: u64 = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The source may have more.
    Open,
    /// The source is at its end, or has failed and only what it still holds is wanted.
    Draining,
    /// Everything was delivered, and the end passed on where that was asked for.
    Ended,
}

/// Lets every other transfer of the thread go first, and the reactor look for new events: what
/// tokio's `yield_now` does, and waking oneself does not.
fn yield_to_others(cx: &mut Context<'_>) {
    let _ = pin!(yield_now()).poll(cx);
}

/// What was waited for before a read.
struct Start<'a> {
    readable: Ready<'a>,
    /// Where the bytes go through a pipe.
    writable: Option<Ready<'a>>,
    most: usize,
}

/// What bulk bytes are spliced through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pipes {
    /// They are not.
    None,
    Leased,
    /// One end is a pipe itself.
    OfAnEnd,
}

/// Invariant: at most one of `bytes` and a pipe that is not empty holds something, and the source
/// is only read when neither does. So an `EAGAIN` from the source's side of a splice never means a
/// full pipe, order is kept across a change of engine, and all that was taken and not delivered
/// stands in one place.
#[derive(Debug)]
pub(crate) struct Direction {
    phase: Phase,
    bytes: Vec<u8>,
    delivered: usize,
    lease: Option<Lease>,
    remaining: u64,
    source_ended: bool,
    pass_end_on: bool,
    pipes: Pipes,
    pipe_size: Option<usize>,
    lease_pause: u32,
    cadence: BulkDetector,
    stall: Option<Stall>,
}

impl Direction {
    pub(crate) fn new(plan: Plan, source: &RegisteredFd, destination: &RegisteredFd) -> Self {
        let ends = [source.endpoint(), destination.endpoint()];
        let can_splice = ends
            .iter()
            .all(|end| end.is_nonblocking() && end.kind() != Kind::Tty);
        let pipes = if plan.copy_only || !can_splice {
            Pipes::None
        } else if ends.iter().any(|end| end.kind() == Kind::Pipe) {
            Pipes::OfAnEnd
        } else {
            Pipes::Leased
        };
        Self {
            phase: Phase::Open,
            bytes: plan.head,
            delivered: 0,
            lease: None,
            remaining: plan.length.unwrap_or(u64::MAX),
            source_ended: false,
            pass_end_on: plan.pass_end_on,
            pipes,
            pipe_size: plan.pipe_size,
            lease_pause: 0,
            cadence: BulkDetector::default(),
            stall: None,
        }
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether the source was read to its end (not merely to the wanted length).
    pub(crate) fn source_ended(&self) -> bool {
        self.source_ended
    }

    /// Treats the direction as ended: there is nothing to move, or nowhere to move it.
    pub(crate) fn skip(&mut self) {
        self.phase = Phase::Ended;
    }

    /// Moves bytes until the end, a failure, or until source or destination has to be waited for.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        route: Route<'_>,
        limit: Option<Limit<'_>>,
    ) -> Poll<Result<(), Fault>> {
        self.poll_moving(cx, route, limit).map_err(|fault| {
            let errno = match fault.end {
                End::Source => fault.errno,
                End::Destination => route.destination.explain(fault.errno),
            };
            Fault { errno, ..fault }
        })
    }

    fn poll_moving(
        &mut self,
        cx: &mut Context<'_>,
        route: Route<'_>,
        mut limit: Option<Limit<'_>>,
    ) -> Poll<Result<(), Fault>> {
        let polled = self.poll_steps(cx, route, &mut limit);
        if let Some((throttle, _)) = &mut limit {
            throttle.give_rest_back();
        }
        polled
    }

    fn poll_steps(
        &mut self,
        cx: &mut Context<'_>,
        route: Route<'_>,
        limit: &mut Option<Limit<'_>>,
    ) -> Poll<Result<(), Fault>> {
        let mut quantum = QUANTUM;
        loop {
            ready!(self.poll_push(cx, route))?;
            if self.phase == Phase::Open && self.remaining == 0 {
                self.phase = Phase::Draining;
            }
            if self.phase != Phase::Open {
                self.lease = None;
                return Poll::Ready(self.finish(route));
            }
            let start = if quantum == 0 {
                yield_to_others(cx);
                Poll::Pending
            } else {
                self.poll_start(cx, route, limit)
            };
            let Poll::Ready(start) = start else {
                // The pipe is empty here; whoever moves bytes meanwhile may have it.
                self.lease = None;
                return Poll::Pending;
            };
            let Start {
                mut readable,
                writable,
                most,
            } = start?;
            let taken = match (self.pipes, writable) {
                (Pipes::OfAnEnd, Some(mut writable)) => {
                    self.pass(route, &mut readable, &mut writable, most)?
                }
                _ => self.pull(route, Some(&mut readable), most)?,
            };
            if let Some((throttle, who)) = limit {
                throttle.used_part(*who, taken as u64);
            }
            quantum = quantum.saturating_sub(taken as u64);
        }
    }

    /// Waits for what has to be there before the source is read.
    fn poll_start<'a>(
        &self,
        cx: &mut Context<'_>,
        route: Route<'a>,
        limit: &mut Option<Limit<'_>>,
    ) -> Poll<Result<Start<'a>, Fault>> {
        let readable =
            ready!(route.source.poll_readable(cx)).map_err(Fault::source("epoll_wait"))?;
        // No pipe is filled for a destination that is known to be full: it would be held for as
        // long as that takes. A small message goes to the buffer and finds out by itself.
        let pipe = match self.pipes {
            Pipes::None => false,
            Pipes::Leased => self.cadence.is_bulk(),
            Pipes::OfAnEnd => true,
        };
        let writable = if pipe {
            let writable = ready!(route.destination.poll_writable(cx));
            Some(writable.map_err(Fault::destination("epoll_wait"))?)
        } else {
            None
        };
        // Before reading: what is not read keeps its sender waiting.
        let allowed = match limit {
            None => u64::MAX,
            Some((throttle, who)) => ready!(throttle.poll_quantum(cx, *who)),
        };
        Poll::Ready(Ok(Start {
            readable,
            writable,
            most: usize::try_from(self.remaining.min(allowed)).unwrap_or(usize::MAX),
        }))
    }

    /// Delivers what is held and what the failed source's kernel still has, without waiting for
    /// more, and without passing on an end.
    pub(crate) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        route: Route<'_>,
    ) -> Poll<Result<(), Fault>> {
        self.pass_end_on = false;
        // Splice tells an empty source only by way of a recv: use that alone.
        self.pipes = Pipes::None;
        let mut quantum = QUANTUM;
        while quantum > 0 {
            ready!(self.poll_push(cx, route))?;
            let taken = match self.phase {
                Phase::Open => self.pull(route, None, usize::MAX).unwrap_or(0),
                Phase::Draining | Phase::Ended => 0,
            };
            if taken == 0 {
                self.phase = Phase::Ended;
                return Poll::Ready(Ok(()));
            }
            quantum = quantum.saturating_sub(taken as u64);
        }
        yield_to_others(cx);
        Poll::Pending
    }

    /// What was taken from the source and not accepted by the destination, in order.
    pub(crate) fn into_undelivered(mut self) -> Vec<u8> {
        let mut rest = self.bytes.split_off(self.delivered);
        if let Some(lease) = self.lease.take() {
            rest.extend(lease.into_bytes());
        }
        rest
    }

    fn finish(&mut self, route: Route<'_>) -> Result<(), Fault> {
        if self.phase == Phase::Draining {
            self.phase = Phase::Ended;
            if self.pass_end_on {
                route
                    .destination
                    .end()
                    .map_err(Fault::destination("shutdown"))?;
            }
        }
        Ok(())
    }

    /// Ready when nothing is held any more.
    fn poll_push(&mut self, cx: &mut Context<'_>, route: Route<'_>) -> Poll<Result<(), Fault>> {
        while self.delivered < self.bytes.len() {
            let mut ready = ready!(route.destination.poll_writable(cx))
                .map_err(Fault::destination("epoll_wait"))?;
            let rest = &self.bytes[self.delivered..];
            match read_write::give(route.destination.endpoint(), None, rest) {
                Ok(sent) => {
                    self.delivered += sent;
                    route.counter.add(sent, false);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(errno) => {
                    let call = read_write::give_call(route.destination.endpoint());
                    return Poll::Ready(Err(Fault::destination(call)(errno)));
                }
            }
        }
        // A direction that waits holds no buffer.
        self.bytes = Vec::new();
        self.delivered = 0;
        while let Some(lease) = self.lease.as_mut().filter(|lease| lease.held() > 0) {
            let Poll::Ready(ready) = route.destination.poll_writable(cx) else {
                ready!(self.poll_stalled(cx, route));
                return self.poll_push(cx, route);
            };
            let mut ready = ready.map_err(Fault::destination("epoll_wait"))?;
            match splice::drain(lease, FdAt(route.destination.as_fd(), None)) {
                Ok(sent) => route.counter.add(sent, true),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(errno) if splice::is_unsupported(errno) => {
                    self.pipes = Pipes::None;
                    self.bytes = self.lease.take().map(Lease::into_bytes).unwrap_or_default();
                    return self.poll_push(cx, route);
                }
                Err(errno) => return Poll::Ready(Err(Fault::destination("splice")(errno))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the destination has taken nothing for so long that the pipe is given up: its
    /// bytes wait in a buffer instead, and others can have the pipe.
    fn poll_stalled(&mut self, cx: &mut Context<'_>, route: Route<'_>) -> Poll<()> {
        let moved = route.counter.get();
        let stall = self.stall.get_or_insert_with(|| Stall::new(moved));
        ready!(stall.poll(cx, moved));
        self.stall = None;
        self.bytes = self.lease.take().map(Lease::into_bytes).unwrap_or_default();
        Poll::Ready(())
    }
}
