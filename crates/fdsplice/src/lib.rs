//! Move bytes between descriptors inside the Linux kernel, and always know how many arrived.
//!
//! [`relay`] joins two stream sockets in both directions. [`copy`](copy()) moves bytes in one
//! direction between any two descriptors. [`send_file`] sends a file or a range of one. All of them
//! keep their counts on an error and on an abort, and run on any tokio runtime with I/O and time
//! enabled.
//!
//! An end is a socket or pipe of tokio, by value or as `&mut`, or an [`Endpoint`], which is made from
//! any other descriptor. [`TransferEnd`] describes the differences.
//!
//! Bulk bytes move between sockets with `splice(2)` through leased pipes. Small messages move
//! through one buffer per thread. Calls on files may wait for a disk, so they are made on threads of
//! this crate, which all runtimes of the process share: at most 512, and at most 64 for the files of
//! one file system, which may stop answering. [`thread_stats`] shows them.
//!
//! # Memory
//! Bytes for a destination that accepts nothing leave their pipe and wait in memory, within one budget
//! for all transfers of the process ([`held_stats`]). While the budget is used up they stay in the
//! pipe, and each direction takes little at a time.
//!
//! # Signals
//! `splice(2)` raises `SIGPIPE` when the peer has closed the connection, and no flag prevents that.
//! Rust programs and Node.js ignore `SIGPIPE`. Other embedders should do the same.

#[cfg(not(any(target_os = "linux", target_os = "android")))]
// Every other item of this file exists on Linux alone, so that this is the only error elsewhere.
compile_error!("fdsplice needs Linux: it moves bytes with system calls that no other kernel has");

#[cfg(all(feature = "bench", any(target_os = "linux", target_os = "android")))]
#[doc(hidden)]
pub mod bench;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod copy;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod direction;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod engine;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod error;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod fault;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod fd;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod file;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod limits;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod options;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod pipe;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod relay;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod send_file;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod threads;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod traffic;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub use copy::{CopyOptions, copy};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use error::{EndpointError, Reason, Side, TransferError};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use fd::{Endpoint, Kind, Role, TransferEnd};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use file::by_path::{CopyPaths, CopyRange, OpenedPaths, PathError};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use file::read_ahead::PreopenedFile;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use limits::memory::{HeldStats, held_stats};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use limits::rate::{RateLimiter, Throttle};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use pipe::{PipeStats, pipe_max_size, pipe_stats};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use relay::{RelayOptions, relay, wait_for_error};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use send_file::{SendFileOptions, send_file};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use threads::{BackgroundCall, ThreadStats, thread_stats};
#[cfg(any(target_os = "linux", target_os = "android"))]
pub use traffic::{Control, Traffic, TrafficResult};
