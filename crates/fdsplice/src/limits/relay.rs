//! The limits of a relay: on its rate, and on the time that it may be idle or half open.

use std::task::Context;
use std::time::Duration;

use crate::error::{Reason, Side};
use crate::limits::deadline::{Countdown, IdleTimer};
use crate::limits::rate::{Limit, RateLimiter, Throttle};

/// The rate limiters of a relay: none, one for both directions together, or one for each.
#[derive(Debug, Default)]
pub(crate) enum RelayLimiters {
    #[default]
    None,
    Both(RateLimiter),
    Each {
        tx: Option<RateLimiter>,
        rx: Option<RateLimiter>,
    },
}

/// The limits that a relay was given.
#[derive(Debug, Default)]
pub(crate) struct RelayRules {
    pub(crate) limiters: RelayLimiters,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) half_close_timeout: Option<Duration>,
}

impl RelayRules {
    /// `None` where there is no limit.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let is_limited = !matches!(self.limiters, RelayLimiters::None)
            || self.idle_timeout.is_some()
            || self.half_close_timeout.is_some();
        is_limited.then(|| Box::new(self))
    }

    /// Starts the clocks.
    pub(crate) fn start(self) -> RelayBounds {
        RelayBounds {
            throttles: Throttles::new(self.limiters),
            idle: self.idle_timeout.map(IdleTimer::new),
            half_close: self.half_close_timeout.map(Countdown::new),
        }
    }
}

/// The limits of a running relay.
pub(crate) struct RelayBounds {
    pub(crate) throttles: Throttles,
    idle: Option<IdleTimer>,
    half_close: Option<Countdown>,
}

impl RelayBounds {
    /// The limit that is exceeded now, and the side that exceeds it. `total` is the count of bytes
    /// moved so far.
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

/// The throttles of a relay: none, one for both directions, or one for each.
pub(crate) enum Throttles {
    None,
    Both(Throttle),
    Each([Option<Throttle>; 2]),
}

impl Throttles {
    fn new(limiters: RelayLimiters) -> Self {
        match limiters {
            RelayLimiters::None => Self::None,
            RelayLimiters::Both(limiter) => Self::Both(Throttle::new(limiter)),
            RelayLimiters::Each { tx, rx } => {
                Self::Each([tx, rx].map(|each| each.map(Throttle::new)))
            }
        }
    }

    /// The limit of the direction that reads from `source`.
    pub(crate) fn of(&mut self, source: Side) -> Option<Limit<'_>> {
        let direction = usize::from(source == Side::B);
        match self {
            Self::None => None,
            Self::Both(throttle) => Some((throttle, direction)),
            Self::Each(throttles) => throttles[direction].as_mut().map(|throttle| (throttle, 0)),
        }
    }

    /// The direction that reads from `source` has ended and takes no more turns.
    pub(crate) fn leave(&mut self, source: Side) {
        if let Some((throttle, direction)) = self.of(source) {
            throttle.leave(direction);
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
