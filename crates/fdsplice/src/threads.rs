//! The threads on which calls run that may block: those on files. They are common to the process.
//!
//! `spawn_blocking` of tokio panics when the system has no thread left, and keeps the task in its
//! queue, from which a later thread would take it. Here a thread is found before the call is handed
//! over: a lack of threads is an error number, and the call stays with its transfer.
//!
//! A file system may stop answering (FUSE, NFS), and nothing ends a call that waits for it. So the
//! calls on one file system share a lane, which has a limited number of threads: the calls on other
//! file systems find threads of their own. A transfer that ends before its call returns abandons
//! the call. The thread then drops the result, and with it the descriptors.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// The most threads for the calls between the same two file systems.
const MOST_OF_FILES: usize = 64;
/// The most threads for opening the files of one folder, whose file system is not known before.
const MOST_OF_FOLDER: usize = 16;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    ready: BTreeMap::new(),
    lanes: BTreeMap::new(),
    last: 0,
    threads: 0,
    idle: 0,
    stuck: 0,
});
static ADDED: Condvar = Condvar::new();

/// The calls that may wait for the same file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Calls on open files: the devices of the source and of the destination, 0 for an end whose
    /// calls do not block.
    Files(u64, u64),
    /// Calls on paths: a hash of the folder.
    Folder(u64),
}

impl Lane {
    /// The lane of opening a path.
    pub(crate) fn of_path(path: &Path) -> Self {
        let mut hasher = DefaultHasher::new();
        path.parent().hash(&mut hasher);
        Self::Folder(hasher.finish())
    }

    fn most(self) -> usize {
        match self {
            Self::Files(..) => MOST_OF_FILES,
            Self::Folder(_) => MOST_OF_FOLDER,
        }
    }
}

/// A call, which returns whether it was abandoned meanwhile.
type Work = Box<dyn FnOnce() -> bool + Send>;

#[derive(Default)]
struct Calls {
    /// Calls that run, or are ready to.
    admitted: usize,
    /// Calls that wait for another one of this lane to return, by their numbers.
    waiting: BTreeMap<u64, Work>,
}

struct Pool {
    /// Calls that the next free thread takes, by their numbers.
    ready: BTreeMap<u64, (Lane, Work)>,
    lanes: BTreeMap<Lane, Calls>,
    /// The number of the last call.
    last: u64,
    threads: usize,
    /// Threads that wait for work. A thread that was woken counts until it runs.
    idle: usize,
    /// Threads whose call was abandoned and has not returned.
    stuck: usize,
}

impl Pool {
    fn has_room(&self, lane: Lane) -> bool {
        self.lanes
            .get(&lane)
            .is_none_or(|calls| calls.admitted < lane.most())
    }

    fn add(&mut self, lane: Lane, work: Work) -> u64 {
        self.last += 1;
        let calls = self.lanes.entry(lane).or_default();
        if calls.admitted < lane.most() {
            calls.admitted += 1;
            self.ready.insert(self.last, (lane, work));
        } else {
            calls.waiting.insert(self.last, work);
        }
        self.last
    }

    /// Gives the place of a call that has returned to the next one of its lane.
    fn pass_on(&mut self, lane: Lane) {
        let Some(calls) = self.lanes.get_mut(&lane) else {
            return;
        };
        if let Some((number, work)) = calls.waiting.pop_first() {
            self.ready.insert(number, (lane, work));
        } else {
            calls.admitted -= 1;
            if calls.admitted == 0 {
                self.lanes.remove(&lane);
            }
        }
    }

    /// Takes a call out that no thread has begun.
    fn take_out(&mut self, lane: Lane, number: u64) -> Option<Work> {
        if let Some((_, work)) = self.ready.remove(&number) {
            self.pass_on(lane);
            return Some(work);
        }
        self.lanes.get_mut(&lane)?.waiting.remove(&number)
    }
}

fn lock() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of this process that make calls on files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadStats {
    /// Threads, with and without work. At most 512.
    pub threads: usize,
    /// Threads in a call that has not returned although its transfer has ended: the file system
    /// does not answer.
    pub stuck: usize,
    /// Calls that wait for a thread.
    pub waiting: usize,
}

/// The threads of this process that make calls on files.
pub fn thread_stats() -> ThreadStats {
    let pool = lock();
    let waiting = pool.lanes.values().map(|calls| calls.waiting.len());
    ThreadStats {
        threads: pool.threads,
        stuck: pool.stuck,
        waiting: pool.ready.len() + waiting.sum::<usize>(),
    }
}

/// A thread that is certain to take a call: the next one, or after another call of its lane. The
/// pool stays locked meanwhile.
pub(crate) struct Reserved {
    pool: MutexGuard<'static, Pool>,
    lane: Lane,
}

/// Finds a thread for one call, and starts one if none is idle.
///
/// # Errors
/// When no thread can be started and the pool has none that would take the call later.
pub(crate) fn reserve(lane: Lane) -> Result<Reserved, Errno> {
    let mut pool = lock();
    // Each call that is ready will take one of the idle threads.
    if pool.has_room(lane) && pool.idle <= pool.ready.len() && pool.threads < MOST {
        let thread = thread::Builder::new().name("fdsplice-file".to_owned());
        match thread.spawn(work_until_idle) {
            Ok(_) => pool.threads += 1,
            Err(error) if pool.threads <= pool.stuck => {
                return Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
            }
            // A thread that is busy now takes the call when it is done.
            Err(_) => {}
        }
    }
    Ok(Reserved { pool, lane })
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

impl Reserved {
    /// Hands a call over, which gets the flag that tells whether it was abandoned.
    pub(crate) fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Running<T> {
        let lane = self.lane;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::Running),
            is_abandoned: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let of_thread = Arc::clone(&shared);
        let number = self.hand_over(Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(|| work(&of_thread.is_abandoned)));
            of_thread.finish(result)
        }));
        Running {
            shared,
            lane,
            number,
            is_over: false,
        }
    }

    fn hand_over(mut self, work: Work) -> u64 {
        let number = self.pool.add(self.lane, work);
        drop(self);
        ADDED.notify_one();
        number
    }
}

fn work_until_idle() {
    let mut pool = lock();
    loop {
        if let Some((_, (lane, work))) = pool.ready.pop_first() {
            drop(pool);
            let was_abandoned = work();
            pool = lock();
            pool.pass_on(lane);
            pool.stuck -= usize::from(was_abandoned);
            continue;
        }
        pool.idle += 1;
        let (locked, waited) = ADDED
            .wait_timeout(pool, KEEP)
            .unwrap_or_else(PoisonError::into_inner);
        pool = locked;
        pool.idle -= 1;
        if waited.timed_out() && pool.ready.is_empty() {
            pool.threads -= 1;
            return;
        }
    }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    fn run<T: Send + 'static>(
        lane: Lane,
        work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Running<T> {
        reserve(lane).expect("a thread").run(work)
    }

    /// A call that does not return before something is sent, and then returns a value of its own.
    fn hanging(lane: Lane) -> (Sender<()>, Running<Arc<()>>, Arc<()>) {
        let (sender, receiver) = channel();
        let (starts, started) = channel();
        let value = Arc::new(());
        let result = Arc::clone(&value);
        let running = run(lane, move |_| {
            let _ = starts.send(());
            let _ = receiver.recv();
            result
        });
        let _ = started.recv_timeout(Duration::from_secs(20));
        (sender, running, value)
    }

    fn is_dropped(value: &Arc<()>) -> bool {
        (0..20_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            Arc::strong_count(value) == 1
        })
    }

    #[test]
    fn each_call_gets_a_thread_of_its_own() {
        let lane = Lane::Files(1, 0);
        let (sender, receiver) = channel();
        let waits = run(lane, move |_| receiver.recv().ok());
        let sends = run(lane, move |_| sender.send(7).is_ok());
        assert!(block_on(sends));
        assert_eq!(block_on(waits), Some(7));
    }

    #[test]
    fn a_panic_reaches_the_task_that_waits_and_leaves_the_thread() {
        let lane = Lane::Files(2, 0);
        let panics = run(lane, |_| {
            // Like a panic, but without a message on stderr.
            resume_unwind(Box::new("on purpose"));
        });
        let result = catch_unwind(AssertUnwindSafe(|| block_on(panics)));
        assert_eq!(
            result.expect_err("a panic").downcast_ref(),
            Some(&"on purpose")
        );
        assert_eq!(block_on(run(lane, |_| 1)), 1);
    }

    #[test]
    fn the_result_of_a_call_that_was_given_up_is_dropped_when_it_returns() {
        let (sender, mut running, value) = hanging(Lane::Files(3, 0));
        assert!(running.give_up().is_none());
        assert!(thread_stats().stuck > 0);
        assert_eq!(Arc::strong_count(&value), 2);
        sender.send(()).expect("the call hangs");
        assert!(is_dropped(&value));
    }

    #[test]
    fn calls_that_hang_take_only_the_threads_of_their_lane() {
        let full = Lane::Folder(4);
        let hang: Vec<_> = (0..MOST_OF_FOLDER).map(|_| hanging(full)).collect();
        let mut queued = run(full, |is_abandoned| is_abandoned.load(Ordering::Relaxed));
        assert_eq!(block_on(run(Lane::Folder(5), |_| 1)), 1);
        // Nothing has begun it, so its result is known at once.
        assert_eq!(queued.give_up(), Some(true));
        let last = run(full, |_| 2);
        for (sender, running, _) in &hang {
            assert_eq!(Arc::strong_count(&running.shared), 2);
            sender.send(()).expect("the call hangs");
        }
        assert_eq!(block_on(last), 2);
    }
}
