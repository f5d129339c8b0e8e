//! The threads transfers run on: one current-thread tokio runtime per core, each with its own
//! epoll, and every transfer pinned to the one it was started on.
//!
//! Measured against tokio's multi-threaded runtime with one worker per core, and against one worker
//! for everything: the same addon with this file exchanged, medians of five interleaved rounds on
//! two shared cores, Linux 6.18, Node 20, CPU time of the whole relay process:
//!
//! | work | pinned | multi-threaded | one worker |
//! | --- | --- | --- | --- |
//! | 64 B ping-pong, 1 connection, µs a round trip | 31.5 | 35.9 | 33.1 |
//! | 64 B ping-pong, 32 connections | 21.9 | 20.7 | 22.5 |
//! | 16 KiB ping-pong, 8 connections | 30.2 | 29.7 | 33.3 |
//! | bulk, 8 streams, ms a GiB | 192 | 191 | 205 |
//! | connect, 100 B each way, close, µs | 654 | 640 | 577 |
//!
//! The rounds of one runtime lie further apart (±10 % and more) than the medians of the three, so
//! cost does not decide. Pinned runtimes do without what the others need locks or luck for: pools of
//! pipes and buffers that belong to a thread, no task that wanders away from the core its sockets'
//! memory is warm on, and no lock shared by the workers of a machine with many cores.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};

static WORKERS: Mutex<Vec<Handle>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The worker for the next transfer. They are started on first use, and never stopped: they own
/// nothing but the transfers on them, whatever environment those came from.
pub(crate) fn worker() -> io::Result<Handle> {
    let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
    if workers.is_empty() {
        let count = thread::available_parallelism().map_or(1, usize::from);
        *workers = (0..count).map(start).collect::<io::Result<_>>()?;
    }
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % workers.len();
    Ok(workers[next].clone())
}

fn start(index: usize) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("fdsplice-{index}"))
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
