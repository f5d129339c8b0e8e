//! The threads of a server. Each runs the connections that it was given, in a runtime of its own.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::live::Live;
use crate::route::Route;
use crate::stats::AtomicCounts;

/// What a worker shares with other threads. They take its lock only to look at connections or to end
/// them, so connections do not wait for each other.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) runtime: Handle,
    /// Connections that belong to this worker.
    pub(crate) load: AtomicUsize,
    pub(crate) counts: AtomicCounts,
    state: Mutex<WorkerState>,
}

#[derive(Debug, Default)]
pub(crate) struct WorkerState {
    pub(crate) connections: HashMap<u64, Arc<Live>>,
    pub(crate) routes: Option<Route>,
    /// Connections begun so far.
    pub(crate) begun: u64,
}

impl Worker {
    pub(crate) fn lock(&self) -> MutexGuard<'_, WorkerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }
}

/// A thread, which ends when this is dropped or told to stop.
#[derive(Debug)]
pub(crate) struct Thread {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Thread {
    pub(crate) fn start(index: usize, routes: Option<Route>) -> io::Result<(Arc<Worker>, Self)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let worker = Arc::new(Worker {
            runtime: runtime.handle().clone(),
            load: AtomicUsize::new(0),
            counts: AtomicCounts::default(),
            state: Mutex::new(WorkerState {
                routes,
                ..WorkerState::default()
            }),
        });
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(format!("fdsplice-srv-{index}"))
            .spawn(move || {
                // A dropped sender stops it as well.
                let _ = runtime.block_on(stopped);
                // Dropping the runtime drops its connections, which are reset.
                drop(runtime);
            })?;
        Ok((worker, Self { stop, thread }))
    }

    /// Ends the thread and its connections. Does not wait if it is the current thread.
    pub(crate) fn stop(self) {
        // This fails when the thread has ended.
        let _ = self.stop.send(());
        if self.thread.thread().id() != thread::current().id() {
            let _ = self.thread.join();
        }
    }
}

/// Returns the worker for a connection that `own` has accepted. Sockets spread by hash, so one worker may
/// get more than others (docs/decisions/accepting.md).
pub(crate) fn choose(workers: &[Arc<Worker>], own: usize, spreads: bool) -> usize {
    let load = |worker: &Arc<Worker>| worker.load.load(Ordering::Relaxed);
    let loads = workers.iter().map(load).enumerate();
    let Some((least, lowest)) = loads.min_by_key(|(_, load)| *load) else {
        return own;
    };
    let own_load = load(&workers[own]);
    let margin = if spreads { lowest / 8 + 2 } else { 0 };
    if own_load > lowest + margin {
        least
    } else {
        own
    }
}
