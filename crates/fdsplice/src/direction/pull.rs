//! How a direction takes bytes from its source: by a splice into a leased pipe, by a splice
//! straight to the destination, or by a read into a buffer.

use std::os::fd::AsFd;

use rustix::io::Errno;
use tokio::io::Interest;

use super::Direction;
use crate::direction::plan::Route;
use crate::engine::splice::FdAt;
use crate::engine::{Engine, is_refused, read_write, readiness, splice};
use crate::fault::IoFailure;
use crate::fd::{Kind, TransferEnd};
use crate::limits::memory;
use crate::pipe::{Borrower, Lease};

/// How many splices in a row may return `EAGAIN` while both ends are ready. Then a read is tried.
const DIRECT_TRIES: u32 = 2;
/// Number of buffered reads between a refused lease and the next request.
const LEASE_PAUSE: u32 = 64;

impl Direction {
    /// Takes bytes from the source once. Returns 0 when none are there, and at the end of input.
    /// `is_reported`: the reactor has reported the source readable.
    pub(super) fn pull(
        &mut self,
        source: &TransferEnd<'_>,
        route: Route<'_>,
        is_reported: bool,
        most: usize,
    ) -> Result<usize, IoFailure> {
        if let Some(lease) = self.pipe_for_bulk() {
            let most = most.min(memory::allowance());
            let filled = reading(source, is_reported, || {
                let filled = splice::fill(FdAt(source.as_fd(), None), lease, most);
                let is_empty = filled == Err(Errno::AGAIN) && !source.may_be_urgent();
                (filled, is_empty)
            });
            match filled {
                None | Some((Err(Errno::AGAIN), true)) => return Ok(0),
                // 0: the end of input or a reset. EAGAIN: no bytes or an out-of-band byte. The recv in
                // `pull_through_buffer` distinguishes them.
                Some((Ok(0) | Err(Errno::AGAIN), _)) => {}
                Some((Ok(taken), _)) => {
                    self.note_taken(taken);
                    return Ok(taken);
                }
                Some((Err(errno), _)) if is_refused(errno) => self.engine = Engine::ReadWrite,
                Some((Err(errno), _)) => return Err(IoFailure::source("splice")(errno)),
            }
        }
        self.pull_through_buffer(source, route, is_reported, most)
    }

    /// Source → destination by one splice, one of them a pipe. Both were reported ready.
    pub(super) fn splice_direct(
        &mut self,
        source: &TransferEnd<'_>,
        route: Route<'_>,
        most: usize,
    ) -> Result<usize, IoFailure> {
        let destination = route.destination;
        let (from, to) = (source.as_fd(), destination.as_fd());
        for _ in 0..DIRECT_TRIES {
            let mut moved = Err(Errno::AGAIN);
            // The source and the destination, where the splice was tried and found one not ready.
            let mut ready = Ok((true, true));
            source.attempt(Interest::READABLE, || {
                destination.attempt(Interest::WRITABLE, || {
                    moved = splice::direct(FdAt(from, None), FdAt(to, None), most);
                    if moved == Err(Errno::AGAIN) {
                        ready = readiness(from, to);
                    }
                    ((), matches!(ready, Ok((_, false))))
                });
                ((), ready == Ok((false, true)))
            });
            match moved {
                Ok(0) => break,
                Ok(moved) => {
                    self.note_taken(moved);
                    route.counter.add(moved as u64, true);
                    return Ok(moved);
                }
                Err(Errno::AGAIN) => match ready {
                    // The source may have bytes: with SO_RCVLOWAT, poll does not report a few.
                    Ok((_, false) | (false, true)) => return Ok(0),
                    // An end has become ready since the splice.
                    Ok((true, true)) if !source.may_be_urgent() => {}
                    _ => break,
                },
                Err(errno) if is_refused(errno) => {
                    self.engine = Engine::ReadWrite;
                    break;
                }
                // If the destination is a pipe, every error except EPIPE is one of the source.
                Err(errno) if errno != Errno::PIPE && destination.facts().is_pipe() => {
                    return Err(IoFailure::source("splice")(errno));
                }
                Err(errno) => return Err(IoFailure::destination("splice")(errno)),
            }
        }
        // The end of input, an out-of-band byte, or a splice that cannot serve these ends. A recv
        // shows which.
        self.pull_through_buffer(source, route, true, most)
    }

    fn pull_through_buffer(
        &mut self,
        source: &TransferEnd<'_>,
        route: Route<'_>,
        is_reported: bool,
        most: usize,
    ) -> Result<usize, IoFailure> {
        let fd = source.as_ref();
        read_write::with_buffer(|buffer| {
            let most = most.min(buffer.len()).min(memory::allowance());
            let received = reading(source, is_reported, || {
                let received = read_write::recv_or_read(fd, None, &mut buffer[..most]);
                let is_empty = match received {
                    // A short read of a TCP socket means that it is empty: the reactor reports the next
                    // bytes, and the recv that would return EAGAIN is skipped. Other sources return less
                    // than they have: a Unix socket stops at a message with descriptors or
                    // credentials (`unix(7)`), a terminal at the end of a line.
                    Ok(received) => {
                        let is_short = received > 0 && received < most;
                        is_short && fd.kind() == Kind::Tcp && !source.is_urgent()
                    }
                    Err(errno) => errno == Errno::AGAIN,
                };
                (received, is_empty)
            });
            let received = match received {
                None | Some((Err(Errno::AGAIN), _)) => return Ok(0),
                Some((Ok(0), _)) => {
                    self.end_source();
                    return Ok(0);
                }
                Some((Ok(received), _)) => received,
                Some((Err(errno), _)) => {
                    return Err(IoFailure::source(read_write::source_call(fd))(errno));
                }
            };
            self.note_taken(received);
            let destination = route.destination.as_ref();
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

/// Makes one call that reads from the source. Returns its result, and whether it has found the source
/// empty. `None` if the report of the reactor was withdrawn.
fn reading<T: Copy>(
    source: &TransferEnd<'_>,
    is_reported: bool,
    call: impl FnOnce() -> (T, bool),
) -> Option<(T, bool)> {
    let call = || {
        let (result, is_empty) = call();
        ((result, is_empty), is_empty)
    };
    if is_reported {
        source.attempt(Interest::READABLE, call)
    } else {
        Some(call().0)
    }
}
