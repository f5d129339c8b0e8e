//! One attempt: a socket that connects without blocking.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, ipproto, socket_with,
    sockopt,
};

use super::error::ConnectError;

/// How far a connect has come.
#[derive(Debug)]
pub(super) enum Started {
    /// The connection stands.
    Connected(OwnedFd),
    /// The socket becomes writable when the connection stands or has failed.
    InProgress(OwnedFd),
}

/// Starts to connect a nonblocking TCP socket.
pub(super) fn start_tcp(
    address: SocketAddr,
    local_address: Option<IpAddr>,
) -> Result<Started, ConnectError> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let fd = open(family)?;
    // This fails for no TCP socket; without it the connection is only slower.
    let _ = sockopt::set_tcp_nodelay(&fd, true);
    if let Some(local) = local_address {
        // Otherwise the kernel reserves a port for this address alone, before it knows the peer, and
        // 28,000 connections use up all ports (`ip(7)`).
        let _ = setsockopt(&fd, IpBindAddressNoPort, &true);
        bind(&fd, &SocketAddr::new(local, 0)).map_err(failed("bind"))?;
    }
    match connect(&fd, &address) {
        Ok(()) => Ok(Started::Connected(fd)),
        // Over loopback the handshake ends within the first call, which reports `EINPROGRESS` all the
        // same. A second call reports the result, and saves a turn of the reactor.
        Err(Errno::INPROGRESS | Errno::INTR) => match connect(&fd, &address) {
            Ok(()) | Err(Errno::ISCONN) => Ok(Started::Connected(fd)),
            Err(Errno::ALREADY | Errno::INPROGRESS | Errno::INTR) => Ok(Started::InProgress(fd)),
            Err(errno) => Err(ConnectError::system(errno, "connect")),
        },
        Err(errno) => Err(ConnectError::system(errno, "connect")),
    }
}

/// Connects a nonblocking Unix socket, which is done at once. `EAGAIN`: the queue of the listener is
/// full, and the kernel reports no room in it.
pub(super) fn connect_unix(path: &Path) -> Result<OwnedFd, ConnectError> {
    let address = SocketAddrUnix::new(path).map_err(failed("connect"))?;
    let fd = open(AddressFamily::UNIX)?;
    connect(&fd, &address).map_err(failed("connect"))?;
    Ok(fd)
}

fn open(family: AddressFamily) -> Result<OwnedFd, ConnectError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = (family != AddressFamily::UNIX).then_some(ipproto::TCP);
    socket_with(family, SocketType::STREAM, flags, protocol).map_err(failed("socket"))
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> ConnectError {
    move |errno| ConnectError::system(errno, syscall)
}
