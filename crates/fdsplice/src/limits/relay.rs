//! What a relay must keep to: limits on its rate, and on the time it may be idle or half open.

use std::task::Context;
use std::time::Duration;

use crate::error::{Reason, Side};
use crate::limits::deadline::{Countdown, IdleTimer};
use crate::limits::rate::{Limit, RateLimiter, Throttle};

/// Who shares which limiter.
#[derive(Debug, Default)]
pub(crate) enum Limits {
    #[default]
    None,
    Both(RateLimiter),
    Each {
        tx: Option<RateLimiter>,
        rx: Option<RateLimiter>,
    },
}

/// What a relay is told to keep to.
#[derive(Debug, Default)]
pub(crate) struct RelayRules {
    pub(crate) limits: Limits,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) half_close_timeout: Option<Duration>,
}

impl RelayRules {
    /// The clocks run from here on.
    pub(crate) fn start(self) -> RelayBounds {
        RelayBounds {
            throttles: Throttles::new(self.limits),
            idle: self.idle_timeout.map(IdleTimer::new),
            half_close: self.half_close_timeout.map(Countdown::new),
        }
    }
}

/// What a running relay must keep to.
pub(crate) struct RelayBounds {
    pub(crate) throttles: Throttles,
    idle: Option<IdleTimer>,
    half_close: Option<Countdown>,
}

impl RelayBounds {
    pub(crate) fn poll_exceeded(
        &mut self,
        cx: &mut Context<'_>,
        total: u64,
        tx_ended: bool,
        rx_ended: bool,
    ) -> Option<(Reason, Option<Side>)> {
        let waiting = self.throttles.are_waiting();
        if let Some(idle) = &mut self.idle
            && idle.poll_expired(cx, total, waiting)
        {
            return Some((Reason::IdleTimeout, None));
        }
        let half_open = match (tx_ended, rx_ended) {
            (true, false) => Some(Side::B),
            (false, true) => Some(Side::A),
            _ => None,
        };
        if let (Some(side), Some(countdown)) = (half_open, &mut self.half_close)
            && countdown.poll_expired(cx)
        {
            return Some((Reason::HalfCloseTimeout, Some(side)));
        }
        None
    }
}

/// The limiters of both directions, as this relay uses them.
pub(crate) enum Throttles {
    None,
    Both(Throttle),
    Each([Option<Throttle>; 2]),
}

impl Throttles {
    fn new(limits: Limits) -> Self {
        match limits {
            Limits::None => Self::None,
            Limits::Both(limiter) => Self::Both(Throttle::new(limiter)),
            Limits::Each { tx, rx } => Self::Each([tx, rx].map(|each| each.map(Throttle::new))),
        }
    }

    pub(crate) fn of(&mut self, source: Side) -> Option<Limit<'_>> {
        let who = usize::from(source == Side::B);
        match self {
            Self::None => None,
            Self::Both(throttle) => Some((throttle, who)),
            Self::Each(throttles) => throttles[who].as_mut().map(|throttle| (throttle, 0)),
        }
    }

    /// A direction that has ended does not take turns any more.
    pub(crate) fn leave(&mut self, source: Side) {
        if let Some((throttle, who)) = self.of(source) {
            throttle.leave(who);
        }
    }

    fn are_waiting(&self) -> bool {
        match self {
            Self::None => false,
            Self::Both(throttle) => throttle.is_waiting(),
            Self::Each(throttles) => throttles.iter().flatten().any(Throttle::is_waiting),
        }
    }
}
