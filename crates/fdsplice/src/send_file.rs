//! A file, or a part of one, to anything that can be written to.

use std::time::Duration;

use rustix::io::Errno;
use tracing::Instrument;

use crate::copy::{self, Bounds};
use crate::endpoint::{Endpoint, Kind};
use crate::error::{Side, TransferError};
use crate::plan::Plan;
use crate::rate::RateLimiter;
use crate::traffic::{Control, TrafficResult};

/// Options of [`send_file`].
#[derive(Debug, Default)]
pub struct SendFileOptions {
    plan: Plan,
    bounds: Bounds,
    control: Control,
}

impl SendFileOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// First byte to send; the file's own position is then left alone. Default: the current
    /// position, which advances by what was delivered.
    #[must_use]
    pub fn start(mut self, byte: u64) -> Self {
        self.plan.start = Some(byte);
        self
    }

    /// Last byte to send, capped to the file. Default: the last one it has at the start.
    #[must_use]
    pub fn end(mut self, byte: u64) -> Self {
        self.plan.last = Some(byte);
        self
    }

    /// Whether the destination is shut down for writing when done. Default `false`.
    #[must_use]
    pub fn end_destination(mut self, end: bool) -> Self {
        self.plan.pass_end_on = end;
        self
    }

    /// `false`: all bytes pass through a private buffer, so that later changes of the file cannot
    /// alter what was sent. Default `true`.
    #[must_use]
    pub fn zero_copy(mut self, zero_copy: bool) -> Self {
        self.plan.copy_only = !zero_copy;
        self
    }

    /// Limits the bytes per second. Waiting happens before reading, so that backpressure reaches
    /// the sender.
    #[must_use]
    pub fn rate_limit(mut self, limiter: RateLimiter) -> Self {
        self.bounds.limiter = Some(limiter);
        self
    }

    /// How long may pass without one byte moved; waiting for a limiter does not count. Then the
    /// transfer fails with [`Reason::IdleTimeout`](crate::Reason::IdleTimeout).
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.bounds.idle_timeout = Some(limit);
        self
    }

    /// The handle by which the transfer is watched and aborted.
    #[must_use]
    pub fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }
}

/// Sends the part of a file that is there at the start: of a file that grows not more, of one that
/// becomes shorter not less, which is [`Reason::SourceTruncated`](crate::Reason::SourceTruncated).
/// A file of size 0 is read to its end, since those of procfs have no other size.
///
/// # Errors
/// As [`copy`](crate::copy()); a source that is not a file is `EINVAL`. The notes on the page cache
/// there apply here too.
///
/// # Cancel safety
/// As [`copy`](crate::copy()).
///
/// # Panics
/// Outside a tokio runtime that has I/O and time enabled.
#[doc(alias = "sendfile")]
pub async fn send_file(
    file: Endpoint,
    destination: Endpoint,
    options: SendFileOptions,
) -> TrafficResult {
    let span = tracing::debug_span!("send_file", destination = ?destination.kind());
    async move {
        let SendFileOptions {
            mut plan,
            bounds,
            control,
        } = options;
        if file.kind() != Kind::File {
            let error = TransferError::system(Errno::INVAL, "sendfile", Side::Source);
            return control.result(Some(error));
        }
        plan.whole = true;
        let result = copy::run(file, destination, plan, bounds, control).await;
        tracing::debug!(tx = result.tx, zero_copy = result.zero_copy, error = ?result.error, "ended");
        result
    }
    .instrument(span)
    .await
}
