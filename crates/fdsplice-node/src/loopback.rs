//! A connected pair of descriptors on which the TypeScript side tries Node's undocumented parts before it relies on
//! them. The pair is made in one call, because that happens while a transfer is being started.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{Error, Result};
use napi_derive::napi;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

/// A healthy loopback connects in microseconds. A packet filter may drop the packets instead.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(100);

/// Bounds a read that would otherwise wait for bytes that never come.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// Socket buffers in bytes, small so that a short write fills them.
const BUFFER: usize = 16 * 1024;

/// Two connected stream sockets: the first is non-blocking, for Node; reading from the second blocks for a limited
/// time. TCP over the loopback interface, or Unix sockets where TCP has no loopback. Both numbers are the caller's to
/// close.
///
/// # Errors
/// When the process or the system has no descriptors left.
#[napi]
pub fn loopback_pair() -> Result<Vec<i32>> {
    let (near, far) = tcp_pair()
        .or_else(|_| unix_pair())
        .map_err(|error| Error::from_reason(error.to_string()))?;
    Ok(vec![near.into_raw_fd(), far.into_raw_fd()])
}

fn tcp_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // An accepted socket inherits the size of its receive buffer.
    sockopt::set_socket_recv_buffer_size(&listener, BUFFER)?;
    sockopt::set_socket_timeout(&listener, Timeout::Recv, Some(CONNECT_TIMEOUT))?;
    let near = TcpStream::connect_timeout(&listener.local_addr()?, CONNECT_TIMEOUT)?;
    // Without this, a second small write waits for the acknowledgement of the first one.
    near.set_nodelay(true)?;
    near.set_nonblocking(true)?;
    sockopt::set_socket_send_buffer_size(&near, BUFFER)?;
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let far = loop {
        let (far, peer) = listener.accept()?;
        if peer == near.local_addr()? {
            break far;
        }
        // Another process has connected to this port.
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    };
    far.set_read_timeout(Some(READ_TIMEOUT))?;
    Ok((near.into(), far.into()))
}

fn unix_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (near, far) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&near, true)?;
    sockopt::set_socket_send_buffer_size(&near, BUFFER)?;
    sockopt::set_socket_timeout(&far, Timeout::Recv, Some(READ_TIMEOUT))?;
    Ok((near, far))
}
