//! Relays bytes between two sockets, in both directions at once.

mod ending;
mod exchange;
mod options;

use std::future::{Future, poll_fn};
use std::task::Poll;

use rustix::io::Errno;
use rustix::net::sockopt;
use tracing::Span;

use crate::direction::Direction;
use crate::error::{Side, TransferError};
use crate::fd::{Endpoint, LossWatch, Role, TransferEnd};
use crate::traffic::{Control, TrafficResult};

use ending::Failed;
use exchange::{Exchange, Halt, there_and_back};
pub use options::RelayOptions;

/// Relays bytes between two connected stream sockets until both have ended.
///
/// After the end of input on one side, the relay drains the held bytes and then shuts down writing on
/// the other side. The opposite direction continues.
///
/// A failure of one side ends the relay at once, even when that side is neither read nor written at
/// that moment. Bytes received before the failure are still delivered to the other side, for at most
/// 1 s. Then the sockets that were handed over are reset, so that a truncated stream never looks
/// complete. An abort resets them without that delay. A borrowed socket is not handed over by default:
/// after a failure the caller decides what its peer sees.
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
/// # Ownership
/// An [`Endpoint`] and a `TcpStream` or `UnixStream` by value are closed when the relay ends. A
/// `&mut TcpStream` or `&mut UnixStream` stays open and keeps its registration with the reactor. A pipe
/// of tokio is refused with `ENOTSOCK`. See [`TransferEnd`].
///
/// # Cancel safety
/// Dropping the future closes the ends that it owns and loses the held bytes. If the relay has started,
/// the sockets that were handed over are reset, as after a failure. Use [`Control::abort`] to end a
/// relay early.
///
/// # Panics
/// Outside a tokio runtime that has I/O and time enabled.
///
/// # Example
/// ```
/// # async fn example() -> std::io::Result<()> {
/// use fdsplice::{RelayOptions, relay};
/// use tokio::net::{TcpListener, TcpStream};
///
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let (client, _) = listener.accept().await?;
/// let upstream = TcpStream::connect("127.0.0.1:8080").await?;
/// let result = relay(client, upstream, RelayOptions::new()).await;
/// println!("{} bytes there, {} back, {:?}", result.tx, result.rx, result.error);
/// # Ok(())
/// # }
/// ```
///
/// Borrowed sockets, which a failure resets too when they are dropped:
/// ```
/// # use tokio::net::TcpStream;
/// # async fn example(mut client: TcpStream, mut upstream: TcpStream) {
/// use fdsplice::{RelayOptions, TransferEnd, relay};
///
/// let [a, b] = [&mut client, &mut upstream].map(|end| TransferEnd::from(end).handed_over(true));
/// let result = relay(a, b, RelayOptions::new()).await;
/// # drop(result);
/// # }
/// ```
#[doc(alias = "copy_bidirectional")]
#[doc(alias = "splice")]
pub fn relay<'a>(
    a: impl Into<TransferEnd<'a>>,
    b: impl Into<TransferEnd<'a>>,
    options: RelayOptions,
) -> impl Future<Output = TrafficResult> + Send {
    relay_ends(a.into(), b.into(), options)
}

/// The future of a relay lives as long as its connection, so it is kept small. Large values are captured
/// once and borrowed by the futures that it awaits. An `async fn` would keep room for its arguments
/// twice.
fn relay_ends<'a>(
    a: TransferEnd<'a>,
    b: TransferEnd<'a>,
    mut options: RelayOptions,
) -> impl Future<Output = TrafficResult> + Send {
    let span = tracing::debug_span!("relay", a = ?a.kind(), b = ?b.kind());
    let span = (!span.is_disabled()).then(|| Box::new(span));
    let head_from_a = std::mem::take(&mut options.head_from_a);
    let head_from_b = std::mem::take(&mut options.head_from_b);
    // A head for a side that was shut down for writing is a failure: its write fails with EPIPE.
    let skips_tx = b.facts().is_write_ended() && head_from_a.is_empty();
    let skips_rx = a.facts().is_write_ended() && head_from_b.is_empty();
    let mut tx = Direction::new(options.plan(head_from_a), Some(a.facts()), b.facts());
    let mut rx = Direction::new(options.plan(head_from_b), Some(b.facts()), a.facts());
    for (direction, skips) in [(&mut tx, skips_tx), (&mut rx, skips_rx)] {
        if skips {
            direction.skip();
        }
    }
    let sets_nodelay = !options.keeps_nagle;
    let rules = options.rules.boxed();
    let control = options.control;
    let mut ends = [a, b];
    async move {
        let result = if let Err(error) = prepare(&mut ends, sets_nodelay) {
            control.result(Some(error))
        } else {
            let mut reset = ResetOnDrop(Some(&ends));
            let mut exchange = Exchange::new(&ends, &mut tx, &mut rx, rules, &control);
            let outcome = poll_fn(|cx| in_span(span.as_deref(), || exchange.poll(cx))).await;
            drop(exchange);
            // Before the ending, whose reads return 0 behind a reset too.
            let mut input_ended = [tx.source_ended(), rx.source_ended()];
            let error = match outcome {
                Ok(()) => None,
                Err(Halt::Other(reason, side)) => Some(TransferError::other(reason, side)),
                Err(Halt::Failed(failed)) => {
                    // On the heap, because few relays need this state.
                    let ending = after_failure(failed, [&mut tx, &mut rx], &ends, &control);
                    let mut ending = Box::pin(ending);
                    let ended = poll_fn(|cx| {
                        let span = span.as_deref();
                        in_span(span, || ending.as_mut().poll(cx))
                    });
                    let (error, had_ended) = ended.await;
                    for (ended, had_ended) in input_ended.iter_mut().zip(had_ended) {
                        *ended |= had_ended;
                    }
                    error
                }
            };
            if error.is_none() {
                reset.0 = None;
            }
            TrafficResult {
                a_ended: input_ended[0],
                b_ended: input_ended[1],
                ..control.result(error)
            }
        };
        in_span(span.as_deref(), || {
            tracing::debug!(tx = result.tx, rx = result.rx, zero_copy = result.zero_copy,
                error = ?result.error, "ended");
        });
        result
    }
}

/// Ends a relay after a failure of one side. Returns the failure, unless the relay has succeeded, and
/// which of the ends had ended their input before it.
async fn after_failure(
    failed: Failed,
    [tx, rx]: [&mut Direction; 2],
    ends: &[TransferEnd<'_>; 2],
    control: &Control,
) -> (Option<TransferError>, [bool; 2]) {
    let [there, back] = there_and_back(ends, control);
    let (tx, rx) = ((tx, there), (rx, back));
    let (from, to) = match failed.side {
        Side::B => (rx, tx),
        _ => (tx, rx),
    };
    let error = ending::after_failure(failed, from, to, control).await;
    let had_ended = [Side::A, Side::B].map(|side| {
        error
            .as_ref()
            .is_none_or(|it| it.after_end && it.side == Some(side))
    });
    (error, had_ended)
}

/// Runs a part of a relay in its span, if there is one.
fn in_span<T>(span: Option<&Span>, part: impl FnOnce() -> T) -> T {
    match span {
        Some(span) => span.in_scope(part),
        None => part(),
    }
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
    let mut end = TransferEnd::from(socket);
    if let Err(errno) = end.register() {
        return Some(TransferError::system(errno, "epoll_ctl", side));
    }
    let mut loss = LossWatch::new(&end);
    poll_fn(|cx| {
        if control.poll_aborted(cx) {
            return Poll::Ready(None);
        }
        let error = |errno| Some(TransferError::system(errno, "epoll_wait", side));
        loss.poll(cx).map(error)
    })
    .await
}

/// Checks the ends, and registers those that are not.
fn prepare(ends: &mut [TransferEnd<'_>; 2], sets_nodelay: bool) -> Result<(), TransferError> {
    const SIDES: [Side; 2] = [Side::A, Side::B];
    for (end, side) in ends.iter().zip(SIDES) {
        if end.require(Role::Relay).is_err() {
            return Err(TransferError::system(Errno::NOTSOCK, "getsockopt", side));
        }
    }
    for (index, side) in SIDES.into_iter().enumerate() {
        if let Err(errno) = ends[index].register() {
            for end in ends {
                end.as_ref().prepare_reset();
            }
            return Err(TransferError::system(errno, "epoll_ctl", side));
        }
    }
    for end in ends
        .iter()
        .filter(|end| sets_nodelay && end.facts().resets())
    {
        // If the connection has just failed, the first read or write reports it.
        let _ = sockopt::set_tcp_nodelay(end, true);
    }
    Ok(())
}

/// Resets the ends of a relay that has failed, panicked, or was dropped before its end.
struct ResetOnDrop<'a>(Option<&'a [TransferEnd<'a>; 2]>);

impl Drop for ResetOnDrop<'_> {
    fn drop(&mut self) {
        for end in self.0.into_iter().flatten() {
            end.as_ref().prepare_reset();
        }
    }
}
