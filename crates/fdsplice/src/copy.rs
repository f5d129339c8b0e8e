//! One direction.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use rustix::io::Errno;
use tokio::io::Interest;
use tracing::Instrument;

use crate::direction::{Direction, End, Fault, Plan, Route};
use crate::endpoint::Endpoint;
use crate::error::{Side, TransferError};
use crate::socket::Socket;
use crate::traffic::{Control, TrafficResult};

/// Options of [`copy`].
#[derive(Debug, Default)]
pub struct CopyOptions {
    plan: Plan,
    control: Control,
}

impl CopyOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// At most this many bytes of the source; what follows stays readable there. Default: until
    /// the end of input.
    #[must_use]
    pub fn length(mut self, bytes: u64) -> Self {
        self.plan.length = Some(bytes);
        self
    }

    /// Bytes to write before anything from the source; counted, and not part of
    /// [`CopyOptions::length`].
    #[must_use]
    pub fn head(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.plan.head = head.into();
        self
    }

    /// Whether the destination is shut down for writing when done. Default `false`.
    #[must_use]
    pub fn end_destination(mut self, end: bool) -> Self {
        self.plan.pass_end_on = end;
        self
    }

    /// `false`: all bytes pass through a private buffer, never a pipe. Default `true`.
    #[must_use]
    pub fn zero_copy(mut self, zero_copy: bool) -> Self {
        self.plan.copy_only = !zero_copy;
        self
    }

    /// Wanted capacity of the kernel pipe in bytes, rounded and capped by the kernel.
    #[must_use]
    pub fn pipe_size(mut self, bytes: usize) -> Self {
        self.plan.pipe_size = Some(bytes);
        self
    }

    /// The handle by which the copy is watched and aborted.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }
}

/// Copies from one connected stream socket to another until the end of input or a length.
///
/// # Errors
/// Failures stand in [`TrafficResult::error`], beside counts that are exact in every case. Bytes
/// that were taken from the source and not accepted by the destination are in
/// [`TransferError::undelivered`].
///
/// # Cancel safety
/// Dropping the future closes the endpoints and loses what is in flight. Use [`Control::abort`] to
/// end a copy early.
///
/// # Panics
/// Outside a tokio runtime that has I/O enabled.
pub async fn copy(source: Endpoint, destination: Endpoint, options: CopyOptions) -> TrafficResult {
    let span = tracing::debug_span!("copy",
        source = ?source.kind(), destination = ?destination.kind());
    async move {
        let result = run(source, destination, options).await;
        tracing::debug!(tx = result.tx, zero_copy = result.zero_copy, error = ?result.error, "ended");
        result
    }
    .instrument(span)
    .await
}

async fn run(source: Endpoint, destination: Endpoint, options: CopyOptions) -> TrafficResult {
    let CopyOptions { plan, control } = options;
    let unregistered = |errno: Errno, side, head: Vec<u8>| {
        let error = TransferError::system(errno, "epoll_ctl", side);
        control.result(Some(TransferError {
            undelivered: head,
            ..error
        }))
    };
    let source = match Socket::register(source) {
        Ok(source) => source,
        Err((_, errno)) => return unregistered(errno, Side::Source, plan.head),
    };
    let destination = match Socket::register(destination) {
        Ok(destination) => destination,
        Err((_, errno)) => return unregistered(errno, Side::Destination, plan.head),
    };
    let mut direction = Direction::new(plan, &source, &destination);
    let route = Route {
        source: &source,
        destination: &destination,
        counter: control.tx(),
    };

    let outcome = transfer(&mut direction, route, &control).await;
    let a_ended = direction.source_ended();
    let error = outcome.err().map(|error| TransferError {
        undelivered: direction.into_undelivered(),
        ..error
    });
    TrafficResult {
        a_ended,
        ..control.result(error)
    }
}

async fn transfer(
    direction: &mut Direction,
    route: Route<'_>,
    control: &Control,
) -> Result<(), TransferError> {
    // A source's error is met in order by reading it; a destination's might never be met while the
    // source is silent.
    let mut urgent = pin!(route.source.watch(Interest::PRIORITY));
    let mut refused = pin!(route.destination.watch(Interest::ERROR));
    poll_fn(|cx| {
        if control.poll_aborted(cx) {
            return Poll::Ready(Err(TransferError::aborted()));
        }
        let _ = urgent.as_mut().poll(cx);
        if let Poll::Ready(errno) = refused.as_mut().poll(cx) {
            let error = TransferError::system(errno, "epoll_wait", Side::Destination);
            return Poll::Ready(Err(error));
        }
        direction.poll(cx, route).map_err(
            |Fault {
                 errno,
                 syscall,
                 end,
             }| {
                let side = match end {
                    End::Source => Side::Source,
                    End::Destination => Side::Destination,
                };
                TransferError::system(errno, syscall, side)
            },
        )
    })
    .await
}
