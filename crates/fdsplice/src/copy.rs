//! One direction.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use rustix::io::Errno;
use tokio::io::Interest;
use tracing::Instrument;

use crate::direction::Direction;
use crate::direction::plan::{Plan, Route};
use crate::error::{Reason, Side, TransferError};
use crate::fault::{End, Fault};
use crate::fd::{Endpoint, Role};
use crate::file::copy::{self as file_copy, Stop};
use crate::file::end::CopyEnd;
use crate::limits::one_way::Bounds;
use crate::limits::rate::Throttle;
use crate::options::one_way_options;
use crate::traffic::{Control, TrafficResult};

/// Options of [`copy`].
#[derive(Debug, Default)]
pub struct CopyOptions {
    plan: Plan,
    bounds: Bounds,
    control: Control,
}

impl CopyOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    one_way_options!();

    /// FdAt most this many bytes of the source; what follows stays readable there. Default: until
    /// the end of input.
    #[must_use]
    pub fn length(mut self, bytes: u64) -> Self {
        self.plan.length = Some(bytes);
        self
    }

    /// Where to write, destination a file; its own position is then left alone. Default: the
    /// current position, which advances. A file opened with `O_APPEND` is appended to in any case.
    #[must_use]
    pub fn position(mut self, byte: u64) -> Self {
        self.plan.position = Some(byte);
        self
    }

    /// Bytes to write before anything from the source; counted, and not part of
    /// [`CopyOptions::length`].
    #[must_use]
    pub fn head(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.plan.head = head.into();
        self
    }
}

/// Copies from one descriptor to another until the end of input or a length, the cheapest way the
/// kernel has for the two: `copy_file_range`, `sendfile`, `splice`, or reads and writes.
///
/// # Page cache
/// `splice` and `sendfile` send references to a file's pages: what is written to the file after the
/// copy has returned can still change the bytes that arrive. With
/// [`zero_copy(false)`](CopyOptions::zero_copy) they are copied first.
///
/// # Errors
/// Failures stand in [`TrafficResult::error`], beside counts that are exact in every case. Bytes
/// that were taken from the source and not accepted by the destination are in
/// [`TransferError::undelivered`]; a file's position stands in front of them instead. A source that
/// is not readable or a destination that is not writable is `EBADF`; ranges of one file that
/// overlap are `EINVAL`, and so are both ends of one pipe, or one socket twice.
///
/// # Cancel safety
/// Dropping the future closes the endpoints and loses what is in flight. Use [`Control::abort`] to
/// end a copy early. File input and output stop after the current call, of at most 1 MiB.
///
/// # Panics
/// Outside a tokio runtime that has I/O and time enabled.
pub async fn copy(source: Endpoint, destination: Endpoint, options: CopyOptions) -> TrafficResult {
    let span = tracing::debug_span!("copy",
        source = ?source.kind(), destination = ?destination.kind());
    async move {
        let result = run(source, destination, options.plan, options.bounds, options.control).await;
        tracing::debug!(tx = result.tx, zero_copy = result.zero_copy, error = ?result.error, "ended");
        result
    }
    .instrument(span)
    .await
}

pub(crate) async fn run(
    source: Endpoint,
    destination: Endpoint,
    plan: Plan,
    bounds: Bounds,
    control: Control,
) -> TrafficResult {
    let (outcome, undelivered, a_ended) = match open(source, destination) {
        Err(error) => (Err(error), plan.head, false),
        Ok((CopyEnd::Watched(source), CopyEnd::Watched(destination))) => {
            let mut direction = Direction::new(plan, &source, &destination);
            let route = Route {
                source: &source,
                destination: &destination,
                counter: control.tx(),
            };
            let outcome = transfer(&mut direction, route, bounds, &control).await;
            let ended = direction.source_ended();
            (outcome, direction.into_undelivered(), ended)
        }
        Ok((source, destination)) => {
            let (outcome, undelivered, ended) =
                file_copy::run(source, destination, plan, bounds, &control).await;
            let outcome = outcome.map_err(|stop| match stop {
                Stop::Other(reason, side) => TransferError::other(reason, side),
                Stop::Failed(fault) => failed(fault),
            });
            (outcome, undelivered, ended)
        }
    };
    let error = outcome.err().map(|error| TransferError {
        undelivered,
        ..error
    });
    TrafficResult {
        a_ended,
        ..control.result(error)
    }
}

fn open(source: Endpoint, destination: Endpoint) -> Result<(CopyEnd, CopyEnd), TransferError> {
    if source.is_itself(&destination) {
        let error = TransferError::system(Errno::INVAL, "splice", Side::Destination);
        return Err(error);
    }
    let ends = [
        (source, Role::Source, Side::Source, "read"),
        (destination, Role::Destination, Side::Destination, "write"),
    ];
    let [source, destination] = ends.map(|(end, role, side, call)| {
        if end.require(role).is_err() {
            return Err(TransferError::system(Errno::BADF, call, side));
        }
        CopyEnd::new(end).map_err(|errno| TransferError::system(errno, "epoll_ctl", side))
    });
    Ok((source?, destination?))
}

fn failed(
    Fault {
        errno,
        syscall,
        end,
    }: Fault,
) -> TransferError {
    let side = match end {
        End::Source => Side::Source,
        End::Destination => Side::Destination,
    };
    TransferError::system(errno, syscall, side)
}

async fn transfer(
    direction: &mut Direction,
    route: Route<'_>,
    bounds: Bounds,
    control: &Control,
) -> Result<(), TransferError> {
    let (mut throttle, mut idle) = bounds.start();
    // A source's error is met in order by reading it; a destination's might never be met while the
    // source is silent.
    let mut urgent = pin!(route.source.watch(Interest::PRIORITY));
    let mut refused = pin!(route.destination.watch(Interest::ERROR));
    poll_fn(|cx| {
        if control.poll_aborted(cx) {
            // Who shares the socket may have met the reset first, and have let go because of it.
            return Poll::Ready(Err(if route.destination.is_lost() {
                TransferError::system(Errno::CONNRESET, "epoll_wait", Side::Destination)
            } else {
                TransferError::other(Reason::Aborted, None)
            }));
        }
        let _ = urgent.as_mut().poll(cx);
        if let Poll::Ready(errno) = refused.as_mut().poll(cx) {
            let error = TransferError::system(errno, "epoll_wait", Side::Destination);
            return Poll::Ready(Err(error));
        }
        let limit = throttle.as_mut().map(|throttle| (throttle, 0));
        if let Poll::Ready(outcome) = direction.poll(cx, route, limit) {
            return Poll::Ready(outcome.map_err(failed));
        }
        let waiting = throttle.as_ref().is_some_and(Throttle::is_waiting);
        if let Some(idle) = &mut idle
            && idle.poll_expired(cx, control.traffic().tx, waiting)
        {
            return Poll::Ready(Err(TransferError::other(Reason::IdleTimeout, None)));
        }
        Poll::Pending
    })
    .await
}
