//! System calls on sockets that Node does not offer.

use std::os::fd::IntoRawFd;

use fdsplice::{Endpoint, EndpointError};
use napi::bindgen_prelude::Either;
use napi_derive::napi;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};

use crate::native_end::NativeEnd;
use crate::numbers::with_descriptor;
use crate::outcome::{Refusal, refusal};

/// Makes a TCP socket of Node hold back partial packets (`TCP_CORK`, `tcp(7)`), or send them again.
/// Headers and a small file then leave in one packet. Does nothing on any other descriptor.
#[napi]
pub fn cork(fd: i32, on: bool) {
    // A socket without this option sends two packets.
    let _ = with_descriptor(fd, |socket| sockopt::set_tcp_cork(socket, on));
}

/// Two connected Unix sockets: one for the core, and the descriptor of one for Node.
#[napi(object, object_from_js = false)]
pub struct NativePair {
    /// The end for the core.
    pub end: NativeEnd,
    /// The descriptor for Node. The caller closes it.
    pub fd: i32,
}

/// Makes two connected Unix sockets, or returns the reason why there are none. They connect a
/// descriptor for which Node has no stream to one that has.
#[napi]
pub fn socket_pair() -> Either<NativePair, Refusal> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| EndpointError::System {
            errno,
            syscall: "socketpair",
        })
        .and_then(|(one, other)| Ok((Endpoint::try_from(one)?, other)));
    match pair {
        Ok((end, other)) => Either::A(NativePair {
            end: NativeEnd::new(end.handed_over(false)),
            fd: other.into_raw_fd(),
        }),
        Err(error) => Either::B(refusal(error)),
    }
}
