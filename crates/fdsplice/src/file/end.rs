//! One end of a transfer in which an end cannot be waited for by the reactor.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};

use crate::fault::End;
use crate::fd::Endpoint;
use crate::fd::RegisteredFd;

/// How long one look at an end that only blocks may take; an abort is noticed after it.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// An end of such a copy.
#[derive(Clone, Debug)]
pub(crate) enum CopyEnd {
    /// The reactor tells when it is ready.
    Watched(Arc<RegisteredFd>),
    /// Its calls are made where they may block.
    Blocking(Arc<Endpoint>),
}

impl CopyEnd {
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, Errno> {
        if endpoint.is_pollable() {
            let stream = RegisteredFd::register(endpoint).map_err(|(_, errno)| errno)?;
            Ok(Self::Watched(Arc::new(stream)))
        } else {
            Ok(Self::Blocking(Arc::new(endpoint)))
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Watched(stream) => stream.endpoint(),
            Self::Blocking(endpoint) => endpoint,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.endpoint().as_fd()
    }

    /// Whether an out-of-band byte was announced.
    pub(crate) fn urgent(&self) -> bool {
        matches!(self, Self::Watched(stream) if stream.urgent())
    }
}

/// Waits a moment for an end that only blocks; whether a call on it will not.
pub(crate) fn look_at_blocking(handle: &CopyEnd, end: End) -> Result<bool, Errno> {
    look(handle, end, &LOOK)
}

pub(crate) fn look(handle: &CopyEnd, end: End, wait: &Timespec) -> Result<bool, Errno> {
    let flags = match end {
        End::Source => PollFlags::IN,
        End::Destination => PollFlags::OUT,
    };
    let mut ends = [PollFd::from_borrowed_fd(handle.fd(), flags)];
    // Errors and hang-ups count as ready: the next call tells what they are.
    retry_on_intr(|| poll(&mut ends, Some(wait))).map(|ready| ready > 0)
}
