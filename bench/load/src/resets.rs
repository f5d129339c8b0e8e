//! The origin's account of the connections that clients reset. A client that has reset its connection cannot see whether the
//! relay ever ended the other side; the origin can.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// The connections of one run. Several relays are kept warm at a time, and one that leaves connections open must not count
/// against the others, so each run has a number of its own.
#[derive(Default)]
struct Counts {
    open: u64,
    served: u64,
}

static RUNS: Mutex<Option<HashMap<u32, Counts>>> = Mutex::new(None);
static CHANGED: Notify = Notify::const_new();

/// Counts a connection as open until it is dropped.
pub(crate) struct Open(u32);

pub(crate) fn begin(run: u32) -> Open {
    let mut runs = runs();
    let counts = runs.get_or_insert_default().entry(run).or_default();
    counts.open += 1;
    Open(run)
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut runs = runs();
        let counts = runs.get_or_insert_default().entry(self.0).or_default();
        counts.open -= 1;
        counts.served += 1;
        drop(runs);
        CHANGED.notify_waiters();
    }
}

/// Waits until no connection of the run is open; the number of those that have ended.
pub(crate) async fn settled(run: u32) -> u64 {
    loop {
        // Registered before the look, so that no change between the two is missed.
        let changed = CHANGED.notified();
        if let Some(served) = served_if_settled(run) {
            return served;
        }
        changed.await;
    }
}

fn served_if_settled(run: u32) -> Option<u64> {
    match runs().as_ref().and_then(|runs| runs.get(&run)) {
        None => Some(0),
        Some(counts) if counts.open == 0 => Some(counts.served),
        Some(_) => None,
    }
}

fn runs() -> MutexGuard<'static, Option<HashMap<u32, Counts>>> {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner)
}
