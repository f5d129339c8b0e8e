//! Outcomes, failures and refusals in the form in which they cross to JavaScript.
//!
//! This file defines the wire format of an outcome; `lib/core/outcome.ts` decodes it.

use fdsplice::{EndpointError, Reason, Traffic, TrafficResult, TransferError};
use napi::bindgen_prelude::{Buffer, FnArgs};
use napi_derive::napi;

/// The reason why a descriptor cannot be used. Nothing was read, written or kept.
#[napi(object)]
pub struct Refusal {
    /// What the descriptor is, where another kind is required; completes the sentence "the descriptor
    /// is ...". Absent for a system failure.
    pub found: Option<String>,
    /// The error number, negative as in Node.
    pub errno: Option<i32>,
    /// The failed system call.
    pub syscall: Option<String>,
    /// The end of a copy by paths that was refused: `source` or `destination`.
    pub side: Option<String>,
}

pub(crate) fn refusal(error: EndpointError) -> Refusal {
    let (found, system) = match error {
        EndpointError::Unsupported { found, .. } => (Some(found), None),
        EndpointError::System { errno, syscall } => (None, Some((errno, syscall))),
        _ => (Some("something else"), None),
    };
    Refusal {
        found: found.map(str::to_owned),
        errno: system.map(|(errno, _)| -errno.raw_os_error()),
        syscall: system.map(|(_, syscall)| syscall.to_owned()),
        side: None,
    }
}

/// The failure of a transfer.
#[napi(object)]
pub struct NativeFailure {
    /// A reason other than a system call: `aborted`, `truncated`, `idle`, `halfOpen`, or `died` for a
    /// transfer whose task has panicked.
    pub reason: Option<String>,
    /// The error number, negative as in Node.
    pub errno: Option<i32>,
    /// The failed system call.
    pub syscall: Option<String>,
    /// `a`, `b`, `source` or `destination`.
    pub side: Option<String>,
    /// Bytes taken from the source that the destination did not accept.
    pub undelivered: Option<Buffer>,
    /// Whether a call has not returned, so that the sockets of the transfer were broken off.
    pub stuck: Option<bool>,
    /// Whether the side had ended its input, all of which was delivered, before it was reset or closed.
    pub after_end: Option<bool>,
}

impl NativeFailure {
    fn new(error: TransferError) -> Self {
        let (reason, system) = match error.reason {
            Reason::System { errno, syscall } => (None, Some((errno, syscall))),
            Reason::SourceTruncated => (Some("truncated"), None),
            Reason::IdleTimeout => (Some("idle"), None),
            Reason::HalfCloseTimeout => (Some("halfOpen"), None),
            _ => (Some("aborted"), None),
        };
        Self {
            reason: reason.map(str::to_owned),
            errno: system.map(|(errno, _)| -errno.raw_os_error()),
            syscall: system.map(|(_, syscall)| syscall.to_owned()),
            side: error.side.map(|side| side.as_str().to_owned()),
            stuck: error.stuck.then_some(true),
            after_end: error.after_end.then_some(true),
            undelivered: (!error.undelivered.is_empty()).then(|| Buffer::from(error.undelivered)),
        }
    }

    fn died() -> Self {
        Self {
            reason: Some("died".to_owned()),
            errno: None,
            syscall: None,
            side: None,
            undelivered: None,
            stuck: None,
            after_end: None,
        }
    }
}

/// The numbers of one outcome on the wire, in this order: the number that the transfer was started
/// with, `tx`, `rx`, `zeroCopy`, whether the source or `a` has ended, whether `b` has ended, whether
/// there is a failure. Flags are 0 or 1.
const NUMBERS: usize = 7;

/// Outcomes on the wire: [`NUMBERS`] numbers for each, and one failure for each that failed, in the
/// same order. One object per outcome, with eight properties set by name, costs a short relay more
/// than its system calls.
pub(crate) type Batch = FnArgs<(Vec<f64>, Vec<NativeFailure>)>;

/// The outcome of a transfer.
pub(crate) struct NativeOutcome {
    /// The number that the transfer was started with.
    pub(crate) id: u32,
    /// Bytes accepted by the destination, or by `b`.
    pub(crate) tx: f64,
    /// Bytes accepted by `a`.
    rx: f64,
    /// How many of `tx + rx` never passed through user space.
    zero_copy: f64,
    /// Whether the source, or `a`, was read to its end.
    a_ended: bool,
    /// Whether `b` was read to its end.
    b_ended: bool,
    /// Absent after a clean end.
    pub(crate) failure: Option<NativeFailure>,
}

impl NativeOutcome {
    #[allow(
        clippy::cast_precision_loss,
        reason = "JavaScript numbers; exact up to 2^53"
    )]
    pub(crate) fn new(id: u32, result: TrafficResult) -> Self {
        Self {
            id,
            tx: result.tx as f64,
            rx: result.rx as f64,
            zero_copy: result.zero_copy as f64,
            a_ended: result.a_ended,
            b_ended: result.b_ended,
            failure: result.error.map(NativeFailure::new),
        }
    }

    /// The outcome of a watch, which moves nothing.
    pub(crate) fn of_watch(id: u32, error: Option<TransferError>) -> Self {
        Self::partial(id, Traffic::default(), error.map(NativeFailure::new))
    }

    /// The outcome of a transfer that could not be started.
    pub(crate) fn not_started(id: u32, traffic: Traffic, error: TransferError) -> Self {
        Self::partial(id, traffic, Some(NativeFailure::new(error)))
    }

    /// The outcome of a transfer whose task has panicked, or was dropped before its end.
    pub(crate) fn died(id: u32, traffic: Traffic) -> Self {
        Self::partial(id, traffic, Some(NativeFailure::died()))
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "JavaScript numbers; exact up to 2^53"
    )]
    fn partial(id: u32, traffic: Traffic, failure: Option<NativeFailure>) -> Self {
        Self {
            id,
            tx: traffic.tx as f64,
            rx: traffic.rx as f64,
            zero_copy: traffic.zero_copy as f64,
            a_ended: false,
            b_ended: false,
            failure,
        }
    }

    /// Encodes outcomes for JavaScript.
    pub(crate) fn encode(outcomes: Vec<Self>) -> Batch {
        let mut numbers = Vec::with_capacity(outcomes.len() * NUMBERS);
        let mut failures = Vec::new();
        for outcome in outcomes {
            numbers.extend(outcome.numbers());
            failures.extend(outcome.failure);
        }
        (numbers, failures).into()
    }

    fn numbers(&self) -> [f64; NUMBERS] {
        let flag = |flag: bool| f64::from(u8::from(flag));
        [
            f64::from(self.id),
            self.tx,
            self.rx,
            self.zero_copy,
            flag(self.a_ended),
            flag(self.b_ended),
            flag(self.failure.is_some()),
        ]
    }
}
