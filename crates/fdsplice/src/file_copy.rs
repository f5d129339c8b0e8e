//! Copies in which an end cannot be waited for by the reactor: files, devices, and pipes and
//! terminals that only block. Their calls may wait for a disk, so each step runs on a thread that
//! may block, never on an async worker; between steps the worker waits for the end that can be
//! waited for.

use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use tokio::io::Interest;
use tokio::task::spawn_blocking;

use crate::copy::Bounds;
use crate::endpoint::Endpoint;
use crate::error::{Reason, Side};
use crate::file_job::{FileJob, Step};
use crate::plan::{End, Fault, Plan};
use crate::rate::Throttle;
use crate::stream::Stream;
use crate::traffic::Control;

/// How long one look at an end that only blocks may take; an abort is noticed after it.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// An end of such a copy.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    /// The reactor tells when it is ready.
    Watched(Arc<Stream>),
    /// Its calls are made where they may block.
    Blocking(Arc<Endpoint>),
}

impl Handle {
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, Errno> {
        if endpoint.is_pollable() {
            let stream = Stream::register(endpoint).map_err(|(_, errno)| errno)?;
            Ok(Self::Watched(Arc::new(stream)))
        } else {
            Ok(Self::Blocking(Arc::new(endpoint)))
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Watched(stream) => stream.endpoint(),
            Self::Blocking(endpoint) => endpoint,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.endpoint().as_fd()
    }

    /// Whether an out-of-band byte was announced.
    pub(crate) fn urgent(&self) -> bool {
        matches!(self, Self::Watched(stream) if stream.urgent())
    }
}

/// What ended a copy.
pub(crate) enum Stop {
    Other(Reason, Option<Side>),
    Failed(Fault),
}

/// Runs the copy; gives back what was taken and not delivered, and whether the source has ended.
pub(crate) async fn run(
    source: Handle,
    destination: Handle,
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
                if matches!(&destination, Handle::Watched(stream) if stream.is_lost()) {
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
                (Poll::Ready(Ok(())), Some(throttle)) => throttle.poll_piece(cx, 0).map(Ok),
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

fn explained(fault: Fault, destination: &Handle) -> Fault {
    match (fault.end, destination) {
        (End::Destination, Handle::Watched(stream)) => Fault {
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

fn end(destination: &Handle, pass_end_on: bool) -> Result<(), Stop> {
    let Handle::Watched(stream) = destination else {
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

async fn watch(handle: &Handle, interest: Interest) -> Errno {
    match handle {
        Handle::Watched(stream) => stream.watch(interest).await,
        Handle::Blocking(_) => std::future::pending().await,
    }
}

/// Ready when the end is. The step has found it not to be, without telling the reactor: so what the
/// reactor remembers is only believed after a look at the descriptor itself.
fn poll_ready(cx: &mut Context<'_>, handle: &Handle, end: End) -> Poll<Result<(), Stop>> {
    let Handle::Watched(stream) = handle else {
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

/// Waits a moment for an end that only blocks; whether a call on it will not.
pub(crate) fn look_at_blocking(handle: &Handle, end: End) -> Result<bool, Errno> {
    look(handle, end, &LOOK)
}

fn look(handle: &Handle, end: End, wait: &Timespec) -> Result<bool, Errno> {
    let flags = match end {
        End::Source => PollFlags::IN,
        End::Destination => PollFlags::OUT,
    };
    let mut ends = [PollFd::from_borrowed_fd(handle.fd(), flags)];
    // Errors and hang-ups count as ready: the next call tells what they are.
    retry_on_intr(|| poll(&mut ends, Some(wait))).map(|ready| ready > 0)
}
