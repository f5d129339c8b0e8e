//! System calls on sockets that Node does not offer.

use std::os::fd::IntoRawFd;

use fdsplice::EndpointError;
use napi::bindgen_prelude::Either;
use napi_derive::napi;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

use crate::numbers::with_descriptor;
use crate::outcome::{Refusal, refusal};

/// Makes a TCP socket of Node hold back partial packets (`TCP_CORK`, `tcp(7)`), or send them again.
/// Headers and a small file then leave in one packet. Does nothing on any other descriptor.
#[napi]
pub fn cork(fd: i32, on: bool) {
    // A socket without this option sends two packets.
    let _ = with_descriptor(fd, |socket| sockopt::set_tcp_cork(socket, on));
}

/// Two connected Unix sockets, or the reason why there are none. They connect a descriptor for which
/// Node has no stream to one that has. The caller closes both.
#[napi]
pub fn socket_pair() -> Either<Vec<i32>, Refusal> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None) {
        Ok((one, other)) => Either::A(vec![one.into_raw_fd(), other.into_raw_fd()]),
        Err(errno) => Either::B(refusal(EndpointError::System {
            errno,
            syscall: "socketpair",
        })),
    }
}
