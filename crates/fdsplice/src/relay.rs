//! Relays bytes between two sockets, in both directions at once.

mod ending;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::io::Interest;
use tracing::Instrument;

use crate::direction::Direction;
use crate::direction::plan::{Plan, Route};
use crate::error::{Reason, Side, TransferError};
use crate::fault::{End, IoFailure};
use crate::fd::{Endpoint, RegisteredFd, Role};
use crate::limits::rate::RateLimiter;
use crate::limits::relay::{RelayBounds, RelayLimiters, RelayRules};
use crate::traffic::{Control, TrafficResult};

use ending::Failed;

/// Options of [`relay`].
#[derive(Debug, Default)]
pub struct RelayOptions {
    head_from_a: Vec<u8>,
    head_from_b: Vec<u8>,
    copy_only: bool,
    pipe_size: Option<usize>,
    rules: RelayRules,
    control: Control,
}

impl RelayOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes already read from `a`. They are delivered to `b` first, and counted.
    #[must_use]
    pub fn head_from_a(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.head_from_a = head.into();
        self
    }

    /// Bytes already read from `b`. They are delivered to `a` first, and counted.
    #[must_use]
    pub fn head_from_b(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.head_from_b = head.into();
        self
    }

    /// With `false`, all bytes are copied through a buffer in user space, and no pipe is used. Default
    /// `true`.
    #[must_use]
    pub fn zero_copy(mut self, zero_copy: bool) -> Self {
        self.copy_only = !zero_copy;
        self
    }

    /// Wanted capacity of the kernel pipes in bytes, rounded and capped by the kernel.
    #[must_use]
    pub fn pipe_size(mut self, bytes: usize) -> Self {
        self.pipe_size = Some(bytes);
        self
    }

    /// Limits both directions together. The relay waits before it reads, so that backpressure reaches
    /// the sender.
    #[must_use]
    pub fn rate_limit(mut self, limiter: RateLimiter) -> Self {
        self.rules.limiters = RelayLimiters::Both(limiter);
        self
    }

    /// Limits each direction separately: `tx` limits the bytes from `a`, `rx` the bytes from `b`.
    #[must_use]
    pub fn rate_limits(mut self, tx: Option<RateLimiter>, rx: Option<RateLimiter>) -> Self {
        self.rules.limiters = RelayLimiters::Each { tx, rx };
        self
    }

    /// Longest time without one byte moved in any direction, after which the relay fails with
    /// [`Reason::IdleTimeout`]. Waiting for a limiter does not count.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.rules.idle_timeout = Some(limit);
        self
    }

    /// Longest time that one direction may stay open after the other has ended, after which the relay
    /// fails with [`Reason::HalfCloseTimeout`].
    #[must_use]
    pub fn half_close_timeout(mut self, limit: Duration) -> Self {
        self.rules.half_close_timeout = Some(limit);
        self
    }

    /// The handle to watch and abort the relay.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }

    fn plan(&self, head: Vec<u8>) -> Plan {
        Plan {
            head,
            pass_end_on: true,
            copy_only: self.copy_only,
            pipe_size: self.pipe_size,
            ..Plan::default()
        }
    }
}

/// Relays bytes between two connected stream sockets until both have ended.
///
/// After the end of input on one side, the relay drains the held bytes and then shuts down writing on
/// the other side. The opposite direction continues.
///
/// A failure of one side ends the relay at once, even when that side is neither read nor written at
/// that moment. Bytes received before the failure are still delivered to the other side, for at most
/// 1 s. Then the sockets that were handed over are reset, so that a truncated stream never looks
/// complete. An abort resets them without that delay.
///
/// A peer that has all it wanted often ends its input, closes, and answers what still comes with a
/// reset. [`TransferError::after_end`] marks such a failure. If the other side has ended too and every
/// one of its bytes was accepted, the relay has succeeded, although the end of that direction reaches
/// nobody.
///
/// # Errors
/// [`TrafficResult::error`] holds the failure, beside counts that are exact in every case. When the
/// process has no descriptor left for a pipe, bytes are moved without `splice` instead of failing
/// with `EMFILE`.
///
/// # Cancel safety
/// Dropping the future closes the endpoints and loses the held bytes. Once the relay has started, it
/// resets the sockets that were handed over, as after a failure. Use [`Control::abort`] to end a relay
/// early.
///
/// # Panics
/// Outside a tokio runtime that has I/O and time enabled.
#[doc(alias = "copy_bidirectional")]
#[doc(alias = "splice")]
pub async fn relay(a: Endpoint, b: Endpoint, options: RelayOptions) -> TrafficResult {
    let span = tracing::debug_span!("relay", a = ?a.kind(), b = ?b.kind());
    async move {
        let result = match require_sockets(&a, &b).and_then(|()| register(a, b)) {
            Ok((a, b)) => run(a, b, options).await,
            Err(error) => options.control.result(Some(error)),
        };
        tracing::debug!(tx = result.tx, rx = result.rx, zero_copy = result.zero_copy,
            error = ?result.error, "ended");
        result
    }
    .instrument(span)
    .await
}

/// Waits until the connection of a socket fails, without reading from it or writing to it. This is
/// for the first socket of a relay while the second one is still connecting. `None` when
/// [`Control::abort`] has ended the wait.
///
/// # Cancel safety
/// Dropping the future ends the wait and closes the endpoint.
///
/// # Panics
/// Outside a tokio runtime that has I/O enabled.
pub async fn wait_for_error(
    socket: Endpoint,
    side: Side,
    control: Control,
) -> Option<TransferError> {
    let registered = match RegisteredFd::register(socket) {
        Ok(registered) => registered,
        Err((_, errno)) => return Some(TransferError::system(errno, "epoll_ctl", side)),
    };
    let mut failed = pin!(registered.watch(Interest::ERROR));
    poll_fn(|cx| {
        if control.poll_aborted(cx) {
            return Poll::Ready(None);
        }
        let error = |errno| Some(TransferError::system(errno, "epoll_wait", side));
        failed.as_mut().poll(cx).map(error)
    })
    .await
}

fn require_sockets(a: &Endpoint, b: &Endpoint) -> Result<(), TransferError> {
    for (end, side) in [(a, Side::A), (b, Side::B)] {
        if end.require(Role::Relay).is_err() {
            return Err(TransferError::system(Errno::NOTSOCK, "getsockopt", side));
        }
    }
    Ok(())
}

fn register(a: Endpoint, b: Endpoint) -> Result<(RegisteredFd, RegisteredFd), TransferError> {
    let failed = |errno, side, ends: &[&Endpoint]| {
        for end in ends {
            end.prepare_reset();
        }
        TransferError::system(errno, "epoll_ctl", side)
    };
    let a = RegisteredFd::register(a).map_err(|(a, errno)| failed(errno, Side::A, &[&a, &b]))?;
    let b = RegisteredFd::register(b)
        .map_err(|(b, errno)| failed(errno, Side::B, &[a.endpoint(), &b]))?;
    Ok((a, b))
}

async fn run(a: RegisteredFd, b: RegisteredFd, mut options: RelayOptions) -> TrafficResult {
    let head_from_a = std::mem::take(&mut options.head_from_a);
    let head_from_b = std::mem::take(&mut options.head_from_b);
    // A head for a side that was shut down for writing is a failure: its write fails with EPIPE.
    let skips_tx = b.endpoint().is_write_ended() && head_from_a.is_empty();
    let skips_rx = a.endpoint().is_write_ended() && head_from_b.is_empty();
    let mut tx = Direction::new(options.plan(head_from_a), Some(&a), &b);
    let mut rx = Direction::new(options.plan(head_from_b), Some(&b), &a);
    for end in [&a, &b].into_iter().filter(|end| end.endpoint().resets()) {
        // If the connection has just failed, the first read or write reports it.
        let _ = sockopt::set_tcp_nodelay(end, true);
    }
    for (direction, skips) in [(&mut tx, skips_tx), (&mut rx, skips_rx)] {
        if skips {
            direction.skip();
        }
    }
    let mut ends = ResetOnDrop(Some([&a, &b]));
    let control = &options.control.clone();
    let there = Route {
        source: Some(&a),
        destination: &b,
        counter: control.tx(),
    };
    let back = Route {
        source: Some(&b),
        destination: &a,
        counter: control.rx(),
    };

    let mut bounds = std::mem::take(&mut options.rules).start();
    let outcome = exchange(&mut tx, there, &mut rx, back, control, &mut bounds).await;
    let (mut a_ended, mut b_ended) = (tx.source_ended(), rx.source_ended());
    let error = match outcome {
        Ok(()) => None,
        Err(Halt::Other(reason, side)) => Some(TransferError::other(reason, side)),
        Err(Halt::Failed(failed)) => {
            let (tx, rx) = ((&mut tx, there), (&mut rx, back));
            let (from, to) = match failed.side {
                Side::B => (rx, tx),
                _ => (tx, rx),
            };
            let error = ending::after_failure(failed, from, to, control).await;
            let has_ended = |side| {
                error
                    .as_ref()
                    .is_none_or(|it| it.after_end && it.side == Some(side))
            };
            a_ended |= has_ended(Side::A);
            b_ended |= has_ended(Side::B);
            error
        }
    };
    if error.is_none() {
        ends.0 = None;
    }
    TrafficResult {
        a_ended,
        b_ended,
        ..control.result(error)
    }
}

/// Resets the ends of a relay that has failed, panicked, or was dropped before its end.
struct ResetOnDrop<'a>(Option<[&'a RegisteredFd; 2]>);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        for end in self.0.into_iter().flatten() {
            end.endpoint().prepare_reset();
        }
    }
}

/// The reason why a relay ended early.
enum Halt {
    Other(Reason, Option<Side>),
    Failed(Failed),
}

/// Runs both directions until both have ended or one side has failed.
async fn exchange(
    tx: &mut Direction,
    there: Route<'_>,
    rx: &mut Direction,
    back: Route<'_>,
    control: &Control,
    bounds: &mut RelayBounds,
) -> Result<(), Halt> {
    let (a, b) = (back.destination, there.destination);
    let watched = Interest::ERROR | Interest::PRIORITY;
    let mut a_fails = pin!(a.watch(watched));
    let mut b_fails = pin!(b.watch(watched));
    poll_fn(|cx| {
        if control.poll_aborted(cx) {
            return Poll::Ready(Err(Halt::Other(Reason::Aborted, None)));
        }
        // Poll the watches first, because an out-of-band byte changes the reads below.
        for (watch, side) in [(a_fails.as_mut(), Side::A), (b_fails.as_mut(), Side::B)] {
            if let Poll::Ready(errno) = watch.poll(cx) {
                return Poll::Ready(Err(Halt::Failed(Failed {
                    errno,
                    syscall: "epoll_wait",
                    side,
                })));
            }
        }
        let sides = [
            (&mut *tx, there, Side::A, Side::B),
            (&mut *rx, back, Side::B, Side::A),
        ];
        for (direction, route, source, destination) in sides {
            if direction.is_ended() {
                bounds.throttles.leave(source);
                continue;
            }
            let limit = bounds.throttles.of(source);
            if let Poll::Ready(Err(IoFailure {
                errno,
                syscall,
                end,
            })) = direction.poll(cx, route, limit)
            {
                let side = match end {
                    End::Source => source,
                    End::Destination => destination,
                };
                return Poll::Ready(Err(Halt::Failed(Failed {
                    errno,
                    syscall,
                    side,
                })));
            }
        }
        // After the reads above, which may have found the end of input of the side that is ended.
        let mut ends = false;
        if control.take_end(Side::A) && !tx.source_ended() {
            rx.end_early(b);
            ends = true;
        }
        if control.take_end(Side::B) && !rx.source_ended() {
            tx.end_early(a);
            ends = true;
        }
        if ends {
            cx.waker().wake_by_ref();
        }
        if tx.is_ended() && rx.is_ended() {
            return Poll::Ready(Ok(()));
        }
        match bounds.poll_exceeded(cx, control.traffic().total(), tx.is_ended(), rx.is_ended()) {
            Some((reason, side)) => Poll::Ready(Err(Halt::Other(reason, side))),
            None => Poll::Pending,
        }
    })
    .await
}
