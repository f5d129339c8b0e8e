//! System calls on sockets that Node does not offer.

use std::os::fd::IntoRawFd;

use napi::bindgen_prelude::{Error, Result};
use napi_derive::napi;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

use crate::numbers::with_descriptor;

/// Makes a TCP socket of Node hold back partial packets (`TCP_CORK`, `tcp(7)`), or send them again.
/// Headers and a small file then leave in one packet. Does nothing on any other descriptor.
#[napi]
pub fn cork(fd: i32, on: bool) {
    // A socket without this option sends two packets.
    let _ = with_descriptor(fd, |socket| sockopt::set_tcp_cork(socket, on));
}

/// Two connected Unix sockets. They connect a descriptor for which Node has no stream to one that
/// has. The caller closes both.
///
/// # Errors
/// When the process or the system has no free descriptor.
#[napi]
pub fn socket_pair() -> Result<Vec<i32>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| Error::from_reason(errno.to_string()))?;
    Ok(vec![one.into_raw_fd(), other.into_raw_fd()])
}
