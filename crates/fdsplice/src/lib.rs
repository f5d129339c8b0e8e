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
mod copy;
mod direction;
mod engine;
mod error;
mod fault;
mod fd;
mod file;
mod limits;
mod options;
mod pipe;
mod relay;
mod send_file;
mod traffic;

pub use copy::{CopyOptions, copy};
pub use error::{EndpointError, Reason, Side, TransferError};
pub use fd::{Endpoint, Kind, Role};
pub use file::read_ahead::PreopenedFile;
pub use limits::rate::{RateLimiter, Throttle};
pub use pipe::{PipeStats, pipe_max_size, pipe_stats};
pub use relay::{RelayOptions, relay, watch};
pub use send_file::{SendFileOptions, send_file};
pub use traffic::{Control, Traffic, TrafficResult};
