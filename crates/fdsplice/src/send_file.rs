//! The verb `send_file`: sends a file, or a range of it, to any destination. The caller passes a
//! descriptor, or a `PreopenedFile` that the core has opened and may have read into memory.

use rustix::io::Errno;
use tracing::Instrument;

use crate::copy;
use crate::direction::plan::{Plan, Wanted};
use crate::error::{Side, TransferError};
use crate::fd::{Endpoint, Kind, TransferEnd};
use crate::file::read_ahead::{Content, PreopenedFile};
use crate::limits::one_way::Bounds;
use crate::options::one_way_options;
use crate::traffic::{Control, TrafficResult};

/// Options of [`send_file`].
#[derive(Debug, Default)]
pub struct SendFileOptions {
    plan: Plan,
    last: Option<u64>,
    bounds: Bounds,
    control: Control,
}

impl SendFileOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    one_way_options!();

    /// Last byte to send, capped to the file. Default: the last byte of the file at the start.
    #[must_use]
    pub fn end(mut self, byte: u64) -> Self {
        self.last = Some(byte);
        self
    }
}

/// Sends the part of a file that is there at the start. Later growth is ignored; truncation fails
/// with [`Reason::SourceTruncated`](crate::Reason::SourceTruncated). A file of size 0, or of a
/// file system whose sizes say nothing about the contents (procfs, sysfs, FUSE with direct I/O), is
/// read to its end.
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
pub fn send_file<'a>(
    file: Endpoint,
    destination: impl Into<TransferEnd<'a>>,
    options: SendFileOptions,
) -> impl Future<Output = TrafficResult> + Send {
    let SendFileOptions {
        plan,
        last,
        bounds,
        control,
    } = options;
    let plan = Plan {
        wanted: Wanted::ExactRange { last },
        ..plan
    };
    run(Some(file), destination.into(), plan, bounds, control)
}

impl PreopenedFile {
    /// Sends the bytes that [`PreopenedFile::send_now`] has not sent. The result also counts those that
    /// it has sent; the [`Control`] counts them from this call on. The range in the options must be the range that was opened.
    ///
    /// # Errors
    /// As [`send_file`]. If the file was read when it was opened, later changes of it are not
    /// noticed.
    ///
    /// # Cancel safety
    /// As [`send_file`].
    ///
    /// # Panics
    /// Outside a tokio runtime that has I/O and time enabled.
    pub fn send<'a>(
        self,
        destination: impl Into<TransferEnd<'a>>,
        options: SendFileOptions,
    ) -> impl Future<Output = TrafficResult> + Send {
        let SendFileOptions {
            plan,
            last,
            bounds,
            control,
        } = options;
        let (file, plan) = match self.into_content() {
            Content::Open(file) => {
                let wanted = Wanted::ExactRange { last };
                (Some(file), Plan { wanted, ..plan })
            }
            Content::Read {
                mut bytes, sent, ..
            } => {
                control.tx().add(sent as u64, false);
                let plan = Plan {
                    head: bytes.split_off(sent),
                    pass_end_on: plan.pass_end_on,
                    ..Plan::default()
                };
                (None, plan)
            }
        };
        run(file, destination.into(), plan, bounds, control)
    }
}

/// Sends a file, or memory where `file` is `None`. Not an `async fn`, whose future would keep room
/// for these arguments twice: once as its arguments, once in the block that it awaits.
fn run(
    file: Option<Endpoint>,
    destination: TransferEnd<'_>,
    plan: Plan,
    bounds: Bounds,
    control: Control,
) -> impl Future<Output = TrafficResult> + Send {
    let span = tracing::debug_span!("send_file", destination = ?destination.kind());
    async move {
        if file.as_ref().is_some_and(|file| file.kind() != Kind::File) {
            let error = TransferError::system(Errno::INVAL, "sendfile", Side::Source);
            return control.result(Some(error));
        }
        let result = copy::run(file.map(TransferEnd::from), destination, plan, bounds, control).await;
        tracing::debug!(tx = result.tx, zero_copy = result.zero_copy, error = ?result.error, "ended");
        result
    }
    .instrument(span)
}
