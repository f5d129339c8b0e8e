//! The pool of threads: which call gets one, and which waits.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long a thread without work is kept.
const KEEP: Duration = Duration::from_secs(10);
/// The most threads at once. Further work waits in the queue.
const MOST: usize = 512;
/// The most threads for the calls between the same two file systems.
const MOST_OF_FILES: usize = 64;
/// The most threads for opening the files of one folder, whose file system is not known before.
pub(super) const MOST_OF_FOLDER: usize = 16;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    ready: BTreeMap::new(),
    lanes: BTreeMap::new(),
    last: 0,
    threads: 0,
    idle: Vec::new(),
    coming: 0,
    stuck: 0,
});

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
pub(super) type Work = Box<dyn FnOnce() -> bool + Send>;

#[derive(Default)]
struct Calls {
    /// Calls that run, or are ready to.
    admitted: usize,
    /// Calls that wait for another one of this lane to return, by their numbers.
    waiting: BTreeMap<u64, Work>,
}

pub(super) struct Pool {
    /// Calls that the next free thread takes, by their numbers.
    ready: BTreeMap<u64, (Lane, Work)>,
    lanes: BTreeMap<Lane, Calls>,
    /// The number of the last call.
    last: u64,
    threads: usize,
    /// Threads that wait for work, the one with the latest call last. That one gets the next call: its
    /// stack is warm, and the others end when they have been idle for long enough. A condition variable
    /// would wake the threads in turn, so a call now and then would keep all of them alive.
    idle: Vec<(ThreadId, Thread)>,
    /// Threads that were woken or started, and have not looked for a call yet.
    coming: usize,
    /// Threads whose call was abandoned and has not returned.
    pub(super) stuck: usize,
}

impl Pool {
    fn has_room(&self, lane: Lane) -> bool {
        self.lanes
            .get(&lane)
            .is_none_or(|calls| calls.admitted < lane.most())
    }

    /// Whether one more ready call gets a thread without another wake-up, because more threads are coming
    /// than calls are ready.
    fn has_thread_coming(&self) -> bool {
        self.coming > self.ready.len()
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
    pub(super) fn take_out(&mut self, lane: Lane, number: u64) -> Option<Work> {
        if let Some((_, work)) = self.ready.remove(&number) {
            self.pass_on(lane);
            return Some(work);
        }
        self.lanes.get_mut(&lane)?.waiting.remove(&number)
    }
}

pub(super) fn lock() -> MutexGuard<'static, Pool> {
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
    pub(super) lane: Lane,
}

/// Finds a thread for one call, and starts one if none is idle.
///
/// # Errors
/// When no thread can be started and the pool has none that would take the call later.
pub(crate) fn reserve(lane: Lane) -> Result<Reserved, Errno> {
    let mut pool = lock();
    let needs_thread = pool.has_room(lane) && !pool.has_thread_coming() && pool.idle.is_empty();
    if needs_thread && pool.threads < MOST {
        let thread = thread::Builder::new().name("fdsplice-file".to_owned());
        match thread.spawn(work_until_idle) {
            Ok(_) => {
                pool.threads += 1;
                pool.coming += 1;
            }
            Err(error) if pool.threads <= pool.stuck => {
                return Err(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN));
            }
            // A thread that is busy now takes the call when it is done.
            Err(_) => {}
        }
    }
    Ok(Reserved { pool, lane })
}

impl Reserved {
    pub(super) fn hand_over(mut self, work: Work) -> u64 {
        let pool = &mut *self.pool;
        let wakes = pool.has_room(self.lane) && !pool.has_thread_coming();
        // `None`: a busy thread takes the call.
        let idle = if wakes { pool.idle.pop() } else { None };
        pool.coming += usize::from(idle.is_some());
        let number = pool.add(self.lane, work);
        drop(self);
        if let Some((_, thread)) = idle {
            thread.unpark();
        }
        number
    }
}

fn work_until_idle() {
    let this = thread::current();
    let mut pool = lock();
    pool.coming -= 1;
    loop {
        if let Some((_, (lane, work))) = pool.ready.pop_first() {
            drop(pool);
            let was_abandoned = work();
            pool = lock();
            pool.pass_on(lane);
            pool.stuck -= usize::from(was_abandoned);
            continue;
        }
        pool.idle.push((this.id(), this.clone()));
        let end = Instant::now() + KEEP;
        // Invariant: this thread is in `idle` until a call takes it out, or its time is over.
        let place = loop {
            drop(pool);
            thread::park_timeout(end.saturating_duration_since(Instant::now()));
            pool = lock();
            let place = pool.idle.iter().rposition(|(id, _)| *id == this.id());
            // Also after a wake-up that no call has caused.
            if place.is_none() || Instant::now() >= end {
                break place;
            }
        };
        if let Some(place) = place {
            pool.idle.remove(place);
            pool.threads -= 1;
            return;
        }
        pool.coming -= 1;
    }
}
