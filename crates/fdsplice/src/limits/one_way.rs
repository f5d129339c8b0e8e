//! The limits of a transfer in one direction, as `copy` and `send_file` have them.

use std::time::Duration;

use crate::limits::deadline::IdleTimer;
use crate::limits::rate::{RateLimiter, Throttle};

/// The limits that a copy was given.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) limiter: Option<RateLimiter>,
    pub(crate) idle_timeout: Option<Duration>,
}

impl Bounds {
    /// Starts the clocks.
    pub(crate) fn start(self) -> (Option<Throttle>, Option<IdleTimer>) {
        (
            self.limiter.map(Throttle::new),
            self.idle_timeout.map(IdleTimer::new),
        )
    }
}
