//! A file, or a part of one, to anything that can be written to.

use rustix::io::Errno;
use tracing::Instrument;

use crate::copy;
use crate::direction::plan::Plan;
use crate::error::{Side, TransferError};
use crate::fd::{Endpoint, Kind};
use crate::limits::one_way::Bounds;
use crate::options::one_way_options;
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

    one_way_options!();

    /// Last byte to send, capped to the file. Default: the last one it has at the start.
    #[must_use]
    pub fn end(mut self, byte: u64) -> Self {
        self.plan.last = Some(byte);
        self
    }

    pub(crate) fn into_parts(self) -> (Plan, Bounds, Control) {
        (self.plan, self.bounds, self.control)
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
        let (mut plan, bounds, control) = options.into_parts();
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
