//! The threads on which the blocking calls of copies run. They are common to the process.
//!
//! `spawn_blocking` of tokio panics when the system has no thread left, and keeps the task in its
//! queue, from which a later thread would take it. Here a thread is found before the step is handed
//! over: a lack of threads is an error number, and the step stays with its transfer.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use rustix::io::Errno;

/// How long a thread without work is kept.
const KEEP: Duration = Duration::from_secs(10);
/// The most threads at once. Further work waits in the queue.
const MOST: usize = 512;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    queue: VecDeque::new(),
    threads: 0,
    idle: 0,
});
static ADDED: Condvar = Condvar::new();

type Work = Box<dyn FnOnce() + Send>;

struct Pool {
    queue: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work. A thread that was woken counts until it runs.
    idle: usize,
}

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that is certain to take the next piece of work. The pool stays locked meanwhile.
pub(super) struct Reserved(MutexGuard<'static, Pool>);

/// Finds a thread for one piece of work, and starts one if none is idle.
///
/// # Errors
/// When no thread can be started and the pool has none that would take the work later.
pub(super) fn reserve() -> Result<Reserved, Errno> {
    let mut pool = lock();
    // Each piece of work in the queue will take one of the idle threads.
    if pool.idle <= pool.queue.len() && pool.threads < MOST {
        let thread = thread::Builder::new().name("fdsplice-file".to_owned());
        match thread.spawn(work_until_idle) {
            Ok(_) => pool.threads += 1,
            Err(error) if pool.threads == 0 => {
                return Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
            }
            // A thread that is busy now takes the work when it is done.
            Err(_) => {}
        }
    }
    Ok(Reserved(pool))
}

impl Reserved {
    /// Hands the work over. It runs to its end even if its result is not awaited.
    pub(super) fn run<T: Send + 'static>(
        mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Running<T> {
        let shared = Arc::new(Shared {
            result: Mutex::new(None),
            waker: AtomicWaker::new(),
        });
        let running = Running(Arc::clone(&shared));
        self.0.queue.push_back(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            *shared.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            shared.waker.wake();
        }));
        drop(self);
        ADDED.notify_one();
        running
    }
}

fn work_until_idle() {
    let mut pool = lock();
    loop {
        if let Some(work) = pool.queue.pop_front() {
            drop(pool);
            work();
            pool = lock();
            continue;
        }
        pool.idle += 1;
        let (locked, waited) = ADDED
            .wait_timeout(pool, KEEP)
            .unwrap_or_else(PoisonError::into_inner);
        pool = locked;
        pool.idle -= 1;
        if waited.timed_out() && pool.queue.is_empty() {
            pool.threads -= 1;
            return;
        }
    }
}

struct Shared<T> {
    result: Mutex<Option<thread::Result<T>>>,
    waker: AtomicWaker,
}

/// Resolves with the result of a piece of work. A panic of the work continues in the task that
/// awaits it.
pub(super) struct Running<T>(Arc<Shared<T>>);

impl<T> Future for Running<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.0.waker.register(cx.waker());
        let mut result = self.0.result.lock().unwrap_or_else(PoisonError::into_inner);
        match result.take() {
            Some(Ok(done)) => Poll::Ready(done),
            Some(Err(panic)) => resume_unwind(panic),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn each_piece_of_work_gets_a_thread_of_its_own() {
        let (sender, receiver) = channel();
        let waits = reserve()
            .expect("a thread")
            .run(move || receiver.recv().ok());
        let sends = reserve()
            .expect("a thread")
            .run(move || sender.send(7).is_ok());
        assert!(block_on(sends));
        assert_eq!(block_on(waits), Some(7));
    }

    #[test]
    fn a_panic_reaches_the_task_that_waits_and_leaves_the_thread() {
        let panics = reserve().expect("a thread").run(|| {
            // Like a panic, but without a message on stderr.
            resume_unwind(Box::new("on purpose"));
        });
        let result = catch_unwind(AssertUnwindSafe(|| block_on(panics)));
        assert_eq!(
            result.expect_err("a panic").downcast_ref(),
            Some(&"on purpose")
        );
        let works = reserve().expect("a thread").run(|| 1);
        assert_eq!(block_on(works), 1);
    }
}
