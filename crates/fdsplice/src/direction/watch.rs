//! The events that end a transfer in one direction from outside: an abort, a failed destination,
//! and the idle timer. Transfers with the reactor and transfers with blocking calls share them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::Errno;

use crate::error::{Reason, TransferError};
use crate::fault::IoFailure;
use crate::fd::{LossWatch, TransferEnd};
use crate::limits::deadline::IdleTimer;
use crate::limits::one_way::Bounds;
use crate::limits::rate::Throttle;
use crate::traffic::Control;

/// Polls the steps of a transfer in one direction, together with everything else that can end it.
///
/// The source is not watched for errors: its reads return the remaining bytes first, and then the
/// error. The error of the destination could stay unnoticed while the source is silent.
pub(crate) struct Watch<'a> {
    destination: Option<&'a TransferEnd<'a>>,
    /// `None` for a destination that the reactor does not know.
    loss: Option<LossWatch<'a>>,
    control: &'a Control,
    throttle: Option<Throttle>,
    idle: Option<IdleTimer>,
}

impl<'a> Watch<'a> {
    /// The clocks of `bounds` start here.
    pub(crate) fn new(
        destination: Option<&'a TransferEnd<'a>>,
        bounds: Bounds,
        control: &'a Control,
    ) -> Self {
        let (throttle, idle) = bounds.start();
        Self {
            destination,
            loss: destination.map(LossWatch::new),
            control,
            throttle,
            idle,
        }
    }

    /// Polls `step`, which gets the limiter of the transfer. Returns its result, or the error that
    /// ends the transfer for another reason.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(&mut Context<'_>, Option<&mut Throttle>) -> Poll<Result<T, IoFailure>>,
    ) -> Poll<Result<T, TransferError>> {
        if let Some(error) = self.found(cx) {
            return Poll::Ready(Err(error));
        }
        let polled = step(cx, self.throttle.as_mut());
        if polled.is_ready() {
            return polled.map_err(IoFailure::into_error);
        }
        if let Poll::Ready(error) = self.poll_lost(cx) {
            return Poll::Ready(Err(error));
        }
        let waiting = self.throttle.as_ref().is_some_and(Throttle::is_waiting);
        self.poll_idle(cx, waiting).map(Err)
    }

    /// Polls a call that runs on another thread. Returns its result, or the error that ends the
    /// transfer for another reason. After an error, only an idle timeout allows a further poll.
    pub(crate) fn poll_call<T>(
        &mut self,
        cx: &mut Context<'_>,
        call: Pin<&mut impl Future<Output = T>>,
    ) -> Poll<Result<T, TransferError>> {
        let polled = call.poll(cx);
        if polled.is_ready() {
            return polled.map(Ok);
        }
        if let Some(error) = self.found(cx) {
            return Poll::Ready(Err(error));
        }
        if let Poll::Ready(error) = self.poll_lost(cx) {
            return Poll::Ready(Err(error));
        }
        // The limiter has already granted what the call moves.
        self.poll_idle(cx, false).map(Err)
    }

    /// The abort or the failure of the destination that is known now.
    fn found(&mut self, cx: &mut Context<'_>) -> Option<TransferError> {
        if self.control.poll_aborted(cx) {
            // Another owner of the socket may have noticed its reset first, and aborted because of
            // it.
            let is_lost = self.destination.is_some_and(TransferEnd::is_lost);
            return Some(if is_lost {
                destination_failed(Errno::CONNRESET)
            } else {
                TransferError::other(Reason::Aborted, None)
            });
        }
        let failure = self.destination.and_then(TransferEnd::take_failure);
        failure.map(destination_failed)
    }

    /// Ready with the failure of the destination. Otherwise, a later one wakes the task.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<TransferError> {
        match &mut self.loss {
            Some(loss) => loss.poll(cx).map(destination_failed),
            None => Poll::Pending,
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>, is_excused: bool) -> Poll<TransferError> {
        let moved = self.control.traffic().tx;
        if let Some(idle) = &mut self.idle
            && idle.poll_expired(cx, moved, is_excused)
        {
            return Poll::Ready(TransferError::other(Reason::IdleTimeout, None));
        }
        Poll::Pending
    }

    /// Reports how many bytes a step has taken of those that the limiter allowed.
    pub(crate) fn used(&mut self, bytes: u64) {
        if let Some(throttle) = &mut self.throttle {
            throttle.used(0, bytes);
        }
    }
}

fn destination_failed(errno: Errno) -> TransferError {
    IoFailure::destination("epoll_wait")(errno).into_error()
}
