//! The capabilities of the running kernel, and the counts of the whole process.

use fdsplice::{held_stats, pipe_stats, thread_stats};
use napi_derive::napi;

use crate::registry;

/// Capabilities of the running kernel; see the public `capabilities()`.
#[napi(object)]
pub struct NativeCapabilities {
    /// Largest capacity in bytes of a pipe that an unprivileged process may request.
    pub pipe_max_size: f64,
}

/// The capabilities of the running kernel.
#[napi]
#[allow(
    clippy::cast_precision_loss,
    reason = "JavaScript numbers; exact up to 2^53"
)]
pub fn capabilities() -> NativeCapabilities {
    NativeCapabilities {
        pipe_max_size: fdsplice::pipe_max_size() as f64,
    }
}

/// Counts of the whole process; see the public `stats()`.
#[napi(object)]
pub struct NativeStats {
    /// Transfers running.
    pub active: u32,
    /// Transfers that ran to their end.
    pub completed: f64,
    /// Transfers that ended in an error or abort.
    pub failed: f64,
    /// Bytes accepted by destinations; for relays, by `b`.
    pub tx: f64,
    /// Bytes accepted by `a` of relays.
    pub rx: f64,
    /// How many of `tx + rx` never passed through user space.
    pub zero_copy: f64,
    /// Pipes in use by transfers.
    pub pipes_leased: u32,
    /// Pipes kept for the next lease.
    pub pipes_idle: u32,
    /// Pipes made since the process started.
    pub pipes_created: u32,
    /// Bytes that transfers hold in memory.
    pub held_bytes: f64,
    /// The budget for the bytes that transfers hold in memory.
    pub held_limit: f64,
    /// Threads that make calls on files.
    pub threads: u32,
    /// Of these, the ones in a call that has not returned although its transfer has ended.
    pub threads_stuck: u32,
    /// Calls that wait for a thread.
    pub threads_awaited: u32,
}

/// Live counts of the whole process, all threads together.
#[napi]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "JavaScript numbers; exact up to 2^53"
)]
pub fn stats() -> NativeStats {
    let counts = registry::counts();
    let pipes = pipe_stats();
    let held = held_stats();
    let threads = thread_stats();
    NativeStats {
        active: counts.active,
        completed: counts.completed as f64,
        failed: counts.failed as f64,
        tx: counts.traffic.tx as f64,
        rx: counts.traffic.rx as f64,
        zero_copy: counts.traffic.zero_copy as f64,
        pipes_leased: pipes.leased as u32,
        pipes_idle: pipes.idle as u32,
        pipes_created: pipes.created as u32,
        held_bytes: held.bytes as f64,
        held_limit: held.limit as f64,
        threads: threads.threads as u32,
        threads_stuck: threads.stuck as u32,
        threads_awaited: threads.waiting as u32,
    }
}
