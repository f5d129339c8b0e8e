//! Taking from the source, by way of a pipe or a buffer.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{Direction, Phase, Pipes};
use crate::direction::plan::Route;
use crate::engine::splice::FdAt;
use crate::engine::{read_write, readiness, splice};
use crate::fault::Fault;
use crate::fd::Ready;
use crate::pipe::Lease;

/// Reads through the buffer before a refused lease is asked for again.
const LEASE_PAUSE: u32 = 64;

impl Direction {
    /// Takes bytes from the source once; 0 when there were none to take or the end was met.
    pub(super) fn pull(
        &mut self,
        route: Route<'_>,
        ready: Option<&mut Ready<'_>>,
        most: usize,
    ) -> Result<usize, Fault> {
        if self.wants_pipe()
            && let Some(lease) = &mut self.lease
        {
            match splice::fill(FdAt(route.source.as_fd(), None), lease, most) {
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
                Err(errno) if splice::is_unsupported(errno) => self.pipes = Pipes::None,
                Err(errno) => return Err(Fault::source("splice")(errno)),
            }
        }
        self.pull_through_buffer(route, ready, most)
    }

    /// Source → destination by one splice, one of them a pipe.
    pub(super) fn pass(
        &mut self,
        route: Route<'_>,
        readable: &mut Ready<'_>,
        writable: &mut Ready<'_>,
        most: usize,
    ) -> Result<usize, Fault> {
        let (source, destination) = (route.source.as_fd(), route.destination.as_fd());
        match splice::direct(FdAt(source, None), FdAt(destination, None), most) {
            Ok(0) => self.pull_through_buffer(route, Some(readable), most),
            Ok(passed) => {
                self.taken(passed);
                route.counter.add(passed, true);
                Ok(passed)
            }
            Err(Errno::AGAIN) => {
                let (can_read, can_write) =
                    readiness(source, destination).map_err(Fault::source("poll"))?;
                if !can_read {
                    readable.clear_ready();
                }
                if !can_write {
                    writable.clear_ready();
                }
                if can_read && can_write && route.source.urgent() {
                    return self.pull_through_buffer(route, Some(readable), most);
                }
                Ok(0)
            }
            Err(errno) if splice::is_unsupported(errno) => {
                self.pipes = Pipes::None;
                self.pull_through_buffer(route, Some(readable), most)
            }
            // Into a pipe, only a missing reader is the pipe's own failure.
            Err(errno) if errno != Errno::PIPE && route.destination.is_pipe() => {
                Err(Fault::source("splice")(errno))
            }
            Err(errno) => Err(Fault::destination("splice")(errno)),
        }
    }

    fn pull_through_buffer(
        &mut self,
        route: Route<'_>,
        ready: Option<&mut Ready<'_>>,
        most: usize,
    ) -> Result<usize, Fault> {
        let (source, destination) = (route.source.endpoint(), route.destination.endpoint());
        read_write::with_buffer(|buffer| {
            let most = most.min(buffer.len());
            let received = match read_write::take(source, None, &mut buffer[..most]) {
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
                Err(errno) => return Err(Fault::source(read_write::take_call(source))(errno)),
            };
            self.taken(received);
            // A short read has emptied a socket: the next event tells of more, and the recv that
            // would only say EAGAIN is saved. A terminal gives a line at a time.
            let emptied = received < most && source.is_socket() && !route.source.urgent();
            if let Some(ready) = ready.filter(|_| emptied) {
                ready.clear_ready();
            }
            match read_write::give(destination, None, &buffer[..received]) {
                Ok(sent) => {
                    route.counter.add(sent, false);
                    self.bytes.extend_from_slice(&buffer[sent..received]);
                }
                Err(errno) => {
                    self.bytes.extend_from_slice(&buffer[..received]);
                    if errno != Errno::AGAIN {
                        return Err(Fault::destination(read_write::give_call(destination))(
                            errno,
                        ));
                    }
                }
            }
            Ok(received)
        })
    }

    fn taken(&mut self, bytes: usize) {
        self.remaining -= bytes as u64;
        let before = self.cadence.is_bulk();
        self.cadence.note(bytes);
        let bulk = self.cadence.is_bulk();
        if bulk != before && self.pipes == Pipes::Leased {
            tracing::debug!(
                engine = if bulk { "splice" } else { "read_write" },
                "engine change"
            );
        }
    }

    /// Whether the next bytes go through a pipe; leases one if need be.
    fn wants_pipe(&mut self) -> bool {
        if self.pipes != Pipes::Leased || !self.cadence.is_bulk() {
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
