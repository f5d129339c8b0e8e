//! Every running transfer of the process, and the totals of those that have ended.

use std::collections::HashMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fdsplice::{Control, Traffic, pipe_stats};

use crate::NativeStats;

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
static ENDED: Condvar = Condvar::new();

#[derive(Default)]
struct Registry {
    next: u64,
    /// By key: the environment that started the transfer, and the handle on it.
    running: HashMap<u64, (u64, Control)>,
    completed: u64,
    failed: u64,
    /// What has ended, and what streams have moved so far.
    ended: Traffic,
    /// Transfers that JavaScript runs, on streams.
    streams: u32,
}

fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running transfer's place in the registry. Dropped without [`Entry::end`], when its task dies,
/// it counts as failed.
pub(crate) struct Entry {
    key: u64,
    failed: bool,
}

impl Entry {
    pub(crate) fn begin(environment: u64, control: Control) -> Self {
        let mut registry = lock();
        let key = registry.next;
        registry.next += 1;
        registry.running.insert(key, (environment, control));
        Self { key, failed: true }
    }

    pub(crate) fn end(mut self, failed: bool) {
        self.failed = failed;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut registry = lock();
        if let Some((_, control)) = registry.running.remove(&self.key) {
            let traffic = control.traffic();
            registry.ended.tx += traffic.tx;
            registry.ended.rx += traffic.rx;
            registry.ended.zero_copy += traffic.zero_copy;
        }
        if self.failed {
            registry.failed += 1;
        } else {
            registry.completed += 1;
        }
        ENDED.notify_all();
    }
}

/// Counts a transfer that was over in one call.
pub(crate) fn sent_at_once(bytes: u64) {
    let mut registry = lock();
    registry.ended.tx += bytes;
    registry.completed += 1;
}

/// A transfer that JavaScript runs, on streams: it tells what it moves. Dropped without
/// [`StreamEntry::end`], when its environment dies, it counts as failed.
pub(crate) struct StreamEntry {
    failed: bool,
}

impl StreamEntry {
    pub(crate) fn begin() -> Self {
        lock().streams += 1;
        Self { failed: true }
    }

    /// Bytes since it last told.
    #[allow(
        clippy::unused_self,
        reason = "nothing is moved without a transfer that is open"
    )]
    pub(crate) fn moved(&self, tx: u64, rx: u64) {
        let mut registry = lock();
        registry.ended.tx += tx;
        registry.ended.rx += rx;
    }

    pub(crate) fn end(mut self, failed: bool) {
        self.failed = failed;
    }
}

impl Drop for StreamEntry {
    fn drop(&mut self) {
        let mut registry = lock();
        registry.streams -= 1;
        if self.failed {
            registry.failed += 1;
        } else {
            registry.completed += 1;
        }
    }
}

/// Aborts every transfer of an environment and waits, for at most `grace`, until they have let go
/// of their sockets: a process that exits right afterwards has then reset them all.
pub(crate) fn abort_all(environment: u64, grace: Duration) {
    let registry = lock();
    for (owner, control) in registry.running.values() {
        if *owner == environment {
            control.abort();
        }
    }
    let of_this = |registry: &mut Registry| {
        registry
            .running
            .values()
            .any(|(owner, _)| *owner == environment)
    };
    drop(ENDED.wait_timeout_while(registry, grace, of_this));
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "JavaScript numbers; exact up to 2^53"
)]
pub(crate) fn stats() -> NativeStats {
    let registry = lock();
    let mut sum = registry.ended;
    for (_, control) in registry.running.values() {
        let traffic = control.traffic();
        sum.tx += traffic.tx;
        sum.rx += traffic.rx;
        sum.zero_copy += traffic.zero_copy;
    }
    let pipes = pipe_stats();
    NativeStats {
        active: registry.running.len() as u32 + registry.streams,
        completed: registry.completed as f64,
        failed: registry.failed as f64,
        tx: sum.tx as f64,
        rx: sum.rx as f64,
        zero_copy: sum.zero_copy as f64,
        pipes_leased: pipes.leased as u32,
        pipes_idle: pipes.idle as u32,
        pipes_created: pipes.created as u32,
    }
}
