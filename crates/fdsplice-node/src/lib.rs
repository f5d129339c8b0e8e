//! The Node.js binding of `fdsplice`: arguments in, results out, and the threads transfers run on.
//! Nothing here moves bytes.

mod convert;
mod dispatcher;
mod files;
mod log;
mod loopback;
mod numbers;
mod registry;
mod runtime;
mod streams;

use std::os::fd::IntoRawFd;

use fdsplice::{Endpoint, EndpointError, Role};
use napi::bindgen_prelude::{Either, Error, Result};
use napi_derive::napi;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

use crate::convert::{NativeEnd, Refusal, refusal};
use crate::numbers::with_descriptor;

/// What the running kernel offers; see the public `capabilities()`.
#[napi(object)]
pub struct NativeCapabilities {
    /// Largest pipe an unprivileged process may ask for, in bytes.
    pub pipe_max_size: f64,
}

/// What the running kernel offers.
#[napi]
#[allow(
    clippy::cast_precision_loss,
    reason = "JavaScript numbers; exact up to 2^53"
)]
pub fn capabilities() -> NativeCapabilities {
    NativeCapabilities {
        pipe_max_size: fdsplice::pipe_max_size() as f64,
    }
}

/// Counts of the whole process; see the public `stats()`.
#[napi(object)]
pub struct NativeStats {
    /// Transfers running.
    pub active: u32,
    /// Transfers that ran to their end.
    pub completed: f64,
    /// Transfers that ended in an error or abort.
    pub failed: f64,
    /// Bytes accepted by destinations; for relays, by `b`.
    pub tx: f64,
    /// Bytes accepted by `a` of relays.
    pub rx: f64,
    /// How many of `tx + rx` never passed through user space.
    pub zero_copy: f64,
    /// Pipes in use by transfers.
    pub pipes_leased: u32,
    /// Pipes kept for the next lease.
    pub pipes_idle: u32,
    /// Pipes made since the process started.
    pub pipes_created: u32,
}

/// Live counts of the whole process, all threads together.
#[napi]
pub fn stats() -> NativeStats {
    registry::stats()
}

/// Duplicates an open descriptor, and refuses what cannot play the role: `source`, `destination`,
/// or else an end of a relay. A socket of Node's own with a TCP handle needs no looking into: libuv
/// makes them non-blocking.
#[napi]
#[allow(clippy::needless_pass_by_value, reason = "napi hands arguments over")]
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

/// Keeps a TCP socket of Node's from sending what is no full packet (`TCP_CORK`, `tcp(7)`), or lets
/// it again: headers and a small file then go out together. Nothing on another socket.
#[napi]
pub fn cork(fd: i32, on: bool) {
    // What has none sends two packets.
    let _ = with_descriptor(fd, |socket| sockopt::set_tcp_cork(socket, on));
}

/// Whether two ends are one socket or pipe, which no transfer can serve.
#[napi]
pub fn is_same(one: &NativeEnd, other: &NativeEnd) -> bool {
    one.same_as(other)
}

/// Two connected Unix sockets, a way from a descriptor that Node has no stream for to a stream. Both
/// numbers are the caller's to close.
///
/// # Errors
/// When the process or the system has no descriptors left.
#[napi]
pub fn socket_pair() -> Result<Vec<i32>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| Error::from_reason(errno.to_string()))?;
    Ok(vec![one.into_raw_fd(), other.into_raw_fd()])
}
