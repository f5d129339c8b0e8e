//! The verb `copy`: bytes in one direction, between any two descriptors. Also the part that it
//! shares with `send_file`.

use std::future::poll_fn;
use std::sync::Arc;

use rustix::io::Errno;
use tracing::Instrument;

use crate::direction::Direction;
use crate::direction::plan::{Plan, Route, Wanted};
use crate::direction::watch::Watch;
use crate::error::{Side, TransferError};
use crate::fd::{Role, TransferEnd};
use crate::file;
use crate::file::end::{CopyEnd, Ends};
use crate::limits::one_way::Bounds;
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

    /// At most this many bytes of the source. Later bytes stay readable there. Default: until the
    /// end of input.
    #[must_use]
    pub fn length(mut self, bytes: u64) -> Self {
        self.plan.wanted = Wanted::AtMost(bytes);
        self
    }

    /// First byte to write, if the destination is a file. The descriptor's own position then does
    /// not change. Default: the current position, which advances. A file opened with `O_APPEND` is
    /// always appended to.
    #[must_use]
    pub fn position(mut self, byte: u64) -> Self {
        self.plan.position = Some(byte);
        self
    }

    /// Bytes to write before those of the source. They are counted, but are not part of
    /// [`CopyOptions::length`].
    #[must_use]
    pub fn head(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.plan.head = head.into();
        self
    }
}

/// Copies from one descriptor to another, until the end of input or a length, with the cheapest
/// call that the kernel offers for the two: `copy_file_range`, `sendfile`, `splice`, or reads and
/// writes.
///
/// # Ownership
/// An [`Endpoint`](crate::Endpoint) and a socket by value are closed when the copy ends. Sockets and
/// pipes of tokio that are passed as `&mut` stay open. See [`TransferEnd`].
///
/// A copy resets no connection. After a failure, the peer of a socket by value sees the end of a stream
/// that was cut short. Lend the socket to decide what its peer sees.
///
/// # Page cache
/// `splice` and `sendfile` send references to the pages of a file: a later write to the file can
/// still change the bytes that arrive, even after the copy has returned. With
/// [`zero_copy(false)`](CopyOptions::zero_copy) the bytes are copied first.
///
/// # Errors
/// A failure is in [`TrafficResult::error`], beside counts that are always exact. Bytes that were
/// taken from the source and not accepted by the destination are in [`TransferError::undelivered`];
/// if the source is a file, its position is set to the first undelivered byte instead. A source that is
/// not readable or a destination that is not writable is `EBADF`. Overlapping ranges of one file are
/// `EINVAL`, and so are both ends of one pipe, or one socket twice.
///
/// # Cancel safety
/// Dropping the future closes the ends that it owns and loses the held bytes. Use [`Control::abort`] to
/// end a copy early: file input and output then stop after the current call of at most 1 MiB. After a
/// drop, the current call still finishes on its thread.
///
/// # File systems that do not answer
/// An abort and the idle timeout wait 0.4 s for the current call. If it does not return, the copy
/// ends without it: [`TransferError::stuck`] is set, the connections of sockets are broken off, and
/// the descriptors are closed when the call returns.
///
/// # Panics
/// Outside a tokio runtime that has I/O and time enabled.
pub fn copy<'a>(
    source: impl Into<TransferEnd<'a>>,
    destination: impl Into<TransferEnd<'a>>,
    options: CopyOptions,
) -> impl Future<Output = TrafficResult> + Send {
    copy_ends(source.into(), destination.into(), options)
}

/// Not an `async fn`, whose future would keep room for these arguments twice: once as its arguments,
/// once in the block that it awaits.
fn copy_ends<'a>(
    source: TransferEnd<'a>,
    destination: TransferEnd<'a>,
    options: CopyOptions,
) -> impl Future<Output = TrafficResult> + Send {
    let span = tracing::debug_span!("copy",
        source = ?source.kind(), destination = ?destination.kind());
    async move {
        let CopyOptions {
            plan,
            bounds,
            control,
        } = options;
        let result = run(Some(source), destination, plan, bounds, control).await;
        tracing::debug!(tx = result.tx, zero_copy = result.zero_copy, error = ?result.error, "ended");
        result
    }
    .instrument(span)
}

/// Runs a transfer in one direction. `source` is `None` when all bytes are in the head of the plan.
pub(crate) async fn run(
    source: Option<TransferEnd<'_>>,
    destination: TransferEnd<'_>,
    plan: Plan,
    bounds: Bounds,
    control: Control,
) -> TrafficResult {
    let (outcome, a_ended) = match open(source, destination) {
        Err(error) => {
            let undelivered = plan.head;
            let error = TransferError {
                undelivered,
                ..error
            };
            (Err(error), false)
        }
        Ok(Opened::Pollable(source, destination)) => {
            let facts = source.as_ref().map(TransferEnd::facts);
            let mut direction = Direction::new(plan, facts, destination.facts());
            let route = Route {
                source: source.as_ref(),
                destination: &destination,
                counter: control.tx(),
            };
            let outcome = with_reactor(&mut direction, route, bounds, &control).await;
            let source_ended = direction.source_ended();
            let outcome = outcome.map_err(|error| TransferError {
                undelivered: direction.into_undelivered(),
                after_end: error.side == Some(Side::Destination)
                    && destination.ended_before_reset(),
                ..error
            });
            (outcome, source_ended)
        }
        Ok(Opened::Blocking(ends)) => file::copy::run(ends, plan, bounds, &control).await,
    };
    TrafficResult {
        a_ended,
        ..control.result(outcome.err())
    }
}

/// Both ends of a transfer, opened for its kind.
enum Opened<'a> {
    /// The reactor can wait for both.
    Pollable(Option<TransferEnd<'a>>, TransferEnd<'a>),
    /// The calls on one of them, or on both, block.
    Blocking(Arc<Ends>),
}

fn open<'a>(
    mut source: Option<TransferEnd<'a>>,
    mut destination: TransferEnd<'a>,
) -> Result<Opened<'a>, TransferError> {
    let check = |end: &TransferEnd<'_>, role, side, call| {
        let checked = end.require(role);
        checked.map_err(|_| TransferError::system(Errno::BADF, call, side))
    };
    if let Some(source) = &source {
        check(source, Role::Source, Side::Source, "read")?;
    }
    check(&destination, Role::Destination, Side::Destination, "write")?;
    if source
        .as_ref()
        .is_some_and(|source| source.is_itself(&destination))
    {
        let error = TransferError::system(Errno::INVAL, "splice", Side::Destination);
        return Err(error);
    }
    let failed = |side| move |errno| TransferError::system(errno, "epoll_ctl", side);
    let is_pollable = |end: &TransferEnd<'_>| end.facts().is_pollable();
    if is_pollable(&destination) && source.as_ref().is_none_or(is_pollable) {
        if let Some(source) = &mut source {
            source.register().map_err(failed(Side::Source))?;
        }
        destination.register().map_err(failed(Side::Destination))?;
        return Ok(Opened::Pollable(source, destination));
    }
    // The calls run on other threads, so the ends cannot be borrowed.
    let open = |end: TransferEnd<'a>, side| {
        let owned = end.into_owned();
        let owned = owned.map_err(|errno| TransferError::system(errno, "fcntl", side))?;
        CopyEnd::new(owned).map_err(failed(side))
    };
    let source = source.map(|end| open(end, Side::Source)).transpose()?;
    Ok(Opened::Blocking(Arc::new(Ends {
        source,
        destination: open(destination, Side::Destination)?,
    })))
}

async fn with_reactor(
    direction: &mut Direction,
    route: Route<'_>,
    bounds: Bounds,
    control: &Control,
) -> Result<(), TransferError> {
    let mut watch = Watch::new(Some(route.destination), bounds, control);
    poll_fn(|cx| {
        watch.poll(cx, |cx, throttle| {
            let limit = throttle.map(|throttle| (throttle, 0));
            direction.poll(cx, route, limit)
        })
    })
    .await
}
