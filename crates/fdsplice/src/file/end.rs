//! The ends of a copy with blocking calls: one that the reactor can wait for, or one whose calls
//! block.

use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, retry_on_intr};

use crate::fault::{End, IoFailure};
use crate::fd::{Endpoint, Kind, RegisteredFd};
use crate::threads::{Lane, Running};

/// How long one check of a blocking end may wait. An abort is noticed after it.
const CHECK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// One end of a copy.
#[derive(Debug)]
pub(crate) enum CopyEnd {
    /// The reactor reports when it is ready.
    Watched(RegisteredFd),
    /// Its calls run on a thread that may block.
    Blocking(Endpoint),
}

impl CopyEnd {
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, Errno> {
        if endpoint.is_pollable() {
            let registered = RegisteredFd::register(endpoint).map_err(|(_, errno)| errno)?;
            Ok(Self::Watched(registered))
        } else {
            Ok(Self::Blocking(endpoint))
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Watched(registered) => registered.endpoint(),
            Self::Blocking(endpoint) => endpoint,
        }
    }

    pub(super) fn registered(&self) -> Option<&RegisteredFd> {
        match self {
            Self::Watched(registered) => Some(registered),
            Self::Blocking(_) => None,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.endpoint().as_fd()
    }

    /// Whether an out-of-band byte was announced.
    pub(super) fn urgent(&self) -> bool {
        self.registered().is_some_and(RegisteredFd::urgent)
    }

    /// Whether a call on this end, which is the `role` of the copy, would block without a way to
    /// interrupt it. Waits a moment for the end to become ready.
    pub(super) fn would_block(&self, role: End) -> Result<bool, IoFailure> {
        if self.endpoint().kind() == Kind::File || self.registered().is_some() {
            return Ok(false);
        }
        self.is_ready(role, &CHECK)
            .map(|ready| !ready)
            .map_err(IoFailure::at(role, "poll"))
    }

    fn is_ready(&self, role: End, wait: &Timespec) -> Result<bool, Errno> {
        let flags = match role {
            End::Source => PollFlags::IN,
            End::Destination => PollFlags::OUT,
        };
        let mut ends = [PollFd::from_borrowed_fd(self.fd(), flags)];
        // Errors and hang-ups count as ready: the next call reports them.
        retry_on_intr(|| poll(&mut ends, Some(wait))).map(|ready| ready > 0)
    }

    /// Ready when the end is. A blocking end is always ready here; its step waits for it.
    ///
    /// A step runs on another thread and does not clear the readiness that the reactor has cached,
    /// so the descriptor itself is checked.
    pub(super) fn poll_ready(
        &self,
        cx: &mut Context<'_>,
        role: End,
    ) -> Poll<Result<(), IoFailure>> {
        let Some(registered) = self.registered() else {
            return Poll::Ready(Ok(()));
        };
        loop {
            let guard = match role {
                End::Source => registered.poll_readable(cx),
                End::Destination => registered.poll_writable(cx),
            };
            let failed = IoFailure::at(role, "epoll_wait");
            let mut guard = ready!(guard).map_err(&failed)?;
            if self.is_ready(role, &Timespec::default()).map_err(&failed)? {
                return Poll::Ready(Ok(()));
            }
            guard.clear_ready();
        }
    }
}

/// Both ends of a copy.
#[derive(Debug)]
pub(crate) struct Ends {
    /// `None` where the source is memory: the head of the plan, then the end of input.
    pub(crate) source: Option<CopyEnd>,
    pub(crate) destination: CopyEnd,
}

impl Ends {
    /// Moves the own positions of the ends: of the source and of the destination.
    pub(super) fn set_positions(&self, positions: [Option<u64>; 2]) {
        let ends = [self.source.as_ref(), Some(&self.destination)];
        for (end, position) in ends.into_iter().zip(positions) {
            if let (Some(end), Some(position)) = (end, position) {
                let _ = seek(end.fd(), SeekFrom::Start(position));
            }
        }
    }

    /// The lane of calls between these ends.
    pub(super) fn lane(&self) -> Lane {
        let device = |end: &CopyEnd| end.endpoint().blocks_on();
        Lane::Files(
            self.source.as_ref().map_or(0, device),
            device(&self.destination),
        )
    }

    /// Closes the files among the ends. Returns the calls that may block.
    pub(super) fn close(self) -> impl Iterator<Item = Running<()>> {
        let ends = self.source.into_iter().chain([self.destination]);
        ends.filter_map(|end| match end {
            CopyEnd::Watched(_) => None,
            CopyEnd::Blocking(endpoint) => endpoint.close(),
        })
    }

    /// Ends the connections of the sockets among the ends. That of a framed destination is not reset.
    pub(super) fn break_off(&self, framed: bool) {
        if let Some(source) = &self.source {
            source.endpoint().break_off(true);
        }
        self.destination.endpoint().break_off(!framed);
    }

    /// Both ends, where the source is not memory.
    pub(super) fn pair(&self) -> Option<Pair<'_>> {
        let source = self.source.as_ref()?;
        Some(Pair {
            source,
            destination: &self.destination,
        })
    }
}

/// The ends between which an engine moves bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) source: &'a CopyEnd,
    pub(super) destination: &'a CopyEnd,
}
