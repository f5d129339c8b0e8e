//! The threads transfers run on.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Handle};

/// Ready tasks a worker runs before it looks for new events. A bulk transfer moves up to 2 MiB in
/// one go; with tokio's 61, a message could wait behind 122 MiB of other people's bytes.
const EVENT_INTERVAL: u32 = 4;

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
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("fdsplice-{index}"))
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}
