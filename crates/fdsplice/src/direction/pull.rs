//! How a direction takes bytes from its source: by a splice into a leased pipe, by a splice
//! straight to the destination, or by a read into a buffer.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::Direction;
use crate::direction::plan::Route;
use crate::engine::splice::FdAt;
use crate::engine::{Engine, is_refused, read_write, readiness, splice};
use crate::fault::IoFailure;
use crate::fd::{Kind, Ready, RegisteredFd};
use crate::limits::memory;
use crate::pipe::{Borrower, Lease};

/// How many splices in a row may return `EAGAIN` while both ends are ready. Then a read is tried.
const DIRECT_TRIES: u32 = 2;
/// Number of buffered reads between a refused lease and the next request.
const LEASE_PAUSE: u32 = 64;

impl Direction {
    /// Takes bytes from the source once. Returns 0 when none are there, and at the end of input.
    pub(super) fn pull(
        &mut self,
        source: &RegisteredFd,
        route: Route<'_>,
        ready: Option<&mut Ready<'_>>,
        most: usize,
    ) -> Result<usize, IoFailure> {
        if let Some(lease) = self.pipe_for_bulk() {
            // Once the peer has ended, the readiness stays, and cannot be cleared.
            let ended = ready
                .as_ref()
                .is_some_and(|ready| ready.ready().is_read_closed());
            let most = most.min(memory::allowance());
            match splice::fill(FdAt(source.as_fd(), None), lease, most) {
                Err(Errno::AGAIN) if !source.urgent() && !ended => {
                    if let Some(ready) = ready {
                        ready.clear_ready();
                    }
                    return Ok(0);
                }
                // 0: the end of input or a reset. EAGAIN: no bytes or an out-of-band byte. The recv in
                // `pull_through_buffer` distinguishes them.
                Ok(0) | Err(Errno::AGAIN) => {}
                Ok(taken) => {
                    self.note_taken(taken);
                    return Ok(taken);
                }
                Err(errno) if is_refused(errno) => self.engine = Engine::ReadWrite,
                Err(errno) => return Err(IoFailure::source("splice")(errno)),
            }
        }
        self.pull_through_buffer(source, route, ready, most)
    }

    /// Source → destination by one splice, one of them a pipe.
    pub(super) fn splice_direct(
        &mut self,
        source: &RegisteredFd,
        route: Route<'_>,
        readable: &mut Ready<'_>,
        writable: &mut Ready<'_>,
        most: usize,
    ) -> Result<usize, IoFailure> {
        let (from, to) = (source.as_fd(), route.destination.as_fd());
        for _ in 0..DIRECT_TRIES {
            match splice::direct(FdAt(from, None), FdAt(to, None), most) {
                Ok(0) => break,
                Ok(moved) => {
                    self.note_taken(moved);
                    route.counter.add(moved as u64, true);
                    return Ok(moved);
                }
                Err(Errno::AGAIN) => match readiness(from, to) {
                    // The source may have bytes: with SO_RCVLOWAT, poll does not report a few.
                    Ok((_, false)) => {
                        writable.clear_ready();
                        return Ok(0);
                    }
                    Ok((false, true)) => {
                        readable.clear_ready();
                        return Ok(0);
                    }
                    // An end has become ready since the splice.
                    Ok((true, true)) if !source.urgent() => {}
                    _ => break,
                },
                Err(errno) if is_refused(errno) => {
                    self.engine = Engine::ReadWrite;
                    break;
                }
                // If the destination is a pipe, every error except EPIPE is one of the source.
                Err(errno) if errno != Errno::PIPE && route.destination.is_pipe() => {
                    return Err(IoFailure::source("splice")(errno));
                }
                Err(errno) => return Err(IoFailure::destination("splice")(errno)),
            }
        }
        // The end of input, an out-of-band byte, or a splice that cannot serve these ends. A recv
        // shows which.
        self.pull_through_buffer(source, route, Some(readable), most)
    }

    fn pull_through_buffer(
        &mut self,
        source: &RegisteredFd,
        route: Route<'_>,
        ready: Option<&mut Ready<'_>>,
        most: usize,
    ) -> Result<usize, IoFailure> {
        let endpoint = source.endpoint();
        read_write::with_buffer(|buffer| {
            let most = most.min(buffer.len()).min(memory::allowance());
            let received = match read_write::recv_or_read(endpoint, None, &mut buffer[..most]) {
                Ok(0) => {
                    self.end_source();
                    return Ok(0);
                }
                Ok(received) => received,
                Err(Errno::AGAIN) => {
                    if let Some(ready) = ready {
                        ready.clear_ready();
                    }
                    return Ok(0);
                }
                Err(errno) => {
                    return Err(IoFailure::source(read_write::source_call(endpoint))(errno));
                }
            };
            self.note_taken(received);
            // A short read of a TCP socket means that it is empty: the reactor reports the next
            // bytes, and the recv that would return EAGAIN is skipped. Other sources keep bytes back
            // that are there: a Unix socket those behind a message with descriptors or credentials
            // (`unix(7)`), a terminal those of the next line.
            let is_empty = received < most && endpoint.kind() == Kind::Tcp && !source.urgent();
            if let Some(ready) = ready.filter(|_| is_empty) {
                ready.clear_ready();
            }
            let destination = route.destination.endpoint();
            self.held
                .send_or_hold(destination, &buffer[..received], route.counter)?;
            Ok(received)
        })
    }

    fn note_taken(&mut self, bytes: usize) {
        self.remaining -= bytes as u64;
        if let Some(left) = &mut self.ends_after {
            *left = left.saturating_sub(bytes as u64);
        }
        let before = self.detector.is_bulk();
        self.detector.note(bytes);
        let bulk = self.detector.is_bulk();
        if bulk != before && self.engine == Engine::SplicePipe {
            tracing::debug!(
                engine = if bulk { "splice" } else { "read_write" },
                "engine change"
            );
        }
    }

    /// The pipe for the next bytes, leased here if necessary. `None` while they go through the
    /// buffer.
    fn pipe_for_bulk(&mut self) -> Option<&mut Lease> {
        if self.engine != Engine::SplicePipe || !self.detector.is_bulk() {
            self.held.return_pipe();
            return None;
        }
        if self.held.pipe().is_none() {
            if self.lease_pause > 0 {
                self.lease_pause -= 1;
                return None;
            }
            let lease = self.held.lease_pipe(self.pipe_size, Borrower::Worker);
            if lease.is_none() {
                self.lease_pause = LEASE_PAUSE;
            }
        }
        self.held.pipe()
    }
}
