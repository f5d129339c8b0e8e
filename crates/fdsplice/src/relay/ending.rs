//! The end of a relay after a failed system call: delivers the bytes received before it, and tells a
//! failure from the departure of a peer that had ended its input.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::timeout;

use crate::direction::plan::Route;
use crate::direction::{Direction, pass_end_on};
use crate::error::{Side, TransferError};
use crate::fd::Kind;
use crate::traffic::Control;

/// How long bytes that arrived before a failure may take to reach the other side. The stream engine
/// has the same value as `FAILURE_GRACE_MS` in `lib/contract/failure-grace.ts`.
const FAILURE_GRACE: Duration = Duration::from_secs(1);

/// A failed system call of one side.
#[derive(Clone, Copy)]
pub(super) struct Failed {
    pub(super) errno: Errno,
    pub(super) syscall: &'static str,
    pub(super) side: Side,
}

/// A direction and its ends.
pub(super) type Way<'a> = (&'a mut Direction, Route<'a>);

/// Ends a relay after a failure of one side. `from` leads from that side to the other one, `to` back.
///
/// Returns `None` when the relay has succeeded all the same: both sides have ended, each has accepted
/// all bytes of the other, and only the end of one direction can no longer be passed on.
pub(super) async fn after_failure(
    failed: Failed,
    (from, from_route): Way<'_>,
    (to, to_route): Way<'_>,
    control: &Control,
) -> Option<TransferError> {
    let is_ended_here = to.was_ended_early() || to_route.destination.facts().is_write_ended();
    let failed = if is_ended_here && from.source_ended() {
        failed_write(failed)
    } else {
        failed
    };
    let has_left = has_left(failed, is_ended_here, to_route);
    // The reads of `deliver_rest` return 0 behind a reset too.
    let had_ended = from.source_ended() || ended_before(failed, to_route);
    if !(has_left && from.source_ended() && to.is_at_end(to_route)) {
        deliver_rest(from, from_route, control).await;
    }
    let after_end = has_left && had_ended && from.source_ended();
    if after_end && to.is_at_end(to_route) {
        // `deliver_rest` passes no end on. An end that the other side cannot take is no failure either.
        let _ = pass_end_on(from_route.destination);
        return None;
    }
    Some(TransferError {
        after_end,
        ..TransferError::system(failed.errno, failed.syscall, failed.side)
    })
}

/// Whether the peer of the failed side has closed or reset its connection. `EPIPE` shows this for a
/// Unix socket that was not shut down on this side. For a lost TCP connection, `TransferEnd::explain`
/// has replaced it.
fn has_left(failed: Failed, is_ended_here: bool, route: Route<'_>) -> bool {
    match failed.errno {
        Errno::CONNRESET | Errno::NOTCONN => true,
        Errno::PIPE => route.destination.kind() != Kind::Tcp && !is_ended_here,
        _ => false,
    }
}

/// The failure of a write to a socket that was ended on both sides. A TCP connection that has closed in
/// this way looks like a lost one, but the write failed because it came after the end.
fn failed_write(failed: Failed) -> Failed {
    match failed.syscall {
        "send" | "write" | "splice" => Failed {
            errno: Errno::PIPE,
            ..failed
        },
        _ => failed,
    }
}

/// Whether the input of the failed side had ended before the failure, although its end was not read
/// yet. A Unix socket whose peer has closed it reports `EPIPE`, and `ECONNRESET` for a reset.
fn ended_before(failed: Failed, route: Route<'_>) -> bool {
    failed.errno == Errno::PIPE || route.destination.ended_before_reset()
}

/// Delivers the bytes received before a failure to the other side, as far as it accepts them.
async fn deliver_rest(direction: &mut Direction, route: Route<'_>, control: &Control) {
    let mut delivery = pin!(async {
        let _ = poll_fn(|cx| direction.poll_rest(cx, route)).await;
        if route.destination.facts().resets() {
            // A reset would purge the bytes that the kernel of the peer has not acknowledged.
            route.destination.acknowledged().await;
        }
    });
    let _ = timeout(
        FAILURE_GRACE,
        poll_fn(|cx| {
            if control.poll_aborted(cx) {
                return Poll::Ready(());
            }
            delivery.as_mut().poll(cx)
        }),
    )
    .await;
}
