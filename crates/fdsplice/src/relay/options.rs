//! The options of a relay.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::direction::plan::Plan;
use crate::limits::rate::RateLimiter;
use crate::limits::relay::{RelayLimiters, RelayRules};
use crate::traffic::Control;

/// Options of [`relay`](crate::relay()).
#[derive(Debug, Default)]
pub struct RelayOptions {
    pub(super) head_from_a: Vec<u8>,
    pub(super) head_from_b: Vec<u8>,
    copy_only: bool,
    pipe_size: Option<NonZeroUsize>,
    pub(super) keeps_nagle: bool,
    pub(super) rules: RelayRules,
    pub(super) control: Control,
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
        // The kernel rounds up to a page, so 1 byte stands for 0.
        self.pipe_size = NonZeroUsize::new(bytes.max(1));
        self
    }

    /// Whether the relay sets `TCP_NODELAY` on the TCP sockets that were handed over. Default `true`.
    /// `false` saves a system call for each socket that has it already: accepted sockets inherit it from
    /// their listener (`tcp(7)`).
    #[must_use]
    pub fn set_nodelay(mut self, set: bool) -> Self {
        self.keeps_nagle = !set;
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
    /// [`Reason::IdleTimeout`](crate::Reason::IdleTimeout). Waiting for a limiter does not count.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.rules.idle_timeout = Some(limit);
        self
    }

    /// Longest time that one direction may stay open after the other has ended, after which the relay
    /// fails with [`Reason::HalfCloseTimeout`](crate::Reason::HalfCloseTimeout).
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

    pub(super) fn plan(&self, head: Vec<u8>) -> Plan {
        Plan {
            head,
            pass_end_on: true,
            copy_only: self.copy_only,
            pipe_size: self.pipe_size,
            ..Plan::default()
        }
    }
}
