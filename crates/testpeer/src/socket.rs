//! A socket on which blocked threads can be cancelled.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags,
        SocketType, recv, send, socket_with, sockopt,
    },
};

use crate::{command::Tuning, reply::Failure};

/// An address to listen on or connect to.
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(SocketAddrUnix),
}

impl Address {
    pub(crate) fn new(
        host: Option<&str>,
        port: Option<u16>,
        path: Option<&str>,
    ) -> Result<Self, Failure> {
        match (port, path) {
            (Some(port), None) => {
                let host = host.unwrap_or("127.0.0.1");
                let ip: IpAddr = host
                    .parse()
                    .map_err(|_| Failure::new(format!("not an IP address: {host}")))?;
                Ok(Self::Tcp(SocketAddr::new(ip, port)))
            }
            (None, Some(path)) if host.is_none() => Ok(Self::Unix(SocketAddrUnix::new(path)?)),
            _ => Err(Failure::new(
                "either a port, with or without a host, or a path is needed",
            )),
        }
    }

    pub(crate) fn any(self) -> SocketAddrAny {
        match self {
            Self::Tcp(address) => address.into(),
            Self::Unix(address) => address.into(),
        }
    }

    /// A blocking socket of the address family.
    pub(crate) fn socket(&self) -> Result<OwnedFd, Errno> {
        let family = match self {
            Self::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Self::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Self::Unix(_) => AddressFamily::UNIX,
        };
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
    }
}

/// Sets the given socket options. The kernel doubles buffer sizes.
pub(crate) fn tune(fd: &OwnedFd, tuning: &Tuning) -> Result<(), Errno> {
    if let Some(bytes) = tuning.rcvbuf {
        sockopt::set_socket_recv_buffer_size(fd, bytes)?;
    }
    if let Some(bytes) = tuning.sndbuf {
        sockopt::set_socket_send_buffer_size(fd, bytes)?;
    }
    if let Some(nodelay) = tuning.nodelay {
        sockopt::set_tcp_nodelay(fd, nodelay)?;
    }
    Ok(())
}

/// A non-blocking socket, shared by its threads.
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    wake: OwnedFd,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self {
            fd,
            wake,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        })
    }

    /// Cancels all waits of all threads, now and later.
    pub(crate) fn cancel(&self) -> Result<(), Errno> {
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).map(drop)
    }

    /// Waits until the socket is ready. A cancellation takes precedence and gives `ECANCELED`.
    pub(crate) fn ready(&self, events: PollFlags) -> Result<(), Errno> {
        let mut fds = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.fd, events),
        ];
        poll_until(&mut fds, None)
    }

    /// Waits for `duration`, or until it is cancelled.
    pub(crate) fn pause(&self, duration: Duration) -> Result<(), Errno> {
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
        poll_until(&mut fds, Some(Instant::now() + duration))
    }

    pub(crate) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            self.ready(PollFlags::IN)?;
            match recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((count, _)) => {
                    self.received.fetch_add(count as u64, Ordering::Relaxed);
                    return Ok(count);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Sends as many bytes as the kernel accepts in one call.
    pub(crate) fn send(&self, bytes: &[u8], flags: SendFlags) -> Result<usize, Errno> {
        loop {
            self.ready(PollFlags::OUT)?;
            match send(&self.fd, bytes, flags | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.sent.fetch_add(count as u64, Ordering::Relaxed);
                    return Ok(count);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Polls until `deadline`. The first descriptor is the one that cancels.
fn poll_until(fds: &mut [PollFd<'_>], deadline: Option<Instant>) -> Result<(), Errno> {
    loop {
        let timeout = deadline
            .map(|deadline| Timespec::try_from(deadline.saturating_duration_since(Instant::now())))
            .transpose()
            .map_err(|_| Errno::INVAL)?;
        match poll(fds, timeout.as_ref()) {
            Ok(_) if !fds[0].revents().is_empty() => return Err(Errno::CANCELED),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
