//! What the core lends to transfers that JavaScript runs on streams: its limiter and its counts.

use std::time::Duration;

use fdsplice::{RateLimiter, Throttle};
use napi_derive::napi;

use crate::registry::StreamEntry;

/// One transfer's place among those that share a limiter.
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

fn index(who: u32) -> usize {
    usize::from(who > 0)
}

#[napi]
impl NativeThrottle {
    /// How many bytes the direction `who` (0 or 1) may move now; or, negative, how many
    /// milliseconds to wait before asking again.
    #[napi]
    #[allow(clippy::cast_precision_loss, reason = "a piece is at most a MiB")]
    pub fn piece(&mut self, who: u32) -> f64 {
        match self.throttle.try_piece(index(who)) {
            Ok(piece) => piece as f64,
            Err(Duration::ZERO) => -1.0,
            Err(wait) => -(wait.as_secs_f64() * 1000.0).max(1.0),
        }
    }

    /// Says how many bytes of the piece were used. The rest of it is the next piece.
    #[napi]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number of at most a MiB"
    )]
    pub fn used(&mut self, who: u32, bytes: f64) {
        self.throttle.used_part(index(who), bytes as u64);
    }

    /// Leaves what is reserved and not used to others.
    #[napi]
    pub fn give_back(&mut self) {
        self.throttle.give_back();
    }

    /// The direction has ended and asks no more.
    #[napi]
    pub fn leave(&mut self, who: u32) {
        self.throttle.leave(index(who));
    }
}

/// A transfer that JavaScript runs, in the counts of the process.
#[napi]
pub struct NativeStreamEntry {
    entry: Option<StreamEntry>,
}

#[napi]
impl NativeStreamEntry {
    /// It has started.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "for JavaScript alone")]
    pub fn new() -> Self {
        Self {
            entry: Some(StreamEntry::begin()),
        }
    }

    /// Bytes since it last told.
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

    /// It has ended.
    #[napi]
    pub fn end(&mut self, failed: bool) {
        if let Some(entry) = self.entry.take() {
            entry.end(failed);
        }
    }
}
