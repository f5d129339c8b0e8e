//! Both directions at once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::time::timeout;
use tracing::Instrument;

use crate::direction::Direction;
use crate::direction::plan::{Plan, Route};
use crate::error::{Reason, Side, TransferError};
use crate::fault::{End, IoFailure};
use crate::fd::RegisteredFd;
use crate::fd::{Endpoint, Role};
use crate::limits::rate::RateLimiter;
use crate::limits::relay::{Limits, RelayBounds, RelayRules};
use crate::traffic::{Control, TrafficResult};

/// How long bytes that came before a failure may take to reach the other side.
const GRANT: Duration = Duration::from_secs(1);

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

    /// Bytes already read from `a`: delivered to `b` first, and counted.
    #[must_use]
    pub fn head_from_a(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.head_from_a = head.into();
        self
    }

    /// Bytes already read from `b`: delivered to `a` first, and counted.
    #[must_use]
    pub fn head_from_b(mut self, head: impl Into<Vec<u8>>) -> Self {
        self.head_from_b = head.into();
        self
    }

    /// `false`: all bytes pass through a private buffer, never a pipe. Default `true`.
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

    /// Limits both directions together. Waiting happens before reading, so that backpressure
    /// reaches the sender.
    #[must_use]
    pub fn rate_limit(mut self, limiter: RateLimiter) -> Self {
        self.rules.limits = Limits::Both(limiter);
        self
    }

    /// Limits each direction by itself: `tx` what comes from `a`, `rx` what comes from `b`.
    #[must_use]
    pub fn rate_limits(mut self, tx: Option<RateLimiter>, rx: Option<RateLimiter>) -> Self {
        self.rules.limits = Limits::Each { tx, rx };
        self
    }

    /// How long may pass without one byte moved in any direction; waiting for a limiter does not
    /// count. Then the relay fails with [`Reason::IdleTimeout`].
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.rules.idle_timeout = Some(limit);
        self
    }

    /// How long one direction may stay open after the other has ended. Then the relay fails with
    /// [`Reason::HalfCloseTimeout`].
    #[must_use]
    pub fn half_close_timeout(mut self, limit: Duration) -> Self {
        self.rules.half_close_timeout = Some(limit);
        self
    }

    /// The handle by which the relay is watched and aborted.
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
/// The end of input on one side drains what is in flight and then shuts down writing on the other;
/// the opposite direction goes on. A failure of one side, also of one that nobody reads or writes
/// at that moment, ends the relay at once: what was received before it is still delivered to the
/// other side, for at most 1 s, and ends that were handed over are then reset, so that a truncated
/// stream never looks complete. An abort resets without that second.
///
/// # Errors
/// Failures stand in [`TrafficResult::error`], beside counts that are exact in every case. A
/// process without descriptors left may see `EMFILE` only as bytes that are not spliced.
///
/// # Cancel safety
/// Dropping the future closes the endpoints without a reset and loses what is in flight. Use
/// [`Control::abort`] to end a relay early.
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

/// Waits until the connection of a socket fails, without reading from it or writing to it: for a
/// socket that is to be relayed, while the other one is still being connected. `None` when
/// [`Control::abort`] has ended the watch.
///
/// # Cancel safety
/// Dropping the future ends the watch and closes the endpoint.
///
/// # Panics
/// Outside a tokio runtime that has I/O enabled.
pub async fn watch(socket: Endpoint, side: Side, control: Control) -> Option<TransferError> {
    let stream = match RegisteredFd::register(socket) {
        Ok(stream) => stream,
        Err((_, errno)) => return Some(TransferError::system(errno, "epoll_ctl", side)),
    };
    let mut failed = pin!(stream.watch(Interest::ERROR));
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
    // Bytes that have nowhere to go are a failure, not an end: they meet the EPIPE.
    let skips_tx = b.endpoint().is_write_ended() && head_from_a.is_empty();
    let skips_rx = a.endpoint().is_write_ended() && head_from_b.is_empty();
    let mut tx = Direction::new(options.plan(head_from_a), Some(&a), &b);
    let mut rx = Direction::new(options.plan(head_from_b), Some(&b), &a);
    for end in [&a, &b].into_iter().filter(|end| end.endpoint().resets()) {
        // A connection that has just failed says so in the first read or write.
        let _ = sockopt::set_tcp_nodelay(end, true);
    }
    for (direction, skips) in [(&mut tx, skips_tx), (&mut rx, skips_rx)] {
        if skips {
            direction.skip();
        }
    }
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
    let (a_ended, b_ended) = (tx.source_ended(), rx.source_ended());
    let error = match outcome {
        Ok(()) => None,
        Err(Stop::Other(reason, side)) => Some(TransferError::other(reason, side)),
        Err(Stop::Failed {
            errno,
            syscall,
            side,
        }) => {
            let (rest, route) = match side {
                Side::B => (&mut rx, back),
                _ => (&mut tx, there),
            };
            deliver_rest(rest, route, control).await;
            Some(TransferError::system(errno, syscall, side))
        }
    };
    if error.is_some() {
        a.endpoint().prepare_reset();
        b.endpoint().prepare_reset();
    }
    TrafficResult {
        a_ended,
        b_ended,
        ..control.result(error)
    }
}

enum Stop {
    Other(Reason, Option<Side>),
    Failed {
        errno: Errno,
        syscall: &'static str,
        side: Side,
    },
}

/// Runs both directions until both have ended or one side has failed.
async fn exchange(
    tx: &mut Direction,
    there: Route<'_>,
    rx: &mut Direction,
    back: Route<'_>,
    control: &Control,
    bounds: &mut RelayBounds,
) -> Result<(), Stop> {
    let (a, b) = (back.destination, there.destination);
    let watched = Interest::ERROR | Interest::PRIORITY;
    let mut a_fails = pin!(a.watch(watched));
    let mut b_fails = pin!(b.watch(watched));
    poll_fn(|cx| {
        if control.poll_aborted(cx) {
            return Poll::Ready(Err(Stop::Other(Reason::Aborted, None)));
        }
        // The watches come first: they also tell how a socket with an out-of-band byte is read.
        for (watch, side) in [(a_fails.as_mut(), Side::A), (b_fails.as_mut(), Side::B)] {
            if let Poll::Ready(errno) = watch.poll(cx) {
                return Poll::Ready(Err(Stop::Failed {
                    errno,
                    syscall: "epoll_wait",
                    side,
                }));
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
                return Poll::Ready(Err(Stop::Failed {
                    errno,
                    syscall,
                    side,
                }));
            }
        }
        if tx.is_ended() && rx.is_ended() {
            return Poll::Ready(Ok(()));
        }
        match bounds.poll_exceeded(cx, control.traffic().total(), tx.is_ended(), rx.is_ended()) {
            Some((reason, side)) => Poll::Ready(Err(Stop::Other(reason, side))),
            None => Poll::Pending,
        }
    })
    .await
}

/// What was received before a failure goes to the side that still stands, as far as it takes it.
async fn deliver_rest(direction: &mut Direction, route: Route<'_>, control: &Control) {
    let mut delivery = pin!(async {
        let _ = poll_fn(|cx| direction.poll_rest(cx, route)).await;
        if route.destination.endpoint().resets() {
            // The reset would purge what the peer's kernel has not acknowledged.
            route.destination.acknowledged().await;
        }
    });
    let _ = timeout(
        GRANT,
        poll_fn(|cx| {
            if control.poll_aborted(cx) {
                return Poll::Ready(());
            }
            delivery.as_mut().poll(cx)
        }),
    )
    .await;
}
