//! One direction of a transfer: a state machine that both verbs use, a relay twice.

use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;

use crate::cadence::Cadence;
use crate::engine::{read_write, splice};
use crate::pipe::Lease;
use crate::socket::{Ready, Socket};
use crate::traffic::Counter;

/// Bytes one poll moves before it lets other transfers of its thread go first.
const QUANTUM: u64 = 2 * 1024 * 1024;
/// Reads through the buffer before a refused lease is asked for again.
const LEASE_PAUSE: u32 = 64;

/// The end at which a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// A failed system call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) errno: Errno,
    pub(crate) syscall: &'static str,
    pub(crate) end: End,
}

impl Fault {
    fn source(syscall: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            errno,
            syscall,
            end: End::Source,
        }
    }

    fn destination(syscall: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            errno,
            syscall,
            end: End::Destination,
        }
    }
}

/// Where a direction takes its bytes from, where it brings them, and where it counts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) source: &'a Socket,
    pub(crate) destination: &'a Socket,
    pub(crate) counter: Counter<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The source may have more.
    Open,
    /// The source is at its end, or has failed and only what it still holds is wanted.
    Draining,
    /// Everything was delivered, and the end passed on where that was asked for.
    Ended,
}

/// What a direction can be told beforehand.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Delivered before anything from the source.
    pub(crate) head: Vec<u8>,
    /// At most this many bytes of the source.
    pub(crate) length: Option<u64>,
    /// Shut the destination down for writing at the end.
    pub(crate) pass_end_on: bool,
    /// Never use a pipe.
    pub(crate) copy_only: bool,
    /// Wanted capacity of the pipe in bytes.
    pub(crate) pipe_size: Option<usize>,
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
    splices: bool,
    pipe_size: Option<usize>,
    lease_pause: u32,
    cadence: Cadence,
}

impl Direction {
    pub(crate) fn new(plan: Plan, source: &Socket, destination: &Socket) -> Self {
        let nonblocking = source.endpoint().nonblocking() && destination.endpoint().nonblocking();
        Self {
            phase: Phase::Open,
            bytes: plan.head,
            delivered: 0,
            lease: None,
            remaining: plan.length.unwrap_or(u64::MAX),
            source_ended: false,
            pass_end_on: plan.pass_end_on,
            splices: nonblocking && !plan.copy_only,
            pipe_size: plan.pipe_size,
            lease_pause: 0,
            cadence: Cadence::default(),
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
            if quantum == 0 {
                cx.waker().wake_by_ref();
            }
            let ready = if quantum == 0 {
                Poll::Pending
            } else {
                route.source.poll_readable(cx)
            };
            let Poll::Ready(ready) = ready else {
                // The pipe is empty here; whoever moves bytes meanwhile may have it.
                self.lease = None;
                return Poll::Pending;
            };
            let mut ready = ready.map_err(Fault::source("epoll_wait"))?;
            let taken = self.pull(route, Some(&mut ready))?;
            quantum = quantum.saturating_sub(taken as u64);
        }
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
        self.splices = false;
        let mut quantum = QUANTUM;
        while quantum > 0 {
            ready!(self.poll_push(cx, route))?;
            let taken = match self.phase {
                Phase::Open => self.pull(route, None).unwrap_or(0),
                Phase::Draining | Phase::Ended => 0,
            };
            if taken == 0 {
                self.phase = Phase::Ended;
                return Poll::Ready(Ok(()));
            }
            quantum = quantum.saturating_sub(taken as u64);
        }
        cx.waker().wake_by_ref();
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
            match read_write::transmit(route.destination.as_fd(), &self.bytes[self.delivered..]) {
                Ok(sent) => {
                    self.delivered += sent;
                    route.counter.add(sent, false);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(errno) => return Poll::Ready(Err(Fault::destination("send")(errno))),
            }
        }
        // A direction that waits holds no buffer.
        self.bytes = Vec::new();
        self.delivered = 0;
        while let Some(lease) = self.lease.as_mut().filter(|lease| lease.held() > 0) {
            let mut ready = ready!(route.destination.poll_writable(cx))
                .map_err(Fault::destination("epoll_wait"))?;
            match splice::drain(lease, route.destination.as_fd()) {
                Ok(sent) => route.counter.add(sent, true),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(errno) if splice::is_unsupported(errno) => {
                    self.splices = false;
                    self.bytes = self.lease.take().map(Lease::into_bytes).unwrap_or_default();
                    return self.poll_push(cx, route);
                }
                Err(errno) => return Poll::Ready(Err(Fault::destination("splice")(errno))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes bytes from the source once; 0 when there were none to take or the end was met.
    fn pull(&mut self, route: Route<'_>, ready: Option<&mut Ready<'_>>) -> Result<usize, Fault> {
        if self.wants_pipe() {
            let most = usize::try_from(self.remaining).unwrap_or(usize::MAX);
            if let Some(lease) = &mut self.lease {
                match splice::fill(route.source.as_fd(), lease, most) {
                    Err(Errno::AGAIN) if !route.source.urgent() => {
                        if let Some(ready) = ready {
                            ready.clear_ready();
                        }
                        return Ok(0);
                    }
                    // Ambiguous: the recv below tells what it means.
                    Ok(0) | Err(Errno::AGAIN) => {}
                    Ok(taken) => {
                        self.taken(taken);
                        return Ok(taken);
                    }
                    Err(errno) if splice::is_unsupported(errno) => self.splices = false,
                    Err(errno) => return Err(Fault::source("splice")(errno)),
                }
            }
        }
        self.pull_through_buffer(route, ready)
    }

    fn pull_through_buffer(
        &mut self,
        route: Route<'_>,
        ready: Option<&mut Ready<'_>>,
    ) -> Result<usize, Fault> {
        read_write::with_buffer(|buffer| {
            let most = usize::try_from(self.remaining)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let received = match read_write::receive(route.source.as_fd(), &mut buffer[..most]) {
                Ok(0) => {
                    self.source_ended = true;
                    self.phase = Phase::Draining;
                    return Ok(0);
                }
                Ok(received) => received,
                Err(Errno::AGAIN) => {
                    if let Some(ready) = ready {
                        ready.clear_ready();
                    }
                    return Ok(0);
                }
                Err(errno) => return Err(Fault::source("recv")(errno)),
            };
            self.taken(received);
            // A short read has emptied the socket: the next event tells of more, and the recv that
            // would only say EAGAIN is saved.
            if let Some(ready) = ready.filter(|_| received < most && !route.source.urgent()) {
                ready.clear_ready();
            }
            match read_write::transmit(route.destination.as_fd(), &buffer[..received]) {
                Ok(sent) => {
                    route.counter.add(sent, false);
                    self.bytes.extend_from_slice(&buffer[sent..received]);
                }
                Err(errno) => {
                    self.bytes.extend_from_slice(&buffer[..received]);
                    if errno != Errno::AGAIN {
                        return Err(Fault::destination("send")(errno));
                    }
                }
            }
            Ok(received)
        })
    }

    fn taken(&mut self, bytes: usize) {
        self.remaining -= bytes as u64;
        self.cadence.note(bytes);
    }

    /// Whether the next bytes go through a pipe; leases one if need be.
    fn wants_pipe(&mut self) -> bool {
        if !self.splices || !self.cadence.is_bulk() {
            self.lease = None;
            return false;
        }
        if self.lease.is_none() {
            if self.lease_pause > 0 {
                self.lease_pause -= 1;
                return false;
            }
            self.lease = Lease::take(self.pipe_size);
            if self.lease.is_none() {
                self.lease_pause = LEASE_PAUSE;
            }
        }
        self.lease.is_some()
    }
}
