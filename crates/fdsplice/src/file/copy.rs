//! Copies with an end that the reactor cannot wait for. A call on such an end may wait for a disk,
//! so each step runs on a thread that may block, never on an async worker. Between the steps the
//! worker waits for the end that it can wait for. During a step it waits for the thread, and for
//! everything else that ends the transfer: a call on a file system that does not answer never
//! returns.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::direction::plan::Plan;
use crate::direction::watch::Watch;
use crate::direction::{explained, pass_end_on};
use crate::error::{Reason, Side, TransferError};
use crate::fault::{End, IoFailure};
use crate::file::end::Ends;
use crate::file::job::{FileJob, Step};
use crate::limits::one_way::Bounds;
use crate::threads::{self, Lane, Running};
use crate::traffic::Control;

/// How long a transfer that was ended waits for its call to return, so that its counts are exact.
/// It is shorter than the time that the end of a JavaScript environment waits for its transfers.
const PATIENCE: Duration = Duration::from_millis(400);
/// The longest time between the starts of two steps that move nothing.
const MOST_PAUSE: Duration = Duration::from_millis(50);

/// Runs the copy, and closes its ends. Also returns whether the source was read to its end.
pub(crate) async fn run(
    ends: Arc<Ends>,
    plan: Plan,
    bounds: Bounds,
    control: &Control,
) -> (Result<(), TransferError>, bool) {
    let outcome = move_bytes(&ends, plan, bounds, control).await;
    // A call that is stuck keeps the ends until it returns.
    let closing: Vec<_> = Arc::into_inner(ends)
        .into_iter()
        .flat_map(Ends::close)
        .collect();
    for call in closing {
        let _ = timeout(PATIENCE, call).await;
    }
    outcome
}

async fn move_bytes(
    ends: &Arc<Ends>,
    plan: Plan,
    bounds: Bounds,
    control: &Control,
) -> (Result<(), TransferError>, bool) {
    let destination = ends.destination.registered();
    let mut watch = Watch::new(destination, bounds, control);
    let pass_on = destination.filter(|_| plan.pass_end_on);
    let framed = plan.framed;
    let mut job = FileJob::new(ends, plan, control.clone());
    let lane = ends.lane();
    let positions = job.positions();
    let mut waiting = None;
    let mut pause = Pause::default();
    let outcome = loop {
        let allowed = poll_fn(|cx| {
            watch.poll(cx, |cx, throttle| {
                ready!(pause.poll(cx));
                match (waiting, &ends.source) {
                    (Some(End::Source), Some(source)) => {
                        ready!(source.poll_ready(cx, End::Source))?;
                    }
                    (Some(End::Destination), _) => {
                        ready!(ends.destination.poll_ready(cx, End::Destination))?;
                    }
                    _ => {}
                }
                match throttle {
                    Some(throttle) => throttle.poll_quantum(cx, 0).map(Ok),
                    None => Poll::Ready(Ok(u64::MAX)),
                }
            })
        });
        let allowed = match allowed.await {
            Ok(allowed) => allowed,
            Err(error) => break Err(error),
        };
        let thread = match threads::reserve(lane) {
            Ok(thread) => thread,
            // Neither end has failed.
            Err(errno) => break Err(TransferError::system(errno, "clone", None)),
        };
        let before = (job.taken(), control.traffic().tx);
        pause.step_begins();
        let step_ends = Arc::clone(ends);
        let mut call = thread.run(move |is_abandoned| {
            let step = job.step(&step_ends, allowed, is_abandoned);
            (job, step)
        });
        let (returned, stopped) = match race(&mut call, &mut watch, control).await {
            Raced::Returned(returned, stopped) => (returned, stopped),
            Raced::Stuck(error) => {
                ends.break_off(framed);
                if let Some(restoring) = restore(ends, lane, positions.get()) {
                    let _ = timeout(PATIENCE, restoring).await;
                }
                let stuck = true;
                return (Err(TransferError { stuck, ..error }), false);
            }
        };
        let step;
        (job, step) = returned;
        watch.used(job.taken() - before.0);
        pause.step_returned((job.taken(), control.traffic().tx) != before);
        if let Some(error) = stopped
            && !is_conclusive(&step, &error)
        {
            break Err(error);
        }
        waiting = match step {
            Err(failure) => {
                let failure = destination.map_or(failure, |end| explained(failure, end));
                break Err(failure.into_error());
            }
            Ok(Step::Truncated) => {
                let side = Some(Side::Source);
                break Err(TransferError::other(Reason::SourceTruncated, side));
            }
            Ok(Step::Ended) => {
                let passed = pass_on.map_or(Ok(()), pass_end_on);
                break passed.map_err(IoFailure::into_error);
            }
            Ok(Step::Again) => None,
            Ok(Step::SourceEmpty) => Some(End::Source),
            Ok(Step::DestinationFull) => Some(End::Destination),
        };
    };
    let source_ended = job.source_ended();
    let outcome = outcome.map_err(|error| TransferError {
        undelivered: job.into_undelivered(),
        ..error
    });
    (outcome, source_ended)
}

/// The pause before the next step after steps that moved nothing. An end may return `EAGAIN` that no
/// reactor can wait for, or whose readiness is false: a file of FUSE or procfs with `O_NONBLOCK`.
#[derive(Default)]
struct Pause {
    /// How many steps in a row have moved nothing.
    steps: u32,
    /// When the step began, after another one that moved nothing.
    began: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    /// Ready when the next step may begin.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
            self.sleep = None;
        }
        Poll::Ready(())
    }

    /// A step that has waited for its end itself is followed by a shorter pause, or by none.
    fn step_returned(&mut self, has_moved: bool) {
        if has_moved {
            *self = Self::default();
            return;
        }
        if let Some(began) = self.began {
            let pause = Duration::from_millis(1 << self.steps.min(6)).min(MOST_PAUSE);
            let rest = pause.saturating_sub(began.elapsed());
            self.sleep = (!rest.is_zero()).then(|| Box::pin(sleep(rest)));
        }
        self.steps = self.steps.saturating_add(1);
    }

    fn step_begins(&mut self) {
        self.began = (self.steps > 0).then(Instant::now);
    }
}

/// Starts to move the own positions of the ends behind the last byte that was moved. On a thread,
/// because a call of another owner that hangs may keep a position locked.
fn restore(ends: &Arc<Ends>, lane: Lane, positions: [Option<u64>; 2]) -> Option<Running<()>> {
    if positions == [None; 2] {
        return None;
    }
    let ends = Arc::clone(ends);
    let restore = move |is_abandoned: &AtomicBool| {
        if !is_abandoned.load(Ordering::Relaxed) {
            ends.set_positions(positions);
        }
    };
    Some(threads::reserve(lane).ok()?.run(restore))
}

/// Whether a step that has returned decides the outcome, although the transfer was to end with
/// `error`: it has delivered everything, or it has failed by itself.
fn is_conclusive(step: &Result<Step, IoFailure>, error: &TransferError) -> bool {
    match step {
        Ok(Step::Ended | Step::Truncated) => true,
        Ok(_) => false,
        // A failed destination was seen before the call that it made fail.
        Err(_) => !matches!(error.reason, Reason::System { .. }),
    }
}

/// How the wait for a call ended.
enum Raced<T> {
    /// The call returned, perhaps after the error that ends the transfer.
    Returned(T, Option<TransferError>),
    /// The transfer ends with this error, and the call has not returned.
    Stuck(TransferError),
}

/// Waits for a call, and for everything else that ends the transfer.
async fn race<T>(call: &mut Running<T>, watch: &mut Watch<'_>, control: &Control) -> Raced<T> {
    loop {
        let stopped = match poll_fn(|cx| watch.poll_call(cx, Pin::new(&mut *call))).await {
            Ok(returned) => return Raced::Returned(returned, None),
            Err(error) => error,
        };
        let moved = control.traffic().tx;
        let returned = timeout(PATIENCE, Pin::new(&mut *call)).await;
        // A process that was stopped (`SIGSTOP`) sees its timers before its threads go on.
        let is_idle = stopped.reason == Reason::IdleTimeout;
        let goes_on = is_idle && control.traffic().tx > moved;
        match returned {
            Ok(returned) => return Raced::Returned(returned, (!goes_on).then_some(stopped)),
            Err(_) if goes_on => {}
            Err(_) => {
                return match call.give_up() {
                    Some(returned) => Raced::Returned(returned, Some(stopped)),
                    None => Raced::Stuck(stopped),
                };
            }
        }
    }
}
