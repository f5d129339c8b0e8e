//! The counts of a server and of its targets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fdsplice::Traffic;

use crate::address::Address;
use crate::record::Refusal;
use crate::server::Shared;
use crate::target::Target;

/// Counts of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that have not ended.
    pub active: u64,
    /// Connections that have ended well.
    pub completed: u64,
    /// Connections that have failed after they were accepted.
    pub failed: u64,
    /// Bytes of all connections, running or ended. `tx` goes to the targets.
    pub traffic: Traffic,
    /// Refused connections by reason: the index is `reason as usize`.
    pub refused: [u64; Refusal::COUNT],
}

/// The counts of a server. `accepted` is the sum of the active, completed, failed and refused ones.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections accepted so far.
    pub accepted: u64,
    /// The counts of all connections.
    pub total: Counts,
    /// The targets that are or were in use, in no order.
    pub targets: Vec<TargetStats>,
}

/// The counts of one target.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TargetStats {
    /// The target.
    pub target: Target,
    /// Its counts. Of the reasons for a refusal only [`Refusal::Connect`] belongs to a target.
    pub counts: Counts,
    /// The time that the last connect took.
    pub connect_time: Duration,
    /// Whether it takes no new connections.
    pub is_draining: bool,
}

/// A connection that has not ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The number of the connection.
    pub id: u64,
    /// The number of the listener that has accepted it.
    pub listener: u32,
    /// The address of the client.
    pub client: Address,
    /// Its target, once it has one.
    pub target: Option<Target>,
    /// Its live counts.
    pub traffic: Traffic,
    /// The time since it was accepted.
    pub age: Duration,
}

/// Counts of ended connections.
#[derive(Debug, Default)]
pub(crate) struct AtomicCounts {
    completed: AtomicU64,
    failed: AtomicU64,
    tx: AtomicU64,
    rx: AtomicU64,
    zero_copy: AtomicU64,
    refused: [AtomicU64; Refusal::COUNT],
}

impl AtomicCounts {
    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_end(&self, traffic: Traffic, failed: bool) {
        let ended = if failed {
            &self.failed
        } else {
            &self.completed
        };
        ended.fetch_add(1, Ordering::Relaxed);
        for (count, bytes) in [
            (&self.tx, traffic.tx),
            (&self.rx, traffic.rx),
            (&self.zero_copy, traffic.zero_copy),
        ] {
            if bytes != 0 {
                count.fetch_add(bytes, Ordering::Relaxed);
            }
        }
    }

    /// Adds these counts to a sum.
    pub(crate) fn add_to(&self, sum: &mut Counts) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        sum.completed += get(&self.completed);
        sum.failed += get(&self.failed);
        sum.traffic.tx += get(&self.tx);
        sum.traffic.rx += get(&self.rx);
        sum.traffic.zero_copy += get(&self.zero_copy);
        for (sum, count) in sum.refused.iter_mut().zip(&self.refused) {
            *sum += get(count);
        }
    }
}

/// Adds the live counts of a running connection.
pub(crate) fn add_traffic(sum: &mut Traffic, traffic: Traffic) {
    sum.tx += traffic.tx;
    sum.rx += traffic.rx;
    sum.zero_copy += traffic.zero_copy;
}

/// The counts of a server. All workers are locked together, so that they belong to one moment.
pub(crate) fn of_server(shared: &Shared) -> ServerStats {
    let locked: Vec<_> = shared.workers.iter().map(|worker| worker.lock()).collect();
    let mut stats = ServerStats::default();
    for worker in &shared.workers {
        worker.counts.add_to(&mut stats.total);
    }
    let targets = shared.targets.all();
    let mut counts: HashMap<_, Counts> = HashMap::new();
    for target in &targets {
        target
            .counts
            .add_to(counts.entry(Arc::as_ptr(target)).or_default());
    }
    for state in &locked {
        stats.accepted += state.begun;
        for live in state.connections.values() {
            let target = live
                .target()
                .and_then(|it| counts.get_mut(&Arc::as_ptr(it)));
            for counts in [Some(&mut stats.total), target].into_iter().flatten() {
                counts.active += 1;
                add_traffic(&mut counts.traffic, live.control.traffic());
            }
        }
    }
    drop(locked);
    stats.targets = targets
        .iter()
        .map(|it| TargetStats {
            target: it.target.clone(),
            counts: counts.remove(&Arc::as_ptr(it)).unwrap_or_default(),
            connect_time: it.connect_time(),
            is_draining: it.is_draining.load(Ordering::SeqCst),
        })
        .collect();
    stats
}
