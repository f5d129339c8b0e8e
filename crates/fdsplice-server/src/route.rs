//! Routes: the targets of a connection, and their state in one server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::stats::AtomicCounts;
use crate::target::Target;

/// A server forgets targets that no route and no connection uses when it knows more than this number.
const KNOWN_TARGETS: usize = 10_000;

/// Where a connection goes: one target, or several in turn. Clones take turns together.
#[derive(Clone, Debug)]
pub struct Route(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    targets: Vec<Target>,
    next: AtomicUsize,
    /// The states of the targets in the first server that has used the route.
    states: OnceLock<States>,
}

#[derive(Debug)]
struct States {
    server: u64,
    states: Box<[Arc<TargetState>]>,
}

impl Route {
    /// A route to these targets in turn. A route without targets refuses every connection with
    /// [`Refusal::NoRoute`](crate::Refusal::NoRoute).
    pub fn new(targets: Vec<Target>) -> Self {
        Self(Arc::new(Inner {
            targets,
            next: AtomicUsize::new(0),
            states: OnceLock::new(),
        }))
    }

    /// The targets.
    pub fn targets(&self) -> &[Target] {
        &self.0.targets
    }

    /// Takes the next target that is not being drained, for one connection.
    pub(crate) fn pick(&self, known: &Targets) -> Option<TargetUse> {
        let inner = &*self.0;
        let count = inner.targets.len();
        let states = inner.states.get_or_init(|| States {
            server: known.server,
            states: inner.targets.iter().map(|it| known.intern(it)).collect(),
        });
        let first = match count {
            0 | 1 => 0,
            _ => inner.next.fetch_add(1, Ordering::Relaxed),
        };
        (0..count).find_map(|offset| {
            let index = first.wrapping_add(offset) % count;
            let state = if states.server == known.server {
                Arc::clone(&states.states[index])
            } else {
                known.intern(&inner.targets[index])
            };
            TargetUse::begin(state)
        })
    }
}

impl From<Target> for Route {
    fn from(target: Target) -> Self {
        Self::new(vec![target])
    }
}

/// A target in one server.
#[derive(Debug)]
pub(crate) struct TargetState {
    pub(crate) target: Target,
    pub(crate) counts: AtomicCounts,
    /// Connections that have this target and have not ended.
    pub(crate) active: AtomicU64,
    pub(crate) is_draining: AtomicBool,
    connect_nanos: AtomicU64,
}

impl TargetState {
    pub(crate) fn connect_time(&self) -> Duration {
        Duration::from_nanos(self.connect_nanos.load(Ordering::Relaxed))
    }

    pub(crate) fn set_connect_time(&self, time: Duration) {
        let nanos = time.as_nanos().try_into().unwrap_or(u64::MAX);
        self.connect_nanos.store(nanos, Ordering::Relaxed);
    }
}

/// The share that one connection has of a target. Dropping it ends the share.
#[derive(Debug)]
pub(crate) struct TargetUse(Arc<TargetState>);

impl TargetUse {
    /// Invariant of a drain: a share begins before the check of `is_draining`, and a drain sets that flag
    /// before it reads `active`. One of them sees the other.
    fn begin(state: Arc<TargetState>) -> Option<Self> {
        state.active.fetch_add(1, Ordering::SeqCst);
        let share = Self(state);
        (!share.0.is_draining.load(Ordering::SeqCst)).then_some(share)
    }

    pub(crate) fn state(&self) -> &Arc<TargetState> {
        &self.0
    }
}

impl Drop for TargetUse {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The targets that a server knows, each once.
#[derive(Debug)]
pub(crate) struct Targets {
    server: u64,
    known: Mutex<HashMap<Target, Arc<TargetState>>>,
}

impl Targets {
    pub(crate) fn new() -> Self {
        static SERVERS: AtomicU64 = AtomicU64::new(0);
        Self {
            server: SERVERS.fetch_add(1, Ordering::Relaxed),
            known: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Target, Arc<TargetState>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn intern(&self, target: &Target) -> Arc<TargetState> {
        let mut known = self.lock();
        if let Some(state) = known.get(target) {
            return Arc::clone(state);
        }
        if known.len() >= KNOWN_TARGETS && known.len().is_power_of_two() {
            known.retain(|_, state| {
                Arc::strong_count(state) > 1 || state.is_draining.load(Ordering::Relaxed)
            });
        }
        let state = Arc::new(TargetState {
            target: target.clone(),
            counts: AtomicCounts::default(),
            active: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            connect_nanos: AtomicU64::new(0),
        });
        known.insert(target.clone(), Arc::clone(&state));
        state
    }

    /// The targets of a route may be used again.
    pub(crate) fn lift_drains(&self, route: &Route) {
        let known = self.lock();
        for state in route.targets().iter().filter_map(|it| known.get(it)) {
            state.is_draining.store(false, Ordering::SeqCst);
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<TargetState>> {
        self.lock().values().map(Arc::clone).collect()
    }
}
