//! The ends of a copy with blocking calls: one that the reactor can wait for, or one whose calls
//! block.

use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, retry_on_intr};
use tokio::io::Interest;

use crate::fault::{End, IoFailure};
use crate::fd::{Endpoint, FdRef, Kind, TransferEnd};
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
    Watched(TransferEnd<'static>),
    /// Its calls run on a thread that may block.
    Blocking(Endpoint),
}

impl CopyEnd {
    /// Registers the end if the reactor can report its readiness.
    pub(crate) fn new(end: TransferEnd<'static>) -> Result<Self, Errno> {
        if !end.facts().is_pollable() {
            match end.into_endpoint() {
                Ok(endpoint) => return Ok(Self::Blocking(endpoint)),
                Err(_) => unreachable!("an end on a registration is pollable"),
            }
        }
        let mut end = end;
        end.register()?;
        Ok(Self::Watched(end))
    }

    pub(super) fn endpoint(&self) -> FdRef<'_> {
        match self {
            Self::Watched(registered) => registered.as_ref(),
            Self::Blocking(endpoint) => endpoint.as_ref(),
        }
    }

    /// Whether both are one file, perhaps through two descriptors.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Blocking(this), Self::Blocking(other)) => this.same_as(other),
            _ => false,
        }
    }

    fn blocks_on(&self) -> u64 {
        match self {
            Self::Watched(_) => 0,
            Self::Blocking(endpoint) => endpoint.blocks_on(),
        }
    }

    pub(super) fn registered(&self) -> Option<&TransferEnd<'static>> {
        match self {
            Self::Watched(registered) => Some(registered),
            Self::Blocking(_) => None,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Watched(registered) => registered.as_fd(),
            Self::Blocking(endpoint) => endpoint.as_fd(),
        }
    }

    /// Whether `EAGAIN` from a splice of this source may come from an out-of-band byte.
    pub(super) fn may_be_urgent(&self) -> bool {
        self.registered().is_some_and(TransferEnd::may_be_urgent)
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
        let interest = match role {
            End::Source => Interest::READABLE,
            End::Destination => Interest::WRITABLE,
        };
        let failed = IoFailure::at(role, "epoll_wait");
        loop {
            let reported = match role {
                End::Source => registered.poll_readable(cx),
                End::Destination => registered.poll_writable(cx),
            };
            ready!(reported).map_err(&failed)?;
            let checked = registered.attempt(interest, || {
                let is_ready = self.is_ready(role, &Timespec::default());
                (is_ready, is_ready == Ok(false))
            });
            if checked.transpose().map_err(&failed)? == Some(true) {
                return Poll::Ready(Ok(()));
            }
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
        let device = CopyEnd::blocks_on;
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
