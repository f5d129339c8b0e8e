//! Copies in which an end cannot be waited for by the reactor: files, devices, and pipes and
//! terminals that only block. Their calls may wait for a disk, so each step runs on a thread that
//! may block, never on an async worker; between steps the worker waits for the end that can be
//! waited for.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};

use rustix::event::Timespec;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::task::spawn_blocking;

use crate::direction::plan::Plan;
use crate::error::{Reason, Side};
use crate::fault::{End, Fault};
use crate::file::end::{CopyEnd, look};
use crate::file::job::{FileJob, Step};
use crate::limits::one_way::Bounds;
use crate::limits::rate::Throttle;
use crate::traffic::Control;

/// What ended a copy.
pub(crate) enum Stop {
    Other(Reason, Option<Side>),
    Failed(Fault),
}

/// Runs the copy; gives back what was taken and not delivered, and whether the source has ended.
pub(crate) async fn run(
    source: CopyEnd,
    destination: CopyEnd,
    plan: Plan,
    bounds: Bounds,
    control: &Control,
) -> (Result<(), Stop>, Vec<u8>, bool) {
    let pass_end_on = plan.pass_end_on;
    let (mut throttle, mut idle) = bounds.start();
    let mut job = FileJob::new(source.clone(), destination.clone(), plan, control.clone());
    let mut urgent = pin!(watch(&source, Interest::PRIORITY));
    let mut refused = pin!(watch(&destination, Interest::ERROR));
    let mut waiting = None;
    let outcome = loop {
        let ready = poll_fn(|cx| {
            if control.poll_aborted(cx) {
                // Who shares the socket may have met the reset first, and have let go because of it.
                if matches!(&destination, CopyEnd::Watched(stream) if stream.is_lost()) {
                    let fault = Fault::destination("epoll_wait")(Errno::CONNRESET);
                    return Poll::Ready(Err(Stop::Failed(fault)));
                }
                return Poll::Ready(Err(Stop::Other(Reason::Aborted, None)));
            }
            let _ = urgent.as_mut().poll(cx);
            if let Poll::Ready(errno) = refused.as_mut().poll(cx) {
                return Poll::Ready(Err(Stop::Failed(Fault::destination("epoll_wait")(errno))));
            }
            let ready = match waiting {
                Some(End::Source) => poll_ready(cx, &source, End::Source),
                Some(End::Destination) => poll_ready(cx, &destination, End::Destination),
                None => Poll::Ready(Ok(())),
            };
            let ready = match (ready, &mut throttle) {
                (Poll::Ready(Ok(())), Some(throttle)) => throttle.poll_quantum(cx, 0).map(Ok),
                (ready, _) => ready.map_ok(|()| u64::MAX),
            };
            if ready.is_ready() {
                return ready;
            }
            let excused = throttle.as_ref().is_some_and(Throttle::is_waiting);
            if let Some(idle) = &mut idle
                && idle.poll_expired(cx, control.traffic().tx, excused)
            {
                return Poll::Ready(Err(Stop::Other(Reason::IdleTimeout, None)));
            }
            Poll::Pending
        });
        let allowed = match ready.await {
            Ok(allowed) => allowed,
            Err(stop) => break Err(stop),
        };
        let before = job.taken();
        let (given_back, step) = in_background(job, allowed).await;
        job = given_back;
        if let Some(throttle) = &mut throttle {
            throttle.used(0, job.taken() - before);
        }
        waiting = match step {
            Err(fault) => break Err(Stop::Failed(explained(fault, &destination))),
            Ok(Step::Ended) if job.is_truncated() => {
                break Err(Stop::Other(Reason::SourceTruncated, Some(Side::Source)));
            }
            Ok(Step::Ended) => break end(&destination, pass_end_on),
            Ok(Step::Again) => None,
            Ok(Step::SourceEmpty) => Some(End::Source),
            Ok(Step::DestinationFull) => Some(End::Destination),
        };
    };
    let source_ended = job.source_ended();
    (outcome, job.into_undelivered(), source_ended)
}

fn explained(fault: Fault, destination: &CopyEnd) -> Fault {
    match (fault.end, destination) {
        (End::Destination, CopyEnd::Watched(stream)) => Fault {
            errno: stream.explain(fault.errno),
            ..fault
        },
        _ => fault,
    }
}

async fn in_background(mut job: FileJob, allowed: u64) -> (FileJob, Result<Step, Fault>) {
    let work = spawn_blocking(move || {
        let step = job.step(allowed);
        (job, step)
    });
    match work.await {
        Ok(done) => done,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}

fn end(destination: &CopyEnd, pass_end_on: bool) -> Result<(), Stop> {
    let CopyEnd::Watched(stream) = destination else {
        return Ok(());
    };
    if !pass_end_on {
        return Ok(());
    }
    stream.end().map_err(|errno| {
        Stop::Failed(Fault {
            errno,
            syscall: "shutdown",
            end: End::Destination,
        })
    })
}

async fn watch(handle: &CopyEnd, interest: Interest) -> Errno {
    match handle {
        CopyEnd::Watched(stream) => stream.watch(interest).await,
        CopyEnd::Blocking(_) => std::future::pending().await,
    }
}

/// Ready when the end is. The step has found it not to be, without telling the reactor: so what the
/// reactor remembers is only believed after a look at the descriptor itself.
fn poll_ready(cx: &mut Context<'_>, handle: &CopyEnd, end: End) -> Poll<Result<(), Stop>> {
    let CopyEnd::Watched(stream) = handle else {
        // The step itself waits for ends that only block.
        return Poll::Ready(Ok(()));
    };
    let failed = |errno| {
        Stop::Failed(Fault {
            errno,
            syscall: "epoll_wait",
            end,
        })
    };
    loop {
        let guard = match end {
            End::Source => stream.poll_readable(cx),
            End::Destination => stream.poll_writable(cx),
        };
        let mut guard = ready!(guard).map_err(failed)?;
        if look(handle, end, &Timespec::default()).map_err(failed)? {
            return Poll::Ready(Ok(()));
        }
        guard.clear_ready();
    }
}
