//! The transfers of one JavaScript environment: it starts them here and receives their outcomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fdsplice::{
    Control, Endpoint, EndpointError, Kind, Side, TrafficResult, TransferError, copy, relay,
    send_file, wait_for_error,
};
use napi::Error;
use napi::bindgen_prelude::{ClassInstance, Either, Env, FnArgs, Function, Result};
use napi_derive::napi;

use crate::convert::{
    CopySpec, LimiterArgs, MoveSpec, SendFileSpec, copy_options, head, relay_options,
    send_file_options,
};
use crate::delivery::Delivery;
use crate::files::{Files, NativeFiles};
use crate::native_end::{EndRole, NativeEnd};
use crate::native_rate_limiter::NativeRateLimiter;
use crate::numbers::with_descriptor;
use crate::outcome::{NativeFailure, NativeOutcome};
use crate::registry::{self, Entry, Key};
use crate::running::{RunningTransfer, RunningWatch};
use crate::runtime::WorkerSlot;

/// How long the end of an environment waits until its transfers have released their sockets.
const GRACE: Duration = Duration::from_millis(500);

static ENVIRONMENTS: AtomicU64 = AtomicU64::new(0);

/// An end of a relay: the descriptor of a connected TCP socket of Node, or an end opened before.
type RelayEnd<'a> = Either<i32, ClassInstance<'a, NativeEnd>>;

/// Starts transfers, and calls `settled` with a batch of outcomes when some have ended.
///
/// A transfer is identified by the number that it was started with. It has no object of its own,
/// because wrapping and finalizing one costs a short relay as much as two system calls.
#[napi]
pub struct Dispatcher {
    environment: u64,
    delivery: Arc<Delivery>,
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
        reason = "napi passes owned arguments, and generates the TypeScript types from this signature"
    )]
    pub fn new(
        env: Env,
        settled: Function<FnArgs<(Vec<f64>, Vec<NativeFailure>)>, ()>,
        files: &NativeFiles,
    ) -> Result<Self> {
        let environment = ENVIRONMENTS.fetch_add(1, Ordering::Relaxed);
        env.add_env_cleanup_hook(environment, |environment| {
            registry::abort_all(environment, GRACE);
        })?;
        Ok(Self {
            environment,
            delivery: Arc::new(Delivery::new(&settled)?),
            files: files.files.clone(),
        })
    }

    /// Reports an error of the connection of a socket that no transfer uses yet. Without a worker
    /// there is no watch: the transfer itself then reports the error when it starts.
    ///
    /// # Errors
    /// When the end was used before, or the number is in use.
    #[napi(catch_unwind)]
    pub fn wait_for_error(&mut self, id: u32, end: &mut NativeEnd) -> Result<()> {
        let socket = end.take_borrowed()?;
        let control = Control::new();
        if !registry::begin_watch(self.key(id), control.clone()) {
            return Err(in_use(id));
        }
        let delivery = Arc::clone(&self.delivery);
        match WorkerSlot::take(self.environment) {
            Ok(slot) => {
                slot.run(|slot| {
                    let error = wait_for_error(socket, Side::A, control);
                    RunningWatch::new(error, id, delivery, slot)
                });
            }
            Err(_) => delivery.push(NativeOutcome::of_watch(id, None)),
        }
        Ok(())
    }

    /// Joins two sockets. An absent role stands for an end that was handed over, is open for
    /// writing, and was not read from. Absent `options` stand for the defaults.
    ///
    /// # Errors
    /// When an end was used before, or the number is in use.
    #[napi(catch_unwind)]
    #[allow(
        clippy::needless_pass_by_value,
        clippy::too_many_arguments,
        reason = "napi passes owned arguments, and class instances only as arguments"
    )]
    pub fn relay(
        &mut self,
        id: u32,
        a: Either<i32, ClassInstance<NativeEnd>>,
        b: Either<i32, ClassInstance<NativeEnd>>,
        role_of_a: Option<EndRole>,
        role_of_b: Option<EndRole>,
        options: Option<MoveSpec>,
        limiter: Option<&NativeRateLimiter>,
        limiter_of_tx: Option<&NativeRateLimiter>,
        limiter_of_rx: Option<&NativeRateLimiter>,
    ) -> Result<()> {
        let (role_of_a, role_of_b) = (role_of_a.unwrap_or_default(), role_of_b.unwrap_or_default());
        let control = Control::new();
        let limiters = LimiterArgs {
            both: limiter,
            tx: limiter_of_tx,
            rx: limiter_of_rx,
        };
        let options = options.unwrap_or_default();
        let options =
            relay_options(&role_of_a, &role_of_b, &options, &limiters).control(control.clone());
        let numbers = [&a, &b].map(number);
        let opened = match open(a, &role_of_a, Side::A)? {
            Ok(a) => match open(b, &role_of_b, Side::B)? {
                Ok(b) => Ok((a, b)),
                Err(error) => {
                    abandon(&a, &role_of_a);
                    Err(error)
                }
            },
            Err(error) => Err(error),
        };
        let started = opened.and_then(|(a, b)| {
            let slot = self.slot().inspect_err(|_| {
                abandon(&a, &role_of_a);
                abandon(&b, &role_of_b);
            })?;
            Ok(((a, b), slot))
        });
        match started {
            Ok(((a, b), slot)) => self.start(id, control, slot, relay(a, b, options)),
            Err(error) => {
                for fd in numbers.into_iter().flatten() {
                    with_descriptor(fd, |fd| Endpoint::reset_on_close(fd));
                }
                self.fail(id, control, error)
            }
        }
    }

    /// Sends a file or a range of one. The file is the number of a preopened file, or an end.
    ///
    /// # Errors
    /// When an end was used before, or the number is in use.
    #[napi(catch_unwind)]
    #[allow(clippy::needless_pass_by_value, reason = "napi passes owned arguments")]
    pub fn send_file(
        &mut self,
        id: u32,
        file: Either<u32, ClassInstance<NativeEnd>>,
        destination: &mut NativeEnd,
        options: SendFileSpec,
        move_options: MoveSpec,
        limiter: Option<&NativeRateLimiter>,
    ) -> Result<()> {
        let control = Control::new();
        let options = send_file_options(&options, &move_options, limiter).control(control.clone());
        match file {
            Either::A(file) => {
                let (file, destination) = (self.files.take(file)?, destination.take_borrowed()?);
                self.start_or_fail(id, control, file.send(destination, options))
            }
            Either::B(mut file) => {
                let (file, destination) = (file.take_borrowed()?, destination.take_borrowed()?);
                self.start_or_fail(id, control, send_file(file, destination, options))
            }
        }
    }

    /// Copies from one descriptor to another.
    ///
    /// # Errors
    /// When an end was used before, or the number is in use.
    #[napi(catch_unwind)]
    #[allow(clippy::needless_pass_by_value, reason = "napi passes owned arguments")]
    pub fn copy(
        &mut self,
        id: u32,
        source: &mut NativeEnd,
        destination: &mut NativeEnd,
        options: CopySpec,
        move_options: MoveSpec,
        limiter: Option<&NativeRateLimiter>,
    ) -> Result<()> {
        let control = Control::new();
        let (source, destination) = (source.take_borrowed()?, destination.take_borrowed()?);
        match self.slot() {
            Ok(slot) => {
                let options = copy_options(&options, &move_options, limiter);
                let transfer = copy(source, destination, options.control(control.clone()));
                self.start(id, control, slot, transfer)
            }
            Err(mut error) => {
                error.undelivered = head(options.head.as_ref());
                self.fail(id, control, error)
            }
        }
    }

    /// The live counts of a transfer; zeros once it is forgotten.
    #[napi]
    #[allow(
        clippy::cast_precision_loss,
        reason = "JavaScript numbers; exact up to 2^53"
    )]
    pub fn traffic(&self, id: u32) -> NativeTraffic {
        let traffic = registry::traffic(self.key(id));
        NativeTraffic {
            tx: traffic.tx as f64,
            rx: traffic.rx as f64,
        }
    }

    /// Milliseconds since a transfer moved bytes; infinite when it has moved none or is forgotten.
    #[napi]
    pub fn idle_ms(&self, id: u32) -> f64 {
        registry::idle(self.key(id)).map_or(f64::INFINITY, |idle| idle.as_secs_f64() * 1000.0)
    }

    /// Aborts a transfer; its outcome follows. Does nothing when it has ended.
    #[napi]
    pub fn abort(&self, id: u32) {
        registry::abort(self.key(id));
    }

    /// Ends end `a` of a relay, or `b`, before the other end has ended. Does nothing when the relay has
    /// ended.
    #[napi]
    pub fn end(&self, id: u32, is_b: bool) {
        registry::end(self.key(id), if is_b { Side::B } else { Side::A });
    }

    /// Forgets the transfers whose outcomes were delivered. Their numbers can be used again. One call
    /// after each batch costs one lock of the registry, however many transfers have ended.
    #[napi]
    pub fn forget_delivered(&self) {
        registry::forget(self.environment, &self.delivery.take_delivered());
    }

    /// Aborts every transfer of this thread, and waits for a moment until their sockets are released.
    #[napi]
    pub fn abort_all(&self) {
        registry::abort_all(self.environment, GRACE);
    }

    /// Starts a transfer that takes nothing from its source before it is polled.
    fn start_or_fail(
        &self,
        id: u32,
        control: Control,
        transfer: impl Future<Output = TrafficResult> + Send + 'static,
    ) -> Result<()> {
        match self.slot() {
            Ok(slot) => self.start(id, control, slot, transfer),
            Err(error) => {
                // Closes the ends before the caller learns of the failure.
                drop(transfer);
                self.fail(id, control, error)
            }
        }
    }

    fn start(
        &self,
        id: u32,
        control: Control,
        slot: WorkerSlot,
        transfer: impl Future<Output = TrafficResult> + Send + 'static,
    ) -> Result<()> {
        let entry = self.begin(id, control)?;
        let delivery = Arc::clone(&self.delivery);
        slot.run(|slot| RunningTransfer::new(transfer, entry, delivery, slot));
        Ok(())
    }

    /// Reports the failure of a transfer that cannot be started.
    fn fail(&self, id: u32, control: Control, error: TransferError) -> Result<()> {
        let traffic = control.traffic();
        self.begin(id, control)?.end(true);
        let outcome = NativeOutcome::not_started(id, traffic, error);
        self.delivery.push(outcome);
        Ok(())
    }

    fn begin(&self, id: u32, control: Control) -> Result<Entry> {
        Entry::begin(self.key(id), control).ok_or_else(|| in_use(id))
    }

    fn key(&self, id: u32) -> Key {
        (self.environment, id)
    }

    fn slot(&self) -> std::result::Result<WorkerSlot, TransferError> {
        WorkerSlot::take(self.environment)
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        registry::forget_all(self.environment);
    }
}

fn in_use(id: u32) -> Error {
    Error::from_reason(format!("the number {id} is in use"))
}

/// Resets the connection of a relay that cannot start when its end is dropped. It may be the only
/// descriptor of the connection, whose peer would see a clean end otherwise.
fn abandon(end: &Endpoint, role: &EndRole) {
    if role.handed_over && end.kind() == Kind::Tcp {
        Endpoint::reset_on_close(end);
    }
}

fn number(end: &RelayEnd) -> Option<i32> {
    match end {
        Either::A(fd) => Some(*fd),
        Either::B(_) => None,
    }
}

/// Duplicates the socket, or takes the end opened before. The inner error is a failed system call,
/// which is the outcome of the relay.
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
