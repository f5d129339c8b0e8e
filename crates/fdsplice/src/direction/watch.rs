//! The events that end a transfer in one direction from outside: an abort, a failed destination,
//! and the idle timer. Transfers with the reactor and transfers with blocking calls share them.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use rustix::io::Errno;
use tokio::io::Interest;

use crate::error::{Reason, TransferError};
use crate::fault::IoFailure;
use crate::fd::RegisteredFd;
use crate::limits::deadline::IdleTimer;
use crate::limits::one_way::Bounds;
use crate::limits::rate::Throttle;
use crate::traffic::Control;

/// Resolves with the error of the destination, and notes an out-of-band byte of the source. An end
/// that the reactor does not know is `None`.
///
/// The source is not watched for errors: its reads return the remaining bytes first, and then the
/// error. The error of the destination could stay unnoticed while the source is silent.
pub(crate) async fn destination_failure(
    source: Option<&RegisteredFd>,
    destination: Option<&RegisteredFd>,
) -> Errno {
    let mut urgent = pin!(watch(source, Interest::PRIORITY));
    let mut failed = pin!(watch(destination, Interest::ERROR));
    let mut urgent_ended = false;
    poll_fn(|cx| {
        // The watch of the source ends where its reactor is gone. The reads report that.
        urgent_ended = urgent_ended || urgent.as_mut().poll(cx).is_ready();
        failed.as_mut().poll(cx)
    })
    .await
}

async fn watch(end: Option<&RegisteredFd>, interest: Interest) -> Errno {
    match end {
        Some(end) => end.watch(interest).await,
        None => pending().await,
    }
}

/// Polls the steps of a transfer in one direction, together with everything else that can end it.
pub(crate) struct Watch<'a, F> {
    failure: Pin<&'a mut F>,
    destination: Option<&'a RegisteredFd>,
    control: &'a Control,
    throttle: Option<Throttle>,
    idle: Option<IdleTimer>,
}

impl<'a, F: Future<Output = Errno>> Watch<'a, F> {
    /// `failure` is [`destination_failure`] of the same ends. The clocks of `bounds` start here.
    pub(crate) fn new(
        failure: Pin<&'a mut F>,
        destination: Option<&'a RegisteredFd>,
        bounds: Bounds,
        control: &'a Control,
    ) -> Self {
        let (throttle, idle) = bounds.start();
        Self {
            failure,
            destination,
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
        let stopped = self.poll_stopped(cx);
        if stopped.is_ready() {
            return stopped.map(Err);
        }
        let polled = step(cx, self.throttle.as_mut());
        if polled.is_ready() {
            return polled.map_err(IoFailure::into_error);
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
        let stopped = self.poll_stopped(cx);
        if stopped.is_ready() {
            return stopped.map(Err);
        }
        // The limiter has already granted what the call moves.
        self.poll_idle(cx, false).map(Err)
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<TransferError> {
        let destination_failed =
            |errno| Poll::Ready(IoFailure::destination("epoll_wait")(errno).into_error());
        if self.control.poll_aborted(cx) {
            // Another owner of the socket may have noticed its reset first, and aborted because of
            // it.
            return if self.destination.is_some_and(RegisteredFd::is_lost) {
                destination_failed(Errno::CONNRESET)
            } else {
                Poll::Ready(TransferError::other(Reason::Aborted, None))
            };
        }
        match self.failure.as_mut().poll(cx) {
            Poll::Ready(errno) => destination_failed(errno),
            Poll::Pending => Poll::Pending,
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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::task::Waker;

    use super::*;
    use crate::fd::Endpoint;

    /// The reactor is gone while the caller still polls, and a destination that is a file never fails.
    #[test]
    fn a_source_whose_runtime_has_ended_is_watched_without_a_panic() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (socket, _peer) = UnixStream::pair().expect("a pair of sockets");
        let source = runtime.block_on(async {
            let endpoint = Endpoint::try_from(OwnedFd::from(socket)).expect("an endpoint");
            RegisteredFd::register(endpoint).expect("a registration")
        });
        drop(runtime);
        let mut watched = pin!(destination_failure(Some(&source), None));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert_eq!(watched.as_mut().poll(&mut cx), Poll::Pending);
        }
    }
}
