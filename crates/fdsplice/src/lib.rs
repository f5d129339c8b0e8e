//! Move bytes between descriptors inside the Linux kernel, and always know how many arrived.
//!
//! [`relay`] joins two stream sockets in both directions, [`copy`](copy()) moves bytes in one
//! between any two descriptors, [`send_file`] sends a file or a part of one. All keep their counts
//! on an error and on an abort, and run on any tokio runtime with I/O and time enabled.
//!
//! Sockets are joined by `splice(2)` through leased pipes for bulk, and through one buffer per
//! thread for small messages. Calls on files may wait for a disk; they are made on tokio's threads
//! for blocking work.
//!
//! # Signals
//! `splice(2)` raises `SIGPIPE` when a peer is gone, and has no flag against it. Rust programs and
//! Node.js ignore `SIGPIPE`; other embedders should do the same.

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod bounds;
mod cadence;
mod copy;
mod deadline;
mod direction;
mod endpoint;
mod engine;
mod error;
mod file_copy;
mod file_job;
mod opened_file;
mod options;
mod pipe;
mod places;
mod plan;
mod rate;
mod relay;
mod send_file;
mod stream;
mod traffic;

pub use copy::{CopyOptions, copy};
pub use endpoint::{Endpoint, Kind, Role};
pub use error::{EndpointError, Reason, Side, TransferError};
pub use opened_file::OpenedFile;
pub use pipe::{PipeStats, pipe_max_size, pipe_stats};
pub use rate::{RateLimiter, Throttle};
pub use relay::{RelayOptions, relay, watch};
pub use send_file::{SendFileOptions, send_file};
pub use traffic::{Control, Traffic, TrafficResult};
