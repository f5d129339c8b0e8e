//! Move bytes between descriptors inside the Linux kernel, and always know how many arrived.
//!
//! [`relay`] joins two stream sockets in both directions. [`copy`](copy()) moves bytes in one
//! direction between any two descriptors. [`send_file`] sends a file or a range of one. All of them
//! keep their counts on an error and on an abort, and run on any tokio runtime with I/O and time
//! enabled.
//!
//! Bulk bytes move between sockets with `splice(2)` through leased pipes. Small messages move
//! through one buffer per thread. Calls on files may wait for a disk, so they are made on tokio's
//! threads for blocking work.
//!
//! # Signals
//! `splice(2)` raises `SIGPIPE` when the peer has closed the connection, and no flag prevents that.
//! Rust programs and Node.js ignore `SIGPIPE`. Other embedders should do the same.

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
pub use limits::memory::{HeldStats, held_stats};
pub use limits::rate::{RateLimiter, Throttle};
pub use pipe::{PipeStats, pipe_max_size, pipe_stats};
pub use relay::{RelayOptions, relay, wait_for_error};
pub use send_file::{SendFileOptions, send_file};
pub use traffic::{Control, Traffic, TrafficResult};
