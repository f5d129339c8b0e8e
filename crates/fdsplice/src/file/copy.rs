//! Copies with an end that the reactor cannot wait for. A call on such an end may wait for a disk,
//! so each step runs on a thread that may block, never on an async worker. Between the steps the
//! worker waits for the end that it can wait for.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use crate::direction::plan::Plan;
use crate::direction::watch::{Watch, destination_failure};
use crate::direction::{explained, pass_end_on};
use crate::error::{Reason, Side, TransferError};
use crate::fault::{End, IoFailure};
use crate::file::end::{CopyEnd, Ends};
use crate::file::job::{FileJob, Step};
use crate::file::threads;
use crate::limits::one_way::Bounds;
use crate::traffic::Control;

/// Runs the copy. Also returns whether the source was read to its end.
pub(crate) async fn run(
    ends: Arc<Ends>,
    plan: Plan,
    bounds: Bounds,
    control: &Control,
) -> (Result<(), TransferError>, bool) {
    let source = ends.source.as_ref().and_then(CopyEnd::registered);
    let destination = ends.destination.registered();
    let failure = pin!(destination_failure(source, destination));
    let mut watch = Watch::new(failure, destination, bounds, control);
    let pass_on = destination.filter(|_| plan.pass_end_on);
    let mut job = FileJob::new(&ends, plan, control.clone());
    let mut waiting = None;
    let outcome = loop {
        let allowed = poll_fn(|cx| {
            watch.poll(cx, |cx, throttle| {
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
        let thread = match threads::reserve() {
            Ok(thread) => thread,
            // Neither end has failed.
            Err(errno) => break Err(TransferError::system(errno, "clone", None)),
        };
        let before = job.taken();
        let step_ends = Arc::clone(&ends);
        let running = thread.run(move || {
            let step = job.step(&step_ends, allowed);
            (job, step)
        });
        let (returned, step) = running.await;
        job = returned;
        watch.used(job.taken() - before);
        waiting = match step {
            Err(failure) => {
                let failure = destination.map_or(failure, |end| explained(failure, end));
                break Err(failure.into_error());
            }
            Ok(Step::Ended) if job.is_truncated(&ends) => {
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
