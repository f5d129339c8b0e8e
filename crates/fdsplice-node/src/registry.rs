//! The registry of all transfers of the process. It maps the number of each transfer that JavaScript
//! can still refer to, and adds up the counts of the ended ones.
//!
//! A transfer has the number that its environment gave it, so the key is the environment and that
//! number. It stays here after its end, until JavaScript has processed its outcome. An
//! operation on one transfer takes one process-wide lock for one hash lookup: a short relay at its
//! begin and at its end. Finished transfers are forgotten a batch at a time. `counts`, `abort_all` and
//! `forget_all` visit every entry.

use std::collections::{HashMap, hash_map};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fdsplice::{Control, Side, Traffic};

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);
static ENDED: Condvar = Condvar::new();

/// An environment, and the number that it gave to a transfer.
pub(crate) type Key = (u64, u32);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// Waits for an error of one end of a relay while the other end is connecting. It moves no bytes,
    /// so it is not counted, and [`abort_all`] does not abort it.
    Watch,
    /// Its counts are part of the totals.
    Ended,
}

struct Transfer {
    control: Control,
    state: State,
    /// The environment no longer exists, so the entry is removed at the end of the transfer.
    is_orphan: bool,
}

#[derive(Default)]
struct Registry {
    transfers: HashMap<Key, Transfer>,
    completed: u64,
    failed: u64,
    /// Bytes of the ended transfers, and those that transfers on streams have moved so far.
    moved: Traffic,
    /// Running transfers that JavaScript runs, on streams.
    streams: u32,
}

fn lock() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Adds a transfer. `false` when the key is in use.
    fn insert(&mut self, key: Key, control: Control, state: State) -> bool {
        let hash_map::Entry::Vacant(place) = self.transfers.entry(key) else {
            return false;
        };
        place.insert(Transfer {
            control,
            state,
            is_orphan: false,
        });
        true
    }

    /// The running transfers: their environments and the handles on them.
    fn running(&self) -> impl Iterator<Item = (u64, &Control)> {
        self.transfers
            .iter()
            .filter(|(_, transfer)| transfer.state == State::Running)
            .map(|(key, transfer)| (key.0, &transfer.control))
    }

    fn count_end(&mut self, failed: bool) {
        if failed {
            self.failed += 1;
        } else {
            self.completed += 1;
        }
    }
}

/// Saturates, because JavaScript can report any count: an overflow would panic in a debug build.
fn add(sum: &mut Traffic, traffic: Traffic) {
    sum.tx = sum.tx.saturating_add(traffic.tx);
    sum.rx = sum.rx.saturating_add(traffic.rx);
    sum.zero_copy = sum.zero_copy.saturating_add(traffic.zero_copy);
}

/// A running transfer in the registry. When it is dropped without [`Entry::end`], because its task
/// died, the transfer counts as failed.
pub(crate) struct Entry {
    key: Key,
    failed: bool,
}

impl Entry {
    /// `None` when the key is in use.
    pub(crate) fn begin(key: Key, control: Control) -> Option<Self> {
        let is_free = lock().insert(key, control, State::Running);
        is_free.then(|| Self { key, failed: true })
    }

    /// The number that the environment gave to the transfer.
    pub(crate) fn id(&self) -> u32 {
        self.key.1
    }

    /// The counts so far.
    pub(crate) fn traffic(&self) -> Traffic {
        traffic(self.key)
    }

    pub(crate) fn end(mut self, failed: bool) {
        self.failed = failed;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut registry = lock();
        if let Some(transfer) = registry.transfers.get_mut(&self.key) {
            transfer.state = State::Ended;
            let (traffic, is_orphan) = (transfer.control.traffic(), transfer.is_orphan);
            add(&mut registry.moved, traffic);
            if is_orphan {
                registry.transfers.remove(&self.key);
            }
        }
        registry.count_end(self.failed);
        ENDED.notify_all();
    }
}

/// Adds a watch on a socket. `false` when the key is in use.
pub(crate) fn begin_watch(key: Key, control: Control) -> bool {
    lock().insert(key, control, State::Watch)
}

/// The live counts of a transfer; zeros when it is not known.
pub(crate) fn traffic(key: Key) -> Traffic {
    let registry = lock();
    let transfer = registry.transfers.get(&key);
    transfer.map_or_else(Traffic::default, |transfer| transfer.control.traffic())
}

/// How long ago a transfer moved bytes. `None` when it has moved none or is not known.
pub(crate) fn idle(key: Key) -> Option<Duration> {
    lock().transfers.get(&key)?.control.idle()
}

/// Aborts a transfer. Does nothing when it has ended or is not known.
pub(crate) fn abort(key: Key) {
    let control = lock().transfers.get(&key).map(|it| it.control.clone());
    if let Some(control) = control {
        control.abort();
    }
}

/// Ends one side of a relay. Does nothing when the relay has ended or is not known.
pub(crate) fn end(key: Key, side: Side) {
    let control = lock().transfers.get(&key).map(|it| it.control.clone());
    if let Some(control) = control {
        control.end(side);
    }
}

/// Removes transfers of an environment whose outcomes JavaScript has processed.
pub(crate) fn forget(environment: u64, ids: &[u32]) {
    let mut registry = lock();
    let removed: Vec<_> = ids
        .iter()
        .filter_map(|id| registry.transfers.remove(&(environment, *id)))
        .collect();
    drop(registry);
    // The last handle on a transfer frees its task: with the lock held, other threads would wait.
    drop(removed);
}

/// Removes all entries of an ended environment, except those of running transfers, which are removed
/// when they end.
pub(crate) fn forget_all(environment: u64) {
    let mut registry = lock();
    let removed: Vec<_> = registry
        .transfers
        .extract_if(|key, transfer| {
            if key.0 != environment {
                return false;
            }
            transfer.is_orphan = true;
            transfer.state != State::Running
        })
        .collect();
    drop(registry);
    // After the lock, as in `forget`.
    drop(removed);
}

/// Aborts every transfer of an environment, and waits for at most `grace` until their sockets are
/// released. A process that exits afterwards has then reset all of them.
pub(crate) fn abort_all(environment: u64, grace: Duration) {
    let registry = lock();
    for (owner, control) in registry.running() {
        if owner == environment {
            control.abort();
        }
    }
    let is_running =
        |registry: &mut Registry| registry.running().any(|(owner, _)| owner == environment);
    drop(ENDED.wait_timeout_while(registry, grace, is_running));
}

/// Counts a transfer that was completed in one call.
pub(crate) fn ended_at_once(bytes: u64, zero_copy: bool) {
    let mut registry = lock();
    let mut moved = Traffic::default();
    moved.tx = bytes;
    moved.zero_copy = if zero_copy { bytes } else { 0 };
    add(&mut registry.moved, moved);
    registry.completed += 1;
}

/// A transfer that JavaScript runs, on streams. JavaScript reports the bytes that it moves. When the
/// entry is dropped without [`StreamEntry::end`], because its environment ended, the transfer counts
/// as failed.
pub(crate) struct StreamEntry {
    failed: bool,
}

impl StreamEntry {
    pub(crate) fn begin() -> Self {
        lock().streams += 1;
        Self { failed: true }
    }

    /// Adds the bytes moved since the last report.
    #[allow(
        clippy::unused_self,
        reason = "only an open transfer can have moved bytes"
    )]
    pub(crate) fn moved(&self, tx: u64, rx: u64) {
        let moved = &mut lock().moved;
        moved.tx = moved.tx.saturating_add(tx);
        moved.rx = moved.rx.saturating_add(rx);
    }

    pub(crate) fn end(mut self, failed: bool) {
        self.failed = failed;
    }
}

impl Drop for StreamEntry {
    fn drop(&mut self) {
        let mut registry = lock();
        registry.streams -= 1;
        registry.count_end(self.failed);
    }
}

/// Counts of the process.
pub(crate) struct Counts {
    /// Transfers running in the core and on streams.
    pub(crate) active: u32,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    /// Bytes of all transfers, running or ended.
    pub(crate) traffic: Traffic,
}

pub(crate) fn counts() -> Counts {
    let registry = lock();
    let mut counts = Counts {
        active: registry.streams,
        completed: registry.completed,
        failed: registry.failed,
        traffic: registry.moved,
    };
    for (_, control) in registry.running() {
        counts.active += 1;
        add(&mut counts.traffic, control.traffic());
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    // The registry is common to all tests, so each has an environment of its own, and none compares
    // the counts of the process exactly.

    fn is_known(key: Key) -> bool {
        lock().transfers.contains_key(&key)
    }

    #[test]
    fn a_transfer_is_known_until_it_is_forgotten() {
        let key = (1001, 7);
        let entry = Entry::begin(key, Control::new()).expect("a free number");
        assert!(Entry::begin(key, Control::new()).is_none(), "in use");
        entry.end(false);
        assert!(is_known(key));
        forget(1001, &[7]);
        assert!(!is_known(key));
    }

    #[test]
    fn a_watch_is_neither_counted_nor_aborted_with_the_others() {
        let control = Control::new();
        assert!(begin_watch((1002, 1), control));
        assert!(lock().running().all(|(owner, _)| owner != 1002));
        let before = std::time::Instant::now();
        abort_all(1002, Duration::from_secs(20));
        assert!(before.elapsed() < Duration::from_secs(10), "it waited");
        forget(1002, &[1]);
    }

    #[test]
    fn an_ended_environment_leaves_no_transfer_behind() {
        let [running, ended, watch] = [(1003, 1), (1003, 2), (1003, 3)];
        let entry = Entry::begin(running, Control::new()).expect("a free number");
        let other = Entry::begin(ended, Control::new()).expect("a free number");
        other.end(true);
        assert!(begin_watch(watch, Control::new()));
        forget_all(1003);
        assert!(is_known(running) && !is_known(ended) && !is_known(watch));
        entry.end(true);
        assert!(!is_known(running));
    }
}
