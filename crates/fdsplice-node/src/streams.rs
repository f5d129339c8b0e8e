//! The rate limiter and the counts of the core, for transfers that JavaScript runs on streams.

use std::time::Duration;

use fdsplice::{RateLimiter, Throttle};
use napi_derive::napi;

use crate::registry::StreamEntry;

/// The use that one transfer makes of a rate limiter.
#[napi]
pub struct NativeThrottle {
    throttle: Throttle,
}

impl NativeThrottle {
    pub(crate) fn new(limiter: &RateLimiter) -> Self {
        Self {
            throttle: limiter.throttle(),
        }
    }
}

fn index(direction: u32) -> usize {
    usize::from(direction > 0)
}

#[napi]
impl NativeThrottle {
    /// How many bytes `direction` (0 or 1) may move now. A negative number is the time in
    /// milliseconds to wait before the next request.
    #[napi]
    #[allow(clippy::cast_precision_loss, reason = "a quantum is at most a MiB")]
    pub fn quantum(&mut self, direction: u32) -> f64 {
        match self.throttle.try_quantum(index(direction)) {
            Ok(quantum) => quantum as f64,
            Err(Duration::ZERO) => -1.0,
            Err(wait) => -(wait.as_secs_f64() * 1000.0).max(1.0),
        }
    }

    /// Reports how many bytes of the quantum were used. The rest of it is the next quantum.
    #[napi]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number of at most a MiB"
    )]
    pub fn used(&mut self, direction: u32, bytes: f64) {
        self.throttle.used_part(index(direction), bytes as u64);
    }

    /// Gives the reserved and unused bytes back to the limiter.
    #[napi]
    pub fn give_back(&mut self) {
        self.throttle.give_back();
    }

    /// `direction` makes no more requests.
    #[napi]
    pub fn leave(&mut self, direction: u32) {
        self.throttle.leave(index(direction));
    }
}

/// A transfer that JavaScript runs, as part of the counts of the process.
#[napi]
pub struct NativeStreamEntry {
    entry: Option<StreamEntry>,
}

#[napi]
impl NativeStreamEntry {
    /// Counts the transfer as started.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "only JavaScript constructs it")]
    pub fn new() -> Self {
        Self {
            entry: Some(StreamEntry::begin()),
        }
    }

    /// Adds the bytes moved since the last report.
    #[napi]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of bytes"
    )]
    pub fn moved(&self, tx: f64, rx: f64) {
        if let Some(entry) = &self.entry {
            entry.moved(tx as u64, rx as u64);
        }
    }

    /// Counts the transfer as ended.
    #[napi]
    pub fn end(&mut self, failed: bool) {
        if let Some(entry) = self.entry.take() {
            entry.end(failed);
        }
    }
}
