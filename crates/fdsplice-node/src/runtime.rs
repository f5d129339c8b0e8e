//! The threads on which transfers run: one current-thread tokio runtime per core, each with its own
//! epoll. Every transfer is pinned to the runtime that it was started on.
//!
//! The alternatives are the multi-threaded runtime of tokio with one worker per core, and one worker
//! for everything. They were measured with the same addon and this file exchanged: medians of five
//! interleaved rounds on two shared cores, Linux 6.18, Node 20, CPU time of the whole relay process.
//!
//! | work | pinned | multi-threaded | one worker |
//! | --- | --- | --- | --- |
//! | 64 B ping-pong, 1 connection, µs a round trip | 31.5 | 35.9 | 33.1 |
//! | 64 B ping-pong, 32 connections | 21.9 | 20.7 | 22.5 |
//! | 16 KiB ping-pong, 8 connections | 30.2 | 29.7 | 33.3 |
//! | bulk, 8 streams, ms a GiB | 192 | 191 | 205 |
//! | connect, 100 B each way, close, µs | 654 | 640 | 577 |
//!
//! The rounds of one runtime differ more (±10 % and more) than the medians of the three, so cost does
//! not decide. Pinned runtimes have other advantages. Buffers belong to a thread and need no lock, and
//! the pool of pipes has a lock for each worker. No task moves away from the core whose cache holds
//! the memory of its sockets. The workers of a machine with many cores wait for no common lock.
//!
//! Short relays differ. One costs the event loop, which accepts and connects, about twice as much as
//! it costs a worker. So one worker keeps up with the short relays of a JavaScript thread, and it is
//! woken half as often as two workers that share them: 20 % less CPU time for connect, 100 B each way
//! and close. Therefore relays share a worker while they turn out to be short.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fdsplice::TransferError;
use rustix::io::Errno;
use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::task::AbortHandle;

/// The most bytes that a short transfer moves: too few for bulk.
const SHORT: u64 = 64 * 1024;
/// How many transfers in a row have to be short until the next one is expected to be short.
const RUN: usize = 64;
/// How many transfers share a worker at most. If they turn out to be bulk, the others run elsewhere.
const SHARED: usize = 32;

/// How long no further worker is started after the system has refused one.
const REFUSED: Duration = Duration::from_secs(1);

static WORKERS: Mutex<Workers> = Mutex::new(Workers {
    running: Vec::new(),
    wanted: 0,
    refused_at: None,
});
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// How many short transfers have ended since the last long one.
static SHORT_RUN: AtomicUsize = AtomicUsize::new(0);

struct Workers {
    running: Vec<Worker>,
    /// One per core; 0 until the first one runs.
    wanted: usize,
    /// When the system last refused a worker.
    refused_at: Option<Instant>,
}

fn lock() -> MutexGuard<'static, Workers> {
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workers {
    /// Starts the workers that are missing. One worker is enough for every transfer, so a refusal is
    /// an error only while there is none.
    fn start_missing(&mut self) -> Result<(), TransferError> {
        while self.running.is_empty() || self.running.len() < self.wanted {
            let is_first = self.running.is_empty();
            if !is_first && self.refused_at.is_some_and(|at| at.elapsed() < REFUSED) {
                break;
            }
            match start(self.running.len()) {
                Ok(worker) => self.running.push(worker),
                Err(error) if is_first => return Err(error),
                Err(_) => self.refused_at = Some(Instant::now()),
            }
            if self.wanted == 0 {
                self.wanted = thread::available_parallelism().map_or(1, usize::from);
            }
        }
        Ok(())
    }
}

/// A thread that runs transfers.
struct Worker {
    runtime: Handle,
    transfers: Arc<AtomicUsize>,
}

/// The share that a transfer has of a worker. Dropping it frees the share.
pub(crate) struct WorkerSlot {
    runtime: Handle,
    transfers: Arc<AtomicUsize>,
}

impl WorkerSlot {
    /// Takes a slot for the next transfer of a JavaScript thread. Workers are started on first use
    /// and never stopped, because they own only their transfers, of any environment.
    ///
    /// # Errors
    /// When there is no worker and none can be started: the process has no descriptor (`EMFILE`) or
    /// no thread (`EAGAIN`) left.
    pub(crate) fn take(environment: u64) -> Result<Self, TransferError> {
        let mut workers = lock();
        workers.start_missing()?;
        let workers = &workers.running;
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

    /// Runs a task on the worker. The task keeps the slot.
    pub(crate) fn run<T>(self, task: impl FnOnce(Self) -> T) -> AbortHandle
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.runtime.clone();
        runtime.spawn(task(self)).abort_handle()
    }

    /// Makes the worker's runtime the one of this thread, until the guard is dropped. A future can then
    /// be polled here before it runs on the worker.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.runtime.enter()
    }
}

/// Records the bytes that an ended transfer has moved.
pub(crate) fn note_size(bytes: u64) {
    if bytes > SHORT {
        SHORT_RUN.store(0, Ordering::Relaxed);
    } else {
        SHORT_RUN.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        self.transfers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The index of the worker for the next transfer. For short transfers this is `home` until it is
/// crowded; otherwise it is the worker with the fewest transfers. Several such workers take turns.
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

fn start(index: usize) -> Result<Worker, TransferError> {
    let failed = |syscall| {
        move |error: io::Error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            TransferError::system(errno, syscall, None)
        }
    };
    // The runtime also makes an eventfd and a duplicate. Their failures are reported by this name too.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("epoll_create1"))?;
    let handle = runtime.handle().clone();
    let transfers = Arc::new(AtomicUsize::new(0));
    let running = Running(Arc::clone(&transfers));
    thread::Builder::new()
        .name(format!("fdsplice-{index}"))
        .spawn(move || {
            // Dropped before the runtime, so that no transfer is started on a runtime that ends.
            let _running = running;
            runtime.block_on(std::future::pending::<()>());
        })
        .map_err(failed("clone"))?;
    Ok(Worker {
        runtime: handle,
        transfers,
    })
}

/// Dropped when a worker thread ends: tokio panics when `epoll_wait` fails. The worker is then
/// replaced by the next transfer that needs one.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        // Not while the thread is being started: the pool is locked then, and does not have it yet.
        if thread::panicking() {
            let Self(transfers) = self;
            lock()
                .running
                .retain(|worker| !Arc::ptr_eq(&worker.transfers, transfers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_spread_over_the_least_loaded_workers() {
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
