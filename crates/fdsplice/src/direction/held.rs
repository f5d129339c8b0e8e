//! The bytes between the two ends of a direction: taken from the source, not yet accepted by the
//! destination. Transfers with the reactor and transfers with blocking calls both keep theirs here.

use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::engine::splice::FdAt;
use crate::engine::{is_refused, read_write, splice};
use crate::fault::IoFailure;
use crate::fd::FdRef;
use crate::limits::memory::{self, Charge};
use crate::pipe::{Borrower, Lease};
use crate::traffic::Counter;

/// The held bytes of one direction.
///
/// Invariant: at most one of the buffer and the leased pipe holds bytes, and the source is only
/// read when neither does. Therefore `EAGAIN` from the source side of a splice never means a full
/// pipe, the order survives a change of engine, and all bytes that were taken and not delivered are
/// in one place.
#[derive(Debug)]
pub(crate) struct Held {
    buffer: Vec<u8>,
    /// How many bytes of `buffer` the destination has accepted.
    accepted: usize,
    /// The bytes of `buffer` in the budget of memory. The memory of accepted bytes is freed with the
    /// others, so they stay charged.
    charge: Charge,
    lease: Option<Lease>,
}

/// The result of one call that pushes held bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The destination has accepted bytes.
    Accepted,
    /// The destination is full.
    Full,
    /// The destination cannot be spliced to. The bytes are in the buffer now.
    Unsupported,
}

impl Held {
    /// Holds `head`, which comes from the caller and not from the source. It is not charged, because
    /// the caller decides on its size.
    pub(crate) fn new(head: Vec<u8>) -> Self {
        Self {
            buffer: head,
            accepted: 0,
            charge: Charge::default(),
            lease: None,
        }
    }

    /// Holds all bytes of a transfer without a source, which the core has read from a file.
    pub(crate) fn without_source(bytes: Vec<u8>) -> Self {
        let mut held = Self::new(bytes);
        held.charge.set(held.buffer.len());
        held
    }

    pub(crate) fn len(&self) -> usize {
        self.buffer.len() - self.accepted + self.lease.as_ref().map_or(0, Lease::held)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the held bytes are in a pipe.
    pub(crate) fn is_in_pipe(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.held() > 0)
    }

    /// Pushes held bytes with one call: at `position`, which advances, or at the destination's own
    /// position. At most `most` bytes of the buffer are written.
    pub(crate) fn push(
        &mut self,
        destination: FdRef<'_>,
        position: Option<&mut u64>,
        most: usize,
        counter: Counter<'_>,
    ) -> Result<Pushed, IoFailure> {
        if let Some(lease) = self.lease.as_mut().filter(|lease| lease.held() > 0) {
            return match splice::drain(lease, FdAt(destination.as_fd(), position)) {
                Err(Errno::AGAIN) => Ok(Pushed::Full),
                Err(errno) if !is_refused(errno) => Err(IoFailure::destination("splice")(errno)),
                // A pipe that holds bytes is never at its end, so 0 is a refusal too.
                Ok(0) | Err(_) => {
                    self.spill();
                    Ok(Pushed::Unsupported)
                }
                Ok(accepted) => {
                    counter.add(accepted as u64, true);
                    Ok(Pushed::Accepted)
                }
            };
        }
        let rest = &self.buffer[self.accepted..];
        let rest = &rest[..rest.len().min(most)];
        match read_write::send_or_write(destination, position.as_deref().copied(), rest) {
            Ok(0) | Err(Errno::AGAIN) => Ok(Pushed::Full),
            Ok(accepted) => {
                counter.add(accepted as u64, false);
                if let Some(position) = position {
                    *position += accepted as u64;
                }
                self.accepted += accepted;
                if self.accepted == self.buffer.len() {
                    self.buffer.clear();
                    self.accepted = 0;
                    self.charge.set(0);
                }
                Ok(Pushed::Accepted)
            }
            Err(errno) => {
                let call = read_write::destination_call(destination);
                Err(IoFailure::destination(call)(errno))
            }
        }
    }

    /// Sends bytes of the source that are in a borrowed buffer, and holds those that the
    /// destination does not accept.
    pub(crate) fn send_or_hold(
        &mut self,
        destination: FdRef<'_>,
        bytes: &[u8],
        counter: Counter<'_>,
    ) -> Result<(), IoFailure> {
        let sent = read_write::send_or_write(destination, None, bytes);
        let accepted = *sent.as_ref().unwrap_or(&0);
        self.buffer.extend_from_slice(&bytes[accepted..]);
        self.charge.set(self.buffer.len());
        match sent {
            Ok(accepted) => {
                counter.add(accepted as u64, false);
                Ok(())
            }
            Err(Errno::AGAIN) => Ok(()),
            Err(errno) => {
                let call = read_write::destination_call(destination);
                Err(IoFailure::destination(call)(errno))
            }
        }
    }

    /// Reads from the source into the buffer, at most `most` bytes. Returns 0 at the end of input.
    pub(crate) fn read(
        &mut self,
        source: FdRef<'_>,
        position: Option<u64>,
        most: usize,
    ) -> Result<usize, Errno> {
        debug_assert!(self.is_empty(), "the source is read when nothing is held");
        let most = most.min(read_write::BUFFER).min(memory::allowance());
        self.buffer.resize(most, 0);
        let read = read_write::recv_or_read(source, position, &mut self.buffer);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        self.charge.set(self.buffer.len());
        read
    }

    /// The pipe on loan.
    pub(crate) fn pipe(&mut self) -> Option<&mut Lease> {
        self.lease.as_mut()
    }

    /// Leases a pipe, unless one is on loan already. `None` where no pipe can be had.
    pub(crate) fn lease_pipe(
        &mut self,
        size: Option<NonZeroUsize>,
        borrower: Borrower,
    ) -> Option<&mut Lease> {
        if self.lease.is_none() {
            self.lease = Lease::take(size.map(NonZeroUsize::get), borrower);
        }
        self.lease.as_mut()
    }

    /// Returns the empty pipe, so that other transfers can use it, and frees an empty buffer.
    pub(crate) fn return_pipe(&mut self) {
        debug_assert!(!self.is_in_pipe(), "an empty pipe is returned");
        if self.lease.is_some() {
            self.lease = None;
        }
        if self.buffer.is_empty() {
            self.free_buffer();
        }
    }

    /// Moves the bytes in the pipe to the buffer, and returns the pipe. `false` when the budget of
    /// memory has no room for them. They stay in the pipe.
    pub(crate) fn try_spill(&mut self) -> bool {
        let bytes = self.lease.as_ref().map_or(0, Lease::held);
        let fits = self.charge.try_set(bytes);
        if fits {
            self.spill();
        }
        fits
    }

    /// Moves the bytes in the pipe to the buffer, and returns the pipe.
    fn spill(&mut self) {
        self.buffer = self.lease.take().map(Lease::into_bytes).unwrap_or_default();
        self.charge.set(self.buffer.len());
    }

    /// Frees the memory of the empty buffer.
    pub(crate) fn free_buffer(&mut self) {
        debug_assert!(self.buffer.is_empty(), "an empty buffer is freed");
        // Most polls come here without one, and nothing is charged then.
        if self.buffer.capacity() > 0 {
            self.buffer = Vec::new();
            self.charge.set(0);
        }
    }

    /// Returns the held bytes, in order.
    pub(crate) fn into_undelivered(mut self) -> Vec<u8> {
        let mut rest = self.buffer.split_off(self.accepted);
        if let Some(lease) = self.lease.take() {
            rest.extend(lease.into_bytes());
        }
        rest
    }
}
