//! One end of a transfer as an object of JavaScript, and the role it has in a relay.

use std::os::fd::{AsFd, AsRawFd, IntoRawFd};

use fdsplice::{Endpoint, EndpointError, Kind, Role};
use napi::bindgen_prelude::{Either, Error, Result, Uint8Array};
use napi_derive::napi;
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use crate::numbers::with_descriptor;
use crate::outcome::{Refusal, refusal};

/// One end of a transfer. The descriptor is duplicated when the object is made, so closing or
/// reusing its number later has no effect. A transfer takes the duplicate and closes it at its end.
/// Without a transfer, the duplicate is closed when the object is released or collected.
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

    /// Whether the descriptor was opened with `O_APPEND`.
    #[napi(getter)]
    pub fn appends(&self) -> bool {
        self.endpoint.as_ref().is_some_and(Endpoint::appends)
    }

    /// The number of the duplicate, valid until it is released or given to a transfer; then -1.
    #[napi(getter)]
    pub fn fd(&self) -> i32 {
        self.endpoint
            .as_ref()
            .map_or(-1, |endpoint| endpoint.as_fd().as_raw_fd())
    }

    /// Moves the position of a file back by `bytes` and returns the new position; -1 when the
    /// position cannot be moved.
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

    /// Closes the duplicate if no transfer has taken it, a TCP connection by a reset.
    #[napi]
    pub fn reset(&mut self) {
        if let Some(endpoint) = self.endpoint.take()
            && endpoint.kind() == Kind::Tcp
        {
            Endpoint::reset_on_close(&endpoint);
        }
    }

    /// Gives the descriptor to the caller, who closes it. If that is not possible, the end keeps it.
    #[napi]
    pub fn detach(&mut self) -> Either<i32, Refusal> {
        let descriptor = self.endpoint.as_ref().map(|it| fcntl_dupfd_cloexec(it, 0));
        match descriptor.unwrap_or(Err(Errno::BADF)) {
            Ok(descriptor) => {
                self.endpoint = None;
                Either::A(descriptor.into_raw_fd())
            }
            Err(errno) => Either::B(refusal(EndpointError::System {
                errno,
                syscall: "fcntl",
            })),
        }
    }

    /// Whether it is a file whose size only a server may know, which may not answer.
    #[napi(getter)]
    pub fn is_remote(&self) -> bool {
        self.endpoint.as_ref().is_some_and(Endpoint::is_remote)
    }

    /// The size of a file as the kernel knows it, without asking a server; 0 when it is released.
    #[napi(getter)]
    #[allow(
        clippy::cast_precision_loss,
        reason = "a count of bytes, as JavaScript has it"
    )]
    pub fn known_size(&self) -> f64 {
        self.endpoint
            .as_ref()
            .map_or(0.0, |endpoint| endpoint.known_size() as f64)
    }

    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    /// Takes the endpoint for a relay.
    pub(crate) fn take(&mut self, role: &EndRole) -> Result<Endpoint> {
        Ok(role.given_to(self.take_borrowed()?))
    }

    /// Takes the endpoint for a transfer that leaves the connection to the caller.
    pub(crate) fn take_borrowed(&mut self) -> Result<Endpoint> {
        self.endpoint
            .take()
            .ok_or_else(|| Error::from_reason("this end was already given to a transfer"))
    }

    fn same_as(&self, other: &Self) -> bool {
        match (&self.endpoint, &other.endpoint) {
            (Some(this), Some(other)) => this.is_itself(other),
            _ => false,
        }
    }
}

/// The role of an end in a relay, and the bytes already read from it.
#[napi(object)]
pub struct EndRole {
    /// Whether the relay owns the connection and resets it on failure.
    pub handed_over: bool,
    /// Whether the end was already shut down for writing.
    pub write_ended: bool,
    /// Bytes to deliver before anything that is read from the end.
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

/// Duplicates an open descriptor. Refuses one that cannot take the role: `source`, `destination`, or
/// any other text for an end of a relay. A socket with a TCP handle of Node is not inspected, because
/// libuv makes those non-blocking.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi passes owned arguments")]
pub fn open_end(fd: i32, role: String, is_node_tcp: bool) -> Either<NativeEnd, Refusal> {
    let role = match role.as_str() {
        "source" => Role::Source,
        "destination" => Role::Destination,
        _ => Role::Relay,
    };
    let opened = with_descriptor(fd, |fd| {
        if is_node_tcp {
            return Endpoint::duplicate_nonblocking_tcp(fd);
        }
        let endpoint = Endpoint::duplicate(fd)?;
        endpoint.require(role)?;
        Ok(endpoint)
    });
    match opened {
        Some(Ok(endpoint)) => Either::A(NativeEnd::new(endpoint)),
        Some(Err(error)) => Either::B(refusal(error)),
        None => Either::B(refusal(EndpointError::System {
            errno: Errno::BADF,
            syscall: "fcntl",
        })),
    }
}

/// Whether two ends are one socket or one pipe, between which no transfer is possible.
#[napi]
pub fn is_same(one: &NativeEnd, other: &NativeEnd) -> bool {
    one.same_as(other)
}
