//! Options of transfers: from objects of JavaScript to the types of the core.

use std::time::Duration;

use fdsplice::{CopyOptions, RelayOptions, SendFileOptions};
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;

use crate::native_end::EndRole;
use crate::native_rate_limiter::NativeRateLimiter;

/// Options on how bytes are moved, common to all transfers.
#[napi(object)]
pub struct MoveSpec {
    /// `false`: through a private buffer, never a pipe.
    pub zero_copy: bool,
    /// Wanted capacity of the kernel pipe in bytes.
    pub pipe_size: Option<u32>,
    /// Longest time in milliseconds without one byte moved.
    pub idle_timeout: Option<f64>,
    /// For a relay: longest time in milliseconds that one direction may stay open after the other
    /// has ended.
    pub half_close_timeout: Option<f64>,
}

impl Default for MoveSpec {
    fn default() -> Self {
        Self {
            zero_copy: true,
            pipe_size: None,
            idle_timeout: None,
            half_close_timeout: None,
        }
    }
}

impl MoveSpec {
    fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.map(milliseconds)
    }
}

/// The rate limiters of a relay: `both` for both directions together, or one for each direction.
pub(crate) struct LimiterArgs<'a> {
    pub(crate) both: Option<&'a NativeRateLimiter>,
    pub(crate) tx: Option<&'a NativeRateLimiter>,
    pub(crate) rx: Option<&'a NativeRateLimiter>,
}

/// Options of a copy only.
#[napi(object)]
pub struct CopySpec {
    /// First byte to read of a file.
    pub start: Option<f64>,
    /// Where to write in a file.
    pub position: Option<f64>,
    /// At most this many bytes of the source.
    pub length: Option<f64>,
    /// Bytes to deliver before anything from the source, not part of `length`.
    pub head: Option<Uint8Array>,
    /// Shut the destination down for writing when done.
    pub end_destination: bool,
    /// The destination is the body of a response with a Content-Length.
    pub is_framed: Option<bool>,
}

/// Options of sending a file only.
#[napi(object)]
pub struct SendFileSpec {
    /// First byte to send.
    pub start: Option<f64>,
    /// Last byte to send.
    pub end: Option<f64>,
    /// Shut the destination down for writing when done.
    pub end_destination: bool,
    /// The destination is the body of a response with a Content-Length.
    pub is_framed: Option<bool>,
}

pub(crate) fn head(head: Option<&Uint8Array>) -> Vec<u8> {
    head.map(|head| head.to_vec()).unwrap_or_default()
}

pub(crate) fn relay_options(
    a: &EndRole,
    b: &EndRole,
    move_options: &MoveSpec,
    limiters: &LimiterArgs<'_>,
) -> RelayOptions {
    let mut options = RelayOptions::new()
        .head_from_a(head(a.head.as_ref()))
        .head_from_b(head(b.head.as_ref()))
        .zero_copy(move_options.zero_copy);
    if let Some(bytes) = move_options.pipe_size {
        options = options.pipe_size(bytes as usize);
    }
    if let Some(timeout) = move_options.idle_timeout() {
        options = options.idle_timeout(timeout);
    }
    if let Some(timeout) = move_options.half_close_timeout {
        options = options.half_close_timeout(milliseconds(timeout));
    }
    let core = |limiter: Option<&NativeRateLimiter>| limiter.map(NativeRateLimiter::core);
    match (core(limiters.both), core(limiters.tx), core(limiters.rx)) {
        (Some(both), _, _) => options.rate_limit(both),
        (None, None, None) => options,
        (None, tx, rx) => options.rate_limits(tx, rx),
    }
}

/// The options that a copy and the sending of a file have in common.
macro_rules! one_way_options {
    ($type:ident, $options:ident, $move_options:ident, $limiter:ident) => {{
        let mut options = $type::new()
            .end_destination($options.end_destination)
            .framed($options.is_framed == Some(true))
            .zero_copy($move_options.zero_copy);
        if let Some(start) = $options.start {
            options = options.start(integer(start));
        }
        if let Some(bytes) = $move_options.pipe_size {
            options = options.pipe_size(bytes as usize);
        }
        if let Some(timeout) = $move_options.idle_timeout() {
            options = options.idle_timeout(timeout);
        }
        if let Some(limiter) = $limiter {
            options = options.rate_limit(limiter.core());
        }
        options
    }};
}

pub(crate) fn copy_options(
    spec: &CopySpec,
    move_options: &MoveSpec,
    limiter: Option<&NativeRateLimiter>,
) -> CopyOptions {
    let mut options =
        one_way_options!(CopyOptions, spec, move_options, limiter).head(head(spec.head.as_ref()));
    if let Some(position) = spec.position {
        options = options.position(integer(position));
    }
    if let Some(length) = spec.length {
        options = options.length(integer(length));
    }
    options
}

pub(crate) fn send_file_options(
    spec: &SendFileSpec,
    move_options: &MoveSpec,
    limiter: Option<&NativeRateLimiter>,
) -> SendFileOptions {
    let options = one_way_options!(SendFileOptions, spec, move_options, limiter);
    match spec.end {
        Some(end) => options.end(integer(end)),
        None => options,
    }
}

fn milliseconds(number: f64) -> Duration {
    Duration::from_secs_f64(number / 1000.0)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the TypeScript side has checked that it is a safe integer of at least 0"
)]
pub(crate) fn integer(number: f64) -> u64 {
    number as u64
}
