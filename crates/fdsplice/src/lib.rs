//! Move bytes between descriptors inside the Linux kernel, and always know how many arrived.
//!
//! [`relay`] joins two stream sockets in both directions, [`copy`] moves bytes in one. Both use
//! `splice(2)` through leased pipes for bulk and one buffer per thread for small messages, keep
//! their counts on an error and on an abort, and run on any tokio runtime with I/O and time
//! enabled.
//!
//! # Signals
//! `splice(2)` raises `SIGPIPE` when a peer is gone, and has no flag against it. Rust programs and
//! Node.js ignore `SIGPIPE`; other embedders should do the same.

mod cadence;
mod copy;
mod direction;
mod endpoint;
mod engine;
mod error;
mod pipe;
mod relay;
mod socket;
mod traffic;

pub use copy::{CopyOptions, copy};
pub use endpoint::{Endpoint, Kind};
pub use error::{EndpointError, Reason, Side, TransferError};
pub use pipe::{PipeStats, pipe_max_size, pipe_stats};
pub use relay::{RelayOptions, relay};
pub use traffic::{Control, Traffic, TrafficResult};
