//! A running relay: both directions, and everything that ends them early.

use std::task::{Context, Poll};

use crate::direction::plan::Route;
use crate::direction::{Direction, Wait};
use crate::error::{Reason, Side};
use crate::fault::{End, IoFailure};
use crate::fd::{LossWatch, TransferEnd};
use crate::limits::relay::{RelayBounds, RelayRules};
use crate::traffic::Control;

use super::ending::Failed;

/// The reason why a relay ended early.
pub(super) enum Halt {
    Other(Reason, Option<Side>),
    Failed(Failed),
}

impl Halt {
    fn lost(errno: rustix::io::Errno, side: Side) -> Self {
        Self::Failed(Failed {
            errno,
            syscall: "epoll_wait",
            side,
        })
    }
}

/// The routes from `a` to `b` and back.
pub(super) fn there_and_back<'a>(
    [a, b]: &'a [TransferEnd<'a>; 2],
    control: &'a Control,
) -> [Route<'a>; 2] {
    let there = Route {
        source: Some(a),
        destination: b,
        counter: control.tx(),
    };
    let back = Route {
        source: Some(b),
        destination: a,
        counter: control.rx(),
    };
    [there, back]
}

/// Both directions of a running relay.
pub(super) struct Exchange<'a> {
    ends: &'a [TransferEnd<'a>; 2],
    pub(super) tx: &'a mut Direction,
    pub(super) rx: &'a mut Direction,
    losses: [LossWatch<'a>; 2],
    bounds: Option<Box<RelayBounds>>,
    control: &'a Control,
}

impl<'a> Exchange<'a> {
    /// The clocks of `rules` start here.
    pub(super) fn new(
        ends: &'a [TransferEnd<'a>; 2],
        tx: &'a mut Direction,
        rx: &'a mut Direction,
        rules: Option<Box<RelayRules>>,
        control: &'a Control,
    ) -> Self {
        let [a, b] = ends;
        Self {
            ends,
            tx,
            rx,
            losses: [LossWatch::new(a), LossWatch::new(b)],
            bounds: rules.map(|rules| Box::new(rules.start())),
            control,
        }
    }

    /// Ready when both directions have ended, or the relay ends for another reason.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Halt>> {
        if self.control.poll_aborted(cx) {
            return Poll::Ready(Err(Halt::Other(Reason::Aborted, None)));
        }
        let [a, b] = self.ends;
        // Before the reads, which would take the error. It shows whether the end of input came first.
        for (end, side) in [(a, Side::A), (b, Side::B)] {
            if let Some(errno) = end.take_failure() {
                return Poll::Ready(Err(Halt::lost(errno, side)));
            }
        }
        if let Err(halt) = self.poll_directions(cx) {
            return Poll::Ready(Err(halt));
        }
        // After the reads above, which may have found the end of input of the side that is ended.
        let mut ends = false;
        if self.control.take_end(Side::A) && !self.tx.source_ended() {
            self.rx.end_early(b);
            ends = true;
        }
        if self.control.take_end(Side::B) && !self.rx.source_ended() {
            self.tx.end_early(a);
            ends = true;
        }
        if ends {
            cx.waker().wake_by_ref();
        }
        let (tx_ended, rx_ended) = (self.tx.is_ended(), self.rx.is_ended());
        if tx_ended && rx_ended {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(halt) = self.poll_losses(cx) {
            return Poll::Ready(Err(halt));
        }
        let total = self.control.traffic().total();
        let exceeded = self
            .bounds
            .as_mut()
            .and_then(|bounds| bounds.poll_exceeded(cx, total, tx_ended, rx_ended));
        match exceeded {
            Some((reason, side)) => Poll::Ready(Err(Halt::Other(reason, side))),
            None => Poll::Pending,
        }
    }

    fn poll_directions(&mut self, cx: &mut Context<'_>) -> Result<(), Halt> {
        let [there, back] = there_and_back(self.ends, self.control);
        let mut bounds = self.bounds.as_mut();
        let mut poll = |one: &mut Direction, other: &Direction, route: Route<'_>, sides| {
            let (source, destination) = sides;
            let throttles = bounds.as_mut().map(|bounds| &mut bounds.throttles);
            if one.is_ended() {
                if let Some(throttles) = throttles {
                    throttles.leave(source);
                }
                return Ok(());
            }
            // The peer of the destination has ended its input, and nothing of it is unread. Closing the
            // destination then sends the same FIN as a shutdown.
            let is_last = other.is_ended() && other.source_ended();
            if is_last && route.destination.facts().ends_by_close() {
                one.leave_end_to_close();
            }
            let limit = throttles.and_then(|throttles| throttles.of(source));
            let Poll::Ready(Err(IoFailure {
                errno,
                syscall,
                end,
            })) = one.poll(cx, route, limit)
            else {
                return Ok(());
            };
            let side = match end {
                End::Source => source,
                End::Destination => destination,
            };
            Err(Halt::Failed(Failed {
                errno,
                syscall,
                side,
            }))
        };
        poll(self.tx, self.rx, there, (Side::A, Side::B))?;
        poll(self.rx, self.tx, back, (Side::B, Side::A))
    }

    /// Ready with the failure of an end that no direction reads. A direction that waits for its source
    /// is woken by its failure.
    fn poll_losses(&mut self, cx: &mut Context<'_>) -> Poll<Halt> {
        let [a, b] = &mut self.losses;
        for (direction, loss, side) in [(&*self.tx, a, Side::A), (&*self.rx, b, Side::B)] {
            match direction.wait() {
                Wait::Source if !direction.is_ended() => loss.rest(),
                Wait::Turn if !direction.is_ended() => {}
                _ => {
                    if let Poll::Ready(errno) = loss.poll(cx) {
                        return Poll::Ready(Halt::lost(errno, side));
                    }
                }
            }
        }
        Poll::Pending
    }
}
