//! One call on its thread: its result, and the transfer that waits for it or gives it up.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use atomic_waker::AtomicWaker;
use rustix::io::Errno;

use super::pool::{Lane, Reserved, lock, reserve};

impl Reserved {
    /// Hands a call over, which gets the flag that tells whether it was abandoned.
    pub(crate) fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Running<T> {
        let lane = self.lane;
        let shared = Arc::new(Shared::new());
        let of_thread = Arc::clone(&shared);
        let number = self.hand_over(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(&of_thread.is_abandoned)));
            of_thread.finish(result)
        }));
        Running::new(shared, lane, number)
    }
}

/// Closes a descriptor on a thread that may block. `close(2)` waits for the server of some file
/// systems.
pub(crate) fn close_detached(fd: OwnedFd, device: u64) {
    if let Ok(reserved) = reserve(Lane::Files(device, 0)) {
        reserved.hand_over(Box::new(move || {
            drop(fd);
            false
        }));
    }
}

/// As [`close_detached`], for a caller that waits. If the wait is given up, the close goes on.
pub(crate) fn close(fd: OwnedFd, device: u64) -> Option<Running<()>> {
    let reserved = reserve(Lane::Files(device, 0)).ok()?;
    Some(reserved.run(move |is_abandoned| {
        if is_abandoned.load(Ordering::Relaxed) {
            close_detached(fd, device);
        } else {
            drop(fd);
        }
    }))
}

enum State<T> {
    Running,
    Done(thread::Result<T>),
    /// The call was given up, so its result is dropped.
    Discarded,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Tells the call that its transfer has ended.
    is_abandoned: AtomicBool,
    waker: AtomicWaker,
}

impl<T> Shared<T> {
    fn new() -> Self {
        Self {
            state: Mutex::new(State::Running),
            is_abandoned: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the result, or drops it if the call was given up. Returns whether it was.
    fn finish(&self, done: thread::Result<T>) -> bool {
        let mut state = self.lock();
        if matches!(*state, State::Discarded) {
            drop(state);
            // This may close descriptors of the file system that did not answer.
            drop(done);
            return true;
        }
        *state = State::Done(done);
        drop(state);
        self.waker.wake();
        false
    }

    fn take(&self) -> Option<thread::Result<T>> {
        let mut state = self.lock();
        if !matches!(*state, State::Done(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Discarded) {
            State::Done(done) => Some(done),
            State::Running | State::Discarded => None,
        }
    }
}

/// A call on its thread. It resolves with the result; a panic of the call continues in the task
/// that awaits it. When it is dropped before, the call is given up.
pub(crate) struct Running<T> {
    shared: Arc<Shared<T>>,
    lane: Lane,
    number: u64,
    is_over: bool,
}

impl<T> Running<T> {
    fn new(shared: Arc<Shared<T>>, lane: Lane, number: u64) -> Self {
        Self {
            shared,
            lane,
            number,
            is_over: false,
        }
    }

    /// Gives the call up. Returns its result if it has just returned. A call that no thread has begun
    /// is made here; it sees that it was abandoned, and must not block. `None`: the call is stuck,
    /// and its result will be dropped when it returns.
    pub(crate) fn give_up(&mut self) -> Option<T> {
        self.give_up_caught()
            .map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    fn give_up_caught(&mut self) -> Option<thread::Result<T>> {
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        self.shared.is_abandoned.store(true, Ordering::Relaxed);
        let mut pool = lock();
        if let Some(work) = pool.take_out(self.lane, self.number) {
            drop(pool);
            work();
            return self.shared.take();
        }
        let mut state = self.shared.lock();
        if matches!(*state, State::Running) {
            *state = State::Discarded;
            pool.stuck += 1;
            return None;
        }
        drop(state);
        self.shared.take()
    }
}

impl<T> Future for Running<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.shared.waker.register(cx.waker());
        let Some(done) = self.shared.take() else {
            return Poll::Pending;
        };
        self.is_over = true;
        Poll::Ready(done.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        drop(self.give_up_caught());
    }
}

/// A call that runs in the background. When this is dropped, the call is given up: its result is
/// dropped, unless it is being passed on at that moment.
pub struct BackgroundCall(Running<()>);

impl BackgroundCall {
    pub(crate) fn start<T>(
        lane: Lane,
        call: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(T) + Send + 'static,
    ) -> Result<Self, Errno> {
        let thread = reserve(lane)?;
        Ok(Self(thread.run(move |is_abandoned| {
            if is_abandoned.load(Ordering::Relaxed) {
                return;
            }
            let result = call();
            if !is_abandoned.load(Ordering::Relaxed) {
                done(result);
            }
        })))
    }

    /// Drops this without giving the call up.
    pub fn detach(mut self) {
        self.0.is_over = true;
    }
}
