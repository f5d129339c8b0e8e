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
//!
//! Short relays are another matter. One costs the event loop that accepts and connects about twice
//! what it costs a worker, so one worker keeps up with the short relays of a JavaScript thread, and
//! is woken half as often as two that share them: 20 % less CPU time for connect, 100 B each way
//! and close. So while relays turn out to be short, they share a worker.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};

/// Bytes that a short transfer moves at most: so many that it hardly was bulk.
const SHORT: u64 = 64 * 1024;
/// So many in a row have to be short before the next one is expected to be.
const RUN: usize = 64;
/// So many share a worker at most: should they turn out to be bulk, others have room elsewhere.
const SHARED: usize = 32;

static WORKERS: Mutex<Vec<Worker>> = Mutex::new(Vec::new());
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Short transfers since the last one that was not.
static SHORT_RUN: AtomicUsize = AtomicUsize::new(0);

struct Worker {
    runtime: Handle,
    transfers: Arc<AtomicUsize>,
}

/// A transfer's place on a worker.
pub(crate) struct Place {
    runtime: Handle,
    transfers: Arc<AtomicUsize>,
}

impl Place {
    /// The worker for the next transfer of a JavaScript thread. They are started on first use, and
    /// never stopped: they own nothing but the transfers on them, whatever environment those came
    /// from.
    pub(crate) fn take(environment: u64) -> io::Result<Self> {
        let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        if workers.is_empty() {
            let count = thread::available_parallelism().map_or(1, usize::from);
            *workers = (0..count).map(start).collect::<io::Result<_>>()?;
        }
        let load = |index: usize| workers[index].transfers.load(Ordering::Relaxed);
        let home = usize::try_from(environment).unwrap_or(0) % workers.len();
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let are_short = SHORT_RUN.load(Ordering::Relaxed) >= RUN;
        let Worker { runtime, transfers } =
            &workers[choose(workers.len(), load, home, next, are_short)];
        transfers.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            runtime: runtime.clone(),
            transfers: Arc::clone(transfers),
        })
    }

    /// Runs a task on the worker; it keeps the place.
    pub(crate) fn run<T>(self, task: impl FnOnce(Self) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.runtime.clone();
        runtime.spawn(task(self));
    }
}

/// Takes note of what a transfer has moved that has ended.
pub(crate) fn note(bytes: u64) {
    if bytes > SHORT {
        SHORT_RUN.store(0, Ordering::Relaxed);
    } else {
        SHORT_RUN.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.transfers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `home` for short transfers, as long as it is not crowded; else the worker with the least to do,
/// and of several such, each in its turn.
fn choose(
    workers: usize,
    load: impl Fn(usize) -> usize,
    home: usize,
    next: usize,
    are_short: bool,
) -> usize {
    if are_short && load(home) < SHARED {
        return home;
    }
    let in_turn = (0..workers).map(|index| (next + index) % workers);
    in_turn.min_by_key(|index| load(*index)).unwrap_or(home)
}

fn start(index: usize) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("fdsplice-{index}"))
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(Worker {
        runtime: handle,
        transfers: Arc::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_spread_over_the_workers_that_have_the_least_to_do() {
        let mut loads = [0_usize; 4];
        for next in 0..40 {
            let chosen = choose(4, |index| loads[index], 1, next, false);
            loads[chosen] += 1;
        }
        assert_eq!(loads, [10; 4]);
        loads[2] = 0;
        assert_eq!(choose(4, |index| loads[index], 1, 40, false), 2);
    }

    #[test]
    fn short_transfers_share_a_worker_until_it_is_crowded() {
        let mut loads = [0_usize; 4];
        for next in 0..SHARED {
            let chosen = choose(4, |index| loads[index], 1, next, true);
            assert_eq!(chosen, 1);
            loads[chosen] += 1;
        }
        assert_ne!(choose(4, |index| loads[index], 1, SHARED, true), 1);
    }
}
