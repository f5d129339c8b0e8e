//! Transfers of one JavaScript environment: started by it, their outcomes brought back to it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fdsplice::{
    Control, Endpoint, EndpointError, Side, TrafficResult, TransferError, copy, relay, send_file,
    watch,
};
use napi::bindgen_prelude::{ClassInstance, Either, Env, FnArgs, Function, Result};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Error, Status};
use napi_derive::napi;
use pin_project_lite::pin_project;

use crate::convert::{
    CopySpec, EndRole, Failure, Limits, MoveSpec, NativeEnd, NativeRateLimiter, Outcome,
    SendFileSpec, copy_options, relay_options, send_file_options,
};
use crate::files::{Files, NativeFiles};
use crate::numbers::with_descriptor;
use crate::registry::{self, Entry};
use crate::runtime::{self, Place};

/// How long the end of an environment waits for its transfers to let go.
const GRACE: Duration = Duration::from_millis(500);

static ENVIRONMENTS: AtomicU64 = AtomicU64::new(0);

/// Weak: a dispatcher alone does not keep the event loop alive; the facade does while transfers
/// run.
type Deliver = ThreadsafeFunction<(), (), Batch, Status, false, true>;

/// Outcomes on the border: [`Outcome::NUMBERS`] numbers each, and the failures of those that failed.
/// An object each, with eight properties that are set by name, costs a short relay more than its
/// system calls do.
type Batch = FnArgs<(Vec<f64>, Vec<Failure>)>;

/// An end of a relay: a connected TCP socket of Node's own, by number, or what was opened before.
type RelayEnd<'a> = Either<i32, ClassInstance<'a, NativeEnd>>;

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
///
/// A transfer goes by the number it was started with. It has no object of its own: one that is
/// wrapped and finalized costs a short relay as much as two system calls.
#[napi]
pub struct Dispatcher {
    environment: u64,
    settled: Arc<Settled>,
    /// Until they are forgotten, which is when JavaScript has taken note of their outcome.
    controls: HashMap<u32, Control>,
    files: Files,
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
impl Dispatcher {
    /// One per JavaScript thread.
    ///
    /// # Errors
    /// When Node is shutting this environment down.
    #[napi(constructor)]
    #[allow(
        clippy::needless_pass_by_value,
        clippy::type_complexity,
        reason = "napi hands arguments over, and reads their types for TypeScript here"
    )]
    pub fn new(
        env: Env,
        settled: Function<FnArgs<(Vec<f64>, Vec<Failure>)>, ()>,
        files: &NativeFiles,
    ) -> Result<Self> {
        let environment = ENVIRONMENTS.fetch_add(1, Ordering::Relaxed);
        env.add_env_cleanup_hook(environment, |environment| {
            registry::abort_all(environment, GRACE);
        })?;
        let waiting = Arc::new(Mutex::new(Vec::<Outcome>::new()));
        let taken = Arc::clone(&waiting);
        let deliver = settled
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build_callback(move |_| {
                let mut waiting = taken.lock().unwrap_or_else(PoisonError::into_inner);
                let outcomes = std::mem::take(&mut *waiting);
                drop(waiting);
                let mut numbers = Vec::with_capacity(outcomes.len() * Outcome::NUMBERS);
                let mut failures = Vec::new();
                for outcome in outcomes {
                    numbers.extend(outcome.numbers());
                    failures.extend(outcome.error);
                }
                Ok((numbers, failures).into())
            })?;
        Ok(Self {
            environment,
            settled: Arc::new(Settled { waiting, deliver }),
            controls: HashMap::new(),
            files: files.files.clone(),
        })
    }

    /// Tells when the connection of a socket fails that no transfer uses yet.
    ///
    /// # Errors
    /// When no worker thread can be started, or the end was used before.
    #[napi]
    pub fn watch(&mut self, id: u32, end: &mut NativeEnd) -> Result<()> {
        let socket = end.take_borrowed()?;
        let control = Control::new();
        let watching = watch(socket, Side::A, control.clone());
        let settled = Arc::clone(&self.settled);
        self.place()?.run(|place| async move {
            let outcome = watching.await;
            drop(place);
            settled.push(Outcome::of_watch(id, outcome));
        });
        self.controls.insert(id, control);
        Ok(())
    }

    /// Joins two sockets. Where a role is absent, the end was handed over, is open for writing, and
    /// nothing was read from it; where `how` is, nothing was asked for.
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
        &mut self,
        id: u32,
        a: Either<i32, ClassInstance<NativeEnd>>,
        b: Either<i32, ClassInstance<NativeEnd>>,
        role_of_a: Option<EndRole>,
        role_of_b: Option<EndRole>,
        how: Option<MoveSpec>,
        limit: Option<&NativeRateLimiter>,
        limit_of_tx: Option<&NativeRateLimiter>,
        limit_of_rx: Option<&NativeRateLimiter>,
    ) -> Result<()> {
        let (role_of_a, role_of_b) = (role_of_a.unwrap_or_default(), role_of_b.unwrap_or_default());
        let control = Control::new();
        let limits = Limits {
            both: limit,
            tx: limit_of_tx,
            rx: limit_of_rx,
        };
        let how = how.unwrap_or_default();
        let options = relay_options(&role_of_a, &role_of_b, &how, &limits).control(control.clone());
        let numbers = [&a, &b].map(number);
        let opened = match open(a, &role_of_a, Side::A)? {
            Ok(a) => open(b, &role_of_b, Side::B)?.map(|b| (a, b)),
            Err(error) => Err(error),
        };
        match opened {
            Ok((a, b)) => self.start(id, control, relay(a, b, options)),
            Err(error) => {
                for fd in numbers.into_iter().flatten() {
                    with_descriptor(fd, |fd| Endpoint::reset_on_close(fd));
                }
                Entry::begin(self.environment, control).end(true);
                self.settled.push(Outcome::of_watch(id, Some(error)));
                Ok(())
            }
        }
    }

    /// Sends a file, or a part of one: by the number it was opened with, or by its descriptor.
    ///
    /// # Errors
    /// When no worker thread can be started, or an end was used before.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands arguments over")]
    pub fn send_file(
        &mut self,
        id: u32,
        file: Either<u32, ClassInstance<NativeEnd>>,
        destination: &mut NativeEnd,
        what: SendFileSpec,
        how: MoveSpec,
        limit: Option<&NativeRateLimiter>,
    ) -> Result<()> {
        let control = Control::new();
        let options = send_file_options(&what, &how, limit).control(control.clone());
        match file {
            Either::A(file) => {
                let (file, destination) = (self.files.take(file)?, destination.take_borrowed()?);
                self.start(id, control, file.send(destination, options))
            }
            Either::B(mut file) => {
                let (file, destination) = (file.take_borrowed()?, destination.take_borrowed()?);
                self.start(id, control, send_file(file, destination, options))
            }
        }
    }

    /// Copies from one descriptor to another.
    ///
    /// # Errors
    /// When no worker thread can be started, or an end was used before.
    #[napi]
    #[allow(clippy::needless_pass_by_value, reason = "napi hands arguments over")]
    pub fn copy(
        &mut self,
        id: u32,
        source: &mut NativeEnd,
        destination: &mut NativeEnd,
        what: CopySpec,
        how: MoveSpec,
        limit: Option<&NativeRateLimiter>,
    ) -> Result<()> {
        let control = Control::new();
        let options = copy_options(&what, &how, limit).control(control.clone());
        let (source, destination) = (source.take_borrowed()?, destination.take_borrowed()?);
        self.start(id, control, copy(source, destination, options))
    }

    /// The live counts of a transfer; none once it is forgotten.
    #[napi]
    #[allow(
        clippy::cast_precision_loss,
        reason = "JavaScript numbers; exact up to 2^53"
    )]
    pub fn traffic(&self, id: u32) -> NativeTraffic {
        let traffic = self.controls.get(&id).map(Control::traffic);
        let traffic = traffic.unwrap_or_default();
        NativeTraffic {
            tx: traffic.tx as f64,
            rx: traffic.rx as f64,
        }
    }

    /// Ends a transfer; its outcome follows. Nothing where it has ended.
    #[napi]
    pub fn abort(&self, id: u32) {
        if let Some(control) = self.controls.get(&id) {
            control.abort();
        }
    }

    /// Lets go of a transfer that has ended; its number can be used again.
    #[napi]
    pub fn forget(&mut self, id: u32) {
        self.controls.remove(&id);
    }

    /// Aborts every transfer of this thread and waits a moment until their sockets are let go.
    #[napi]
    pub fn abort_all(&self) {
        registry::abort_all(self.environment, GRACE);
    }

    fn start(
        &mut self,
        id: u32,
        control: Control,
        transfer: impl Future<Output = TrafficResult> + Send + 'static,
    ) -> Result<()> {
        let place = self.place()?;
        let entry = Entry::begin(self.environment, control.clone());
        let settled = Arc::clone(&self.settled);
        place.run(|place| Settling {
            transfer,
            then: Some((id, entry, settled, place)),
        });
        self.controls.insert(id, control);
        Ok(())
    }

    fn place(&self) -> Result<Place> {
        Place::take(self.environment).map_err(|error| Error::from_reason(error.to_string()))
    }
}

fn number(end: &RelayEnd) -> Option<i32> {
    match end {
        Either::A(fd) => Some(*fd),
        Either::B(_) => None,
    }
}

/// Duplicates the socket, or takes what was opened before. A failure of the system's is the relay's.
fn open(
    end: RelayEnd,
    role: &EndRole,
    side: Side,
) -> Result<std::result::Result<Endpoint, TransferError>> {
    let duplicate = match end {
        Either::A(fd) => with_descriptor(fd, |fd| Endpoint::duplicate_nonblocking_tcp(fd))
            .ok_or_else(|| Error::from_reason("not a descriptor"))?,
        Either::B(mut end) => return end.take(role).map(Ok),
    };
    Ok(match duplicate {
        Ok(endpoint) => Ok(role.given_to(endpoint)),
        Err(EndpointError::System { errno, syscall }) => {
            Err(TransferError::system(errno, syscall, side))
        }
        Err(error) => return Err(Error::from_reason(error.to_string())),
    })
}

pin_project! {
    /// A transfer, then the news of its end. A struct, because an `async` block would keep room for the
    /// transfer twice, once as what it captured and once as what it awaits: 2.4 KiB per idle relay.
    struct Settling<F> {
        #[pin]
        transfer: F,
        then: Option<(u32, Entry, Arc<Settled>, Place)>,
    }
}

impl<F: Future<Output = TrafficResult>> Future for Settling<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let result = ready!(this.transfer.poll(cx));
        if let Some((id, entry, settled, place)) = this.then.take() {
            drop(place);
            runtime::note(result.tx + result.rx);
            entry.end(result.error.is_some());
            settled.push(Outcome::new(id, result));
        }
        Poll::Ready(())
    }
}
