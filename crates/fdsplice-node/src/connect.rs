//! The outgoing connections of one JavaScript environment: it starts them here, cancels them, and
//! receives them in batches.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fdsplice::{Endpoint, EndpointError, Reason, TransferError};
use fdsplice_server::{Address, ConnectError, Connection, Target, connect};
use napi::Status;
use napi::bindgen_prelude::{Either, Env, Error, FnArgs, Function, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use rustix::io::Errno;
use tokio::task::AbortHandle;

use crate::native_end::NativeEnd;
use crate::runtime::WorkerSlot;

static ENVIRONMENTS: AtomicU64 = AtomicU64::new(0);

/// A connection that was made.
#[napi(object, object_from_js = false)]
pub struct NativeConnected {
    /// Its socket, which only this end has.
    pub end: NativeEnd,
    /// The local address: `127.0.0.1:80`, `[::1]:80` or `unix:/path`.
    pub local: String,
    /// The address of the peer, in the same form.
    pub remote: String,
    /// Milliseconds from the call to the connection.
    pub connect_ms: f64,
}

/// Why there is no connection.
#[napi(object, object_from_js = false)]
pub struct NativeConnectFailure {
    /// The error number, negative as in Node. Absent for a name that was not resolved, and for a
    /// connect whose task has panicked.
    pub errno: Option<i32>,
    /// The failed system call; absent for a connect whose task has panicked.
    pub syscall: Option<String>,
    /// The code of a name that was not resolved.
    pub code: Option<String>,
}

type Outcome = Either<NativeConnected, NativeConnectFailure>;
/// The numbers of connects and their outcomes, in the same order.
type Batch = FnArgs<(Vec<u32>, Vec<Outcome>)>;
/// A weak function, which does not keep the event loop alive.
type Deliver = ThreadsafeFunction<(), (), Batch, Status, false, true>;
type Connecting =
    Pin<Box<dyn Future<Output = std::result::Result<Connection, ConnectError>> + Send>>;

#[derive(Default)]
struct State {
    /// Connects whose outcome is due, and the handles of their tasks.
    running: HashMap<u32, AbortHandle>,
    /// Outcomes that wait for the event loop.
    waiting: Vec<(u32, Outcome)>,
}

/// The state of a connector, shared with its tasks and with the function that delivers.
#[derive(Clone, Default)]
struct SharedState(Arc<Mutex<State>>);

impl SharedState {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn abort_all(&self) {
        let running = std::mem::take(&mut self.lock().running);
        for task in running.into_values() {
            task.abort();
        }
    }
}

/// Makes connections, and calls `connected` with a batch of outcomes when some connects have ended.
#[napi]
pub struct Connector {
    state: SharedState,
    deliver: Arc<Deliver>,
    /// Chooses the worker, as the number of an environment does for relays.
    environment: u64,
}

#[napi]
impl Connector {
    /// One per JavaScript thread.
    ///
    /// # Errors
    /// When Node is shutting this environment down.
    #[napi(constructor)]
    #[allow(
        clippy::needless_pass_by_value,
        clippy::type_complexity,
        reason = "napi passes owned arguments, and generates the TypeScript types from this signature"
    )]
    pub fn new(
        env: Env,
        connected: Function<
            FnArgs<(Vec<u32>, Vec<Either<NativeConnected, NativeConnectFailure>>)>,
            (),
        >,
    ) -> Result<Self> {
        let state = SharedState::default();
        let waiting = state.clone();
        let deliver = connected
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build_callback(move |_| {
                let outcomes = std::mem::take(&mut waiting.lock().waiting);
                let (numbers, outcomes): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
                Ok((numbers, outcomes).into())
            })?;
        env.add_env_cleanup_hook(state.clone(), |state| state.abort_all())?;
        Ok(Self {
            state,
            deliver: Arc::new(deliver),
            environment: ENVIRONMENTS.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Starts to connect. Returns the outcome if it is known at once, as for most targets on the same
    /// machine. Otherwise `connected` is called with the number `id` and the outcome.
    ///
    /// # Errors
    /// When the target or the local address is invalid, or the number is in use.
    #[napi(catch_unwind)]
    #[allow(clippy::needless_pass_by_value, reason = "napi passes owned arguments")]
    pub fn connect(
        &self,
        id: u32,
        target: String,
        local_address: Option<String>,
        timeout_ms: f64,
    ) -> Result<Option<Either<NativeConnected, NativeConnectFailure>>> {
        let target = parse(&target, local_address.as_deref(), timeout_ms)?;
        let slot = match WorkerSlot::take(self.environment) {
            Ok(slot) => slot,
            Err(error) => return Ok(Some(Either::B(without_worker(&error)))),
        };
        let mut connecting: Connecting = Box::pin(async move { connect(&target).await });
        // No call of it blocks. A connection that is made in this call costs no wake-up of a worker and
        // none of the event loop.
        let runtime = slot.enter();
        let first = connecting
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        drop(runtime);
        if let Poll::Ready(result) = first {
            return Ok(Some(outcome(result)));
        }
        // Locked until the handle is in, because the task may end before.
        let mut state = self.state.lock();
        if state.running.contains_key(&id) {
            return Err(Error::from_reason(format!("the number {id} is in use")));
        }
        let report = Report {
            id,
            outcome: None,
            state: self.state.clone(),
            deliver: Arc::clone(&self.deliver),
        };
        let task = slot.run(|slot| async move {
            let result = connecting.await;
            drop(slot);
            report.end(outcome(result));
        });
        state.running.insert(id, task);
        Ok(None)
    }

    /// Gives a connect up and closes its sockets. Its outcome may be on its way already; no other comes.
    #[napi]
    pub fn cancel(&self, id: u32) {
        let task = self.state.lock().running.remove(&id);
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// Reports the outcome of a task when it is dropped: at its end, or when it panics. A cancelled task
/// reports nothing.
struct Report {
    id: u32,
    outcome: Option<Outcome>,
    state: SharedState,
    deliver: Arc<Deliver>,
}

impl Report {
    fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if state.running.remove(&self.id).is_none() {
            return;
        }
        let outcome = self.outcome.take().unwrap_or(Either::B(DIED));
        state.waiting.push((self.id, outcome));
        let is_first = state.waiting.len() == 1;
        drop(state);
        if is_first {
            // This fails when the environment has ended; then no caller waits for the outcome.
            self.deliver
                .call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

const DIED: NativeConnectFailure = NativeConnectFailure {
    errno: None,
    syscall: None,
    code: None,
};

fn parse(text: &str, local_address: Option<&str>, timeout_ms: f64) -> Result<Target> {
    let invalid = |error: &dyn std::error::Error| Error::from_reason(error.to_string());
    let mut target: Target = text.parse().map_err(|error| invalid(&error))?;
    if let Some(address) = local_address {
        target = target.local_address(address.parse().map_err(|error| invalid(&error))?);
    }
    let limit =
        Duration::try_from_secs_f64(timeout_ms / 1000.0).map_err(|error| invalid(&error))?;
    Ok(target.connect_timeout(limit))
}

fn outcome(result: std::result::Result<Connection, ConnectError>) -> Outcome {
    match result.and_then(connected) {
        Ok(connected) => Either::A(connected),
        Err(error) => Either::B(failure(error)),
    }
}

fn connected(connection: Connection) -> std::result::Result<NativeConnected, ConnectError> {
    let addresses = (connection.local_address(), connection.remote_address());
    let (Some(local), Some(remote)) = addresses else {
        // The peer has reset it already.
        return Err(ConnectError::System {
            errno: Errno::CONNRESET,
            syscall: "connect",
        });
    };
    let connect_ms = connection.connect_time().as_secs_f64() * 1000.0;
    let is_ip = matches!(remote, Address::Ip(_));
    let socket = connection.into_socket();
    let endpoint = if is_ip {
        Endpoint::sole_nonblocking_tcp(socket)
    } else {
        Endpoint::try_from(socket).map_err(|error| match error {
            EndpointError::System { errno, syscall } => ConnectError::System { errno, syscall },
            _ => ConnectError::System {
                errno: Errno::PROTOTYPE,
                syscall: "connect",
            },
        })?
    };
    Ok(NativeConnected {
        end: NativeEnd::new(endpoint),
        local: local.to_string(),
        remote: remote.to_string(),
        connect_ms,
    })
}

fn failure(error: ConnectError) -> NativeConnectFailure {
    match error {
        // Its thread could not be started.
        ConnectError::System {
            errno,
            syscall: "clone",
        } => system(errno, "getaddrinfo"),
        ConnectError::System { errno, syscall } => system(errno, syscall),
        ConnectError::Resolve { code } => NativeConnectFailure {
            errno: None,
            syscall: Some("getaddrinfo".to_owned()),
            code: Some(code.to_owned()),
        },
        _ => system(Errno::TIMEDOUT, "connect"),
    }
}

fn system(errno: Errno, syscall: &str) -> NativeConnectFailure {
    NativeConnectFailure {
        errno: Some(-errno.raw_os_error()),
        syscall: Some(syscall.to_owned()),
        code: None,
    }
}

fn without_worker(error: &TransferError) -> NativeConnectFailure {
    match error.reason {
        Reason::System { errno, syscall } => system(errno, syscall),
        _ => DIED,
    }
}
