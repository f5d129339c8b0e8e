//! Transfers of one JavaScript environment: started by it, their outcomes brought back to it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fdsplice::{Control, Side, TrafficResult, copy, relay, send_file, watch};
use napi::bindgen_prelude::{Env, Function, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Error, Status};
use napi_derive::napi;
use pin_project_lite::pin_project;
use tokio::runtime::Handle;

use crate::convert::{
    CopySpec, EndRole, Limits, MoveSpec, NativeEnd, NativeRateLimiter, Outcome, SendFileSpec,
    copy_options, relay_options, send_file_options,
};
use crate::registry::{self, Entry};
use crate::runtime::worker;

/// How long the end of an environment waits for its transfers to let go.
const GRACE: Duration = Duration::from_millis(500);

static ENVIRONMENTS: AtomicU64 = AtomicU64::new(0);

/// Weak: a dispatcher alone does not keep the event loop alive; the facade does while transfers
/// run.
type Deliver = ThreadsafeFunction<(), (), Vec<Outcome>, Status, false, true>;

/// Outcomes on their way to JavaScript. The event loop is woken when the first one arrives, and
/// takes all that are there when it comes: a thousand transfers that end together wake it once.
struct Settled {
    waiting: Arc<Mutex<Vec<Outcome>>>,
    deliver: Deliver,
}

impl Settled {
    fn push(&self, outcome: Outcome) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(outcome);
        let first = waiting.len() == 1;
        drop(waiting);
        if first {
            // Closing: the environment has ended, and nobody is left to tell.
            self.deliver
                .call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// Starts transfers, and calls `settled` with a batch of outcomes when some have ended.
#[napi]
pub struct Dispatcher {
    environment: u64,
    settled: Arc<Settled>,
}

#[napi]
impl Dispatcher {
    /// One per JavaScript thread.
    ///
    /// # Errors
    /// When Node is shutting this environment down.
    #[napi(constructor)]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands arguments over")]
    pub fn new(env: Env, settled: Function<Vec<Outcome>, ()>) -> Result<Self> {
        let environment = ENVIRONMENTS.fetch_add(1, Ordering::Relaxed);
        env.add_env_cleanup_hook(environment, |environment| {
            registry::abort_all(environment, GRACE);
        })?;
        let waiting = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&waiting);
        let deliver = settled
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build_callback(move |_| {
                let mut waiting = taken.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(std::mem::take(&mut *waiting))
            })?;
        Ok(Self {
            environment,
            settled: Arc::new(Settled { waiting, deliver }),
        })
    }

    /// Tells when the connection of a socket fails that no transfer uses yet.
    ///
    /// # Errors
    /// When no worker thread can be started, or the end was used before.
    #[napi]
    pub fn watch(&self, id: u32, end: &mut NativeEnd) -> Result<NativeTransfer> {
        let socket = end.take_borrowed()?;
        let control = Control::new();
        let watching = watch(socket, Side::A, control.clone());
        let settled = Arc::clone(&self.settled);
        spawner()?.spawn(async move {
            settled.push(Outcome::of_watch(id, watching.await));
        });
        Ok(NativeTransfer { control })
    }

    /// Joins two sockets.
    ///
    /// # Errors
    /// When no worker thread can be started, or an end was used before.
    #[napi]
    #[allow(
        clippy::needless_pass_by_value,
        clippy::too_many_arguments,
        reason = "napi hands arguments over, and classes only as arguments"
    )]
    pub fn relay(
        &self,
        id: u32,
        a: &mut NativeEnd,
        b: &mut NativeEnd,
        role_of_a: EndRole,
        role_of_b: EndRole,
        how: MoveSpec,
        limit: Option<&NativeRateLimiter>,
        limit_of_tx: Option<&NativeRateLimiter>,
        limit_of_rx: Option<&NativeRateLimiter>,
    ) -> Result<NativeTransfer> {
        let control = Control::new();
        let limits = Limits {
            both: limit,
            tx: limit_of_tx,
            rx: limit_of_rx,
        };
        let options = relay_options(&role_of_a, &role_of_b, &how, &limits).control(control.clone());
        let (a, b) = (a.take(&role_of_a)?, b.take(&role_of_b)?);
        self.start(id, control, relay(a, b, options))
    }

    /// Sends a file, or a part of one.
    ///
    /// # Errors
    /// When no worker thread can be started, or an end was used before.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands arguments over")]
    pub fn send_file(
        &self,
        id: u32,
        file: &mut NativeEnd,
        destination: &mut NativeEnd,
        what: SendFileSpec,
        how: MoveSpec,
        limit: Option<&NativeRateLimiter>,
    ) -> Result<NativeTransfer> {
        let control = Control::new();
        let options = send_file_options(&what, &how, limit).control(control.clone());
        let (file, destination) = (file.take_borrowed()?, destination.take_borrowed()?);
        self.start(id, control, send_file(file, destination, options))
    }

    /// Copies from one descriptor to another.
    ///
    /// # Errors
    /// When no worker thread can be started, or an end was used before.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands arguments over")]
    pub fn copy(
        &self,
        id: u32,
        source: &mut NativeEnd,
        destination: &mut NativeEnd,
        what: CopySpec,
        how: MoveSpec,
        limit: Option<&NativeRateLimiter>,
    ) -> Result<NativeTransfer> {
        let control = Control::new();
        let options = copy_options(&what, &how, limit).control(control.clone());
        let (source, destination) = (source.take_borrowed()?, destination.take_borrowed()?);
        self.start(id, control, copy(source, destination, options))
    }

    /// Aborts every transfer of this thread and waits a moment until their sockets are let go.
    #[napi]
    pub fn abort_all(&self) {
        registry::abort_all(self.environment, GRACE);
    }

    fn start(
        &self,
        id: u32,
        control: Control,
        transfer: impl Future<Output = TrafficResult> + Send + 'static,
    ) -> Result<NativeTransfer> {
        let worker = spawner()?;
        let entry = Entry::begin(self.environment, control.clone());
        let settled = Arc::clone(&self.settled);
        worker.spawn(Settling {
            transfer,
            then: Some((id, entry, settled)),
        });
        Ok(NativeTransfer { control })
    }
}

pin_project! {
    /// A transfer, then the news of its end. A struct, because an `async` block would keep room for the
    /// transfer twice, once as what it captured and once as what it awaits: 2.4 KiB per idle relay.
    struct Settling<F> {
        #[pin]
        transfer: F,
        then: Option<(u32, Entry, Arc<Settled>)>,
    }
}

impl<F: Future<Output = TrafficResult>> Future for Settling<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let result = ready!(this.transfer.poll(cx));
        if let Some((id, entry, settled)) = this.then.take() {
            entry.end(result.error.is_some());
            settled.push(Outcome::new(id, result));
        }
        Poll::Ready(())
    }
}

fn spawner() -> Result<Handle> {
    worker().map_err(|error| Error::from_reason(error.to_string()))
}

/// A running transfer.
#[napi]
pub struct NativeTransfer {
    control: Control,
}

/// Bytes accepted so far.
#[napi(object)]
pub struct NativeTraffic {
    /// By the destination, or by `b`.
    pub tx: f64,
    /// By `a`.
    pub rx: f64,
}

#[napi]
impl NativeTransfer {
    /// The live counts.
    #[napi]
    #[allow(
        clippy::cast_precision_loss,
        reason = "JavaScript numbers; exact up to 2^53"
    )]
    pub fn traffic(&self) -> NativeTraffic {
        let traffic = self.control.traffic();
        NativeTraffic {
            tx: traffic.tx as f64,
            rx: traffic.rx as f64,
        }
    }

    /// Ends the transfer; its outcome follows.
    #[napi]
    pub fn abort(&self) {
        self.control.abort();
    }
}
