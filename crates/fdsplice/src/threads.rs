//! The threads on which calls run that may block: those on files. They are common to the process.
//!
//! `spawn_blocking` of tokio panics when the system has no thread left, and keeps the task in its
//! queue, from which a later thread would take it. Here a thread is found before the call is handed
//! over: a lack of threads is an error number, and the call stays with its transfer.
//!
//! A file system may stop answering (FUSE, NFS), and nothing ends a call that waits for it. So the
//! calls on one file system share a lane, which has a limited number of threads: the calls on other
//! file systems find threads of their own. A transfer that ends before its call returns abandons
//! the call. The thread then drops the result, and with it the descriptors.

mod call;
mod pool;
#[cfg(test)]
mod tests;

pub use call::BackgroundCall;
pub(crate) use call::{Running, close, close_detached};
pub(crate) use pool::{Lane, reserve};
pub use pool::{ThreadStats, thread_stats};
