//! JavaScript values ↔ the core's types.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use fdsplice::{
    CopyOptions, Endpoint, EndpointError, Kind, RateLimiter, Reason, RelayOptions, SendFileOptions,
    TrafficResult, TransferError,
};
use napi::bindgen_prelude::{Buffer, Error, Result, Uint8Array};
use napi_derive::napi;
use rustix::fs::{SeekFrom, seek};

use crate::streams::NativeThrottle;

/// One end of a transfer, duplicated when it is made: what happens to the number afterwards does
/// not matter. It goes into the transfer it is given to, and is closed when that ends, or when it
/// is released or collected without one.
#[napi]
pub struct NativeEnd {
    endpoint: Option<Endpoint>,
}

#[napi]
impl NativeEnd {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint: Some(endpoint),
        }
    }

    /// `tcp`, `unix`, `pipe`, `tty`, `file` or `device`.
    #[napi(getter)]
    pub fn kind(&self) -> &'static str {
        match self.endpoint.as_ref().map(Endpoint::kind) {
            Some(Kind::Tcp) => "tcp",
            Some(Kind::UnixStream) => "unix",
            Some(Kind::Pipe) => "pipe",
            Some(Kind::Tty) => "tty",
            Some(Kind::File) => "file",
            Some(Kind::Device) => "device",
            _ => "",
        }
    }

    /// Whether it was opened with `O_APPEND`.
    #[napi(getter)]
    pub fn appends(&self) -> bool {
        self.endpoint.as_ref().is_some_and(Endpoint::appends)
    }

    /// The number of the duplicate, good until it is released or given to a transfer; -1 after.
    #[napi(getter)]
    pub fn fd(&self) -> i32 {
        self.endpoint
            .as_ref()
            .map_or(-1, |endpoint| endpoint.as_fd().as_raw_fd())
    }

    /// Moves the position of a file back by so many bytes, and tells where it is then; -1 when it
    /// cannot be moved.
    #[napi]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "counts of bytes, as JavaScript has them"
    )]
    pub fn rewind(&self, bytes: f64) -> f64 {
        self.endpoint
            .as_ref()
            .and_then(|endpoint| seek(endpoint, SeekFrom::Current(-(bytes as i64))).ok())
            .map_or(-1.0, |position| position as f64)
    }

    /// Closes the duplicate if no transfer has taken it.
    #[napi]
    pub fn release(&mut self) {
        self.endpoint = None;
    }

    /// Takes the endpoint out for a relay.
    pub(crate) fn take(&mut self, role: &EndRole) -> Result<Endpoint> {
        Ok(role.given_to(self.take_borrowed()?))
    }

    /// Takes the endpoint out for a transfer behind which the connection stays with the caller.
    pub(crate) fn take_borrowed(&mut self) -> Result<Endpoint> {
        self.endpoint
            .take()
            .ok_or_else(|| Error::from_reason("this end was already given to a transfer"))
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        match (&self.endpoint, &other.endpoint) {
            (Some(this), Some(other)) => this.is_itself(other),
            _ => false,
        }
    }
}

/// What a transfer may do with an end, and what was already read from it.
#[napi(object)]
pub struct EndRole {
    /// The connection behind it belongs to the transfer: reset it on failure.
    pub handed_over: bool,
    /// It was already shut down for writing.
    pub write_ended: bool,
    /// Bytes to deliver before anything that is read from it.
    pub head: Option<Uint8Array>,
}

impl Default for EndRole {
    fn default() -> Self {
        Self {
            handed_over: true,
            write_ended: false,
            head: None,
        }
    }
}

impl EndRole {
    pub(crate) fn given_to(&self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .handed_over(self.handed_over)
            .write_ended(self.write_ended)
    }
}

/// How bytes are moved.
#[napi(object)]
pub struct MoveSpec {
    /// `false`: through a private buffer, never a pipe.
    pub zero_copy: bool,
    /// Wanted capacity of the kernel pipe in bytes.
    pub pipe_size: Option<u32>,
    /// Milliseconds that may pass without one byte moved.
    pub idle_timeout: Option<f64>,
    /// Of a relay: milliseconds one direction may stay open after the other has ended.
    pub half_close_timeout: Option<f64>,
}

impl Default for MoveSpec {
    fn default() -> Self {
        Self {
            zero_copy: true,
            pipe_size: None,
            idle_timeout: None,
            half_close_timeout: None,
        }
    }
}

impl MoveSpec {
    fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.map(milliseconds)
    }
}

/// Who shares which limiter: `both` for a transfer as a whole, or else one a direction.
pub(crate) struct Limits<'a> {
    pub(crate) both: Option<&'a NativeRateLimiter>,
    pub(crate) tx: Option<&'a NativeRateLimiter>,
    pub(crate) rx: Option<&'a NativeRateLimiter>,
}

/// A limit on bytes per second, shared by the transfers it is given to.
#[napi]
pub struct NativeRateLimiter {
    limiter: RateLimiter,
}

#[napi]
impl NativeRateLimiter {
    /// The facade has checked that the numbers are above 0.
    ///
    /// # Errors
    /// Where they are not, all the same: the core would panic.
    #[napi(constructor)]
    pub fn new(bytes_per_second: f64, burst: Option<f64>) -> Result<Self> {
        let limiter = RateLimiter::new(above_0(bytes_per_second)?);
        let limiter = match burst {
            Some(bytes) => limiter.burst(above_0(bytes)?),
            None => limiter,
        };
        Ok(Self { limiter })
    }

    /// A place for a transfer that JavaScript runs.
    #[napi]
    pub fn throttle(&self) -> NativeThrottle {
        NativeThrottle::new(&self.limiter)
    }

    /// Bytes per second.
    #[napi(getter)]
    pub fn bytes_per_second(&self) -> f64 {
        self.limiter.bytes_per_second()
    }

    /// Bytes per second, above 0.
    ///
    /// # Errors
    /// As the constructor.
    #[napi(setter)]
    pub fn set_bytes_per_second(&self, bytes_per_second: f64) -> Result<()> {
        self.limiter
            .set_bytes_per_second(above_0(bytes_per_second)?);
        Ok(())
    }
}

fn above_0(number: f64) -> Result<f64> {
    if number > 0.0 {
        Ok(number)
    } else {
        Err(Error::from_reason(format!("{number} is not above 0")))
    }
}

/// What only a copy can be told.
#[napi(object)]
pub struct CopySpec {
    /// First byte to read of a file.
    pub start: Option<f64>,
    /// Where to write in a file.
    pub position: Option<f64>,
    /// At most this many bytes of the source.
    pub length: Option<f64>,
    /// Bytes to deliver before anything from the source, not part of `length`.
    pub head: Option<Uint8Array>,
    /// Shut the destination down for writing when done.
    pub end_destination: bool,
}

/// What only the sending of a file can be told.
#[napi(object)]
pub struct SendFileSpec {
    /// First byte to send.
    pub start: Option<f64>,
    /// Last byte to send.
    pub end: Option<f64>,
    /// Shut the destination down for writing when done.
    pub end_destination: bool,
}

/// Why a descriptor cannot be used; nothing was read, written or kept.
#[napi(object)]
pub struct Refusal {
    /// What it is instead of what is wanted; absent for a system failure.
    pub found: Option<String>,
    /// Negative, as Node's.
    pub errno: Option<i32>,
    /// The failed system call.
    pub syscall: Option<String>,
}

pub(crate) fn refusal(error: EndpointError) -> Refusal {
    let (found, system) = match error {
        EndpointError::Unsupported(found) => (Some(found), None),
        EndpointError::System { errno, syscall } => (None, Some((errno, syscall))),
        _ => (Some("something else"), None),
    };
    Refusal {
        found: found.map(str::to_owned),
        errno: system.map(|(errno, _)| -errno.raw_os_error()),
        syscall: system.map(|(_, syscall)| syscall.to_owned()),
    }
}

/// Why a transfer ended before its end.
#[napi(object)]
pub struct Failure {
    /// A reason that is not the system's: `aborted`, `truncated`, `idle` or `halfOpen`.
    pub reason: Option<String>,
    /// Negative, as Node's.
    pub errno: Option<i32>,
    /// The failed system call.
    pub syscall: Option<String>,
    /// `a`, `b`, `source` or `destination`.
    pub side: Option<String>,
    /// Bytes taken from the source that the destination did not accept.
    pub undelivered: Option<Buffer>,
}

impl Failure {
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
            undelivered: (!error.undelivered.is_empty()).then(|| Buffer::from(error.undelivered)),
        }
    }
}

/// How a transfer ended.
pub(crate) struct Outcome {
    /// The number it was started with.
    id: u32,
    /// Bytes accepted by the destination, or by `b`.
    tx: f64,
    /// Bytes accepted by `a`.
    rx: f64,
    /// How many never passed through user space.
    zero_copy: f64,
    /// Whether the source, or `a`, was read to its end.
    a_ended: bool,
    /// Whether `b` was read to its end.
    b_ended: bool,
    /// Absent after a clean end.
    pub(crate) error: Option<Failure>,
}

impl Outcome {
    pub(crate) const NUMBERS: usize = 7;

    /// In the order of the fields; flags are 0 or 1, the last one says that there is an error.
    pub(crate) fn numbers(&self) -> [f64; Self::NUMBERS] {
        [
            f64::from(self.id),
            self.tx,
            self.rx,
            self.zero_copy,
            f64::from(u8::from(self.a_ended)),
            f64::from(u8::from(self.b_ended)),
            f64::from(u8::from(self.error.is_some())),
        ]
    }

    /// Of a watch, which moves nothing.
    pub(crate) fn of_watch(id: u32, failure: Option<TransferError>) -> Self {
        Self {
            id,
            tx: 0.0,
            rx: 0.0,
            zero_copy: 0.0,
            a_ended: false,
            b_ended: false,
            error: failure.map(Failure::new),
        }
    }

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
            error: result.error.map(Failure::new),
        }
    }
}

fn head(head: Option<&Uint8Array>) -> Vec<u8> {
    head.map(|head| head.to_vec()).unwrap_or_default()
}

pub(crate) fn relay_options(
    a: &EndRole,
    b: &EndRole,
    how: &MoveSpec,
    limits: &Limits<'_>,
) -> RelayOptions {
    let mut options = RelayOptions::new()
        .head_from_a(head(a.head.as_ref()))
        .head_from_b(head(b.head.as_ref()))
        .zero_copy(how.zero_copy);
    if let Some(bytes) = how.pipe_size {
        options = options.pipe_size(bytes as usize);
    }
    if let Some(timeout) = how.idle_timeout() {
        options = options.idle_timeout(timeout);
    }
    if let Some(timeout) = how.half_close_timeout {
        options = options.half_close_timeout(milliseconds(timeout));
    }
    let limiter = |limit: Option<&NativeRateLimiter>| limit.map(|limit| limit.limiter.clone());
    match (limiter(limits.both), limiter(limits.tx), limiter(limits.rx)) {
        (Some(both), _, _) => options.rate_limit(both),
        (None, None, None) => options,
        (None, tx, rx) => options.rate_limits(tx, rx),
    }
}

/// What the options of a copy and of the sending of a file are told alike.
macro_rules! one_way_options {
    ($options:ident, $what:ident, $how:ident, $limit:ident) => {{
        let mut options = $options::new()
            .end_destination($what.end_destination)
            .zero_copy($how.zero_copy);
        if let Some(start) = $what.start {
            options = options.start(whole(start));
        }
        if let Some(bytes) = $how.pipe_size {
            options = options.pipe_size(bytes as usize);
        }
        if let Some(timeout) = $how.idle_timeout() {
            options = options.idle_timeout(timeout);
        }
        if let Some(limit) = $limit {
            options = options.rate_limit(limit.limiter.clone());
        }
        options
    }};
}

pub(crate) fn copy_options(
    what: &CopySpec,
    how: &MoveSpec,
    limit: Option<&NativeRateLimiter>,
) -> CopyOptions {
    let mut options =
        one_way_options!(CopyOptions, what, how, limit).head(head(what.head.as_ref()));
    if let Some(position) = what.position {
        options = options.position(whole(position));
    }
    if let Some(length) = what.length {
        options = options.length(whole(length));
    }
    options
}

pub(crate) fn send_file_options(
    what: &SendFileSpec,
    how: &MoveSpec,
    limit: Option<&NativeRateLimiter>,
) -> SendFileOptions {
    let options = one_way_options!(SendFileOptions, what, how, limit);
    match what.end {
        Some(end) => options.end(whole(end)),
        None => options,
    }
}

fn milliseconds(number: f64) -> Duration {
    Duration::from_secs_f64(number / 1000.0)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the facade has checked that it is a safe integer above or equal to 0"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number as u64
}
