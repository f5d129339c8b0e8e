//! The kind and the flags of a descriptor, and its role in a transfer.

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::{Shutdown, connect_unspec, shutdown, sockopt};

use crate::error::EndpointError;

/// The kind of file that a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A TCP socket, or another stream socket of the internet families.
    Tcp,
    /// A Unix stream socket, or a stream socket of another family without a reset.
    UnixStream,
    /// A pipe or FIFO.
    Pipe,
    /// A terminal or pseudo-terminal.
    Tty,
    /// A regular file, also a memfd and a file of procfs or sysfs, or a block device.
    File,
    /// Another character device, such as `/dev/null`.
    Device,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Tcp => "a TCP socket",
            Kind::UnixStream => "a Unix socket",
            Kind::Pipe => "a pipe",
            Kind::Tty => "a terminal",
            Kind::File => "a regular file",
            Kind::Device => "a character device",
        }
    }
}

/// The role of an endpoint in a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// [`copy`](crate::copy()) reads from it.
    Source,
    /// [`copy`](crate::copy()) writes to it.
    Destination,
    /// One of the two ends of a [`relay`](crate::relay()).
    Relay,
}

pub(super) const STREAM_SOCKET: &str = "a connected stream socket";

/// The kind and the flags of a descriptor, and its owner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    kind: Kind,
    flags: OFlags,
    /// Whether the connection belongs to the transfer.
    pub(super) handed_over: bool,
    /// Whether the socket was already shut down for writing.
    pub(super) write_ended: bool,
    /// Whether closing the descriptor ends the connection, because no duplicate exists.
    pub(super) is_only: bool,
}

impl Facts {
    pub(super) fn new(kind: Kind, flags: OFlags) -> Self {
        Self {
            kind,
            flags,
            handed_over: false,
            write_ended: false,
            is_only: false,
        }
    }

    /// The facts of a connected, non-blocking socket.
    pub(super) fn of_nonblocking_socket(kind: Kind) -> Self {
        Self::new(kind, OFlags::RDWR | OFlags::NONBLOCK)
    }

    /// The facts of a non-blocking end of a pipe with this access mode.
    pub(super) fn of_nonblocking_pipe(mode: OFlags) -> Self {
        Self::new(Kind::Pipe, mode | OFlags::NONBLOCK)
    }

    /// The facts of the same descriptor if the transfer owns it and no duplicate exists.
    pub(super) fn owned_alone(self) -> Self {
        Self {
            handed_over: true,
            is_only: true,
            ..self
        }
    }

    pub(super) fn with_flags(self, flags: OFlags) -> Self {
        Self { flags, ..self }
    }

    pub(crate) fn kind(self) -> Kind {
        self.kind
    }

    pub(super) fn flags(self) -> OFlags {
        self.flags
    }

    /// Checks that a descriptor can take a role. The error names what was found instead.
    pub(crate) fn require(self, role: Role) -> Result<(), EndpointError> {
        let mode = self.flags & OFlags::RWMODE;
        let (expected, found) = match role {
            Role::Source if mode == OFlags::WRONLY => {
                ("a readable descriptor", "open for writing only")
            }
            Role::Destination if mode == OFlags::RDONLY => {
                ("a writable descriptor", "open for reading only")
            }
            Role::Relay if !self.is_socket() => (STREAM_SOCKET, self.kind.name()),
            _ => return Ok(()),
        };
        Err(EndpointError::Unsupported { expected, found })
    }

    /// Whether every write appends to the file (`O_APPEND`).
    pub(crate) fn appends(self) -> bool {
        self.flags.contains(OFlags::APPEND)
    }

    pub(crate) fn is_socket(self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::UnixStream)
    }

    pub(crate) fn is_pipe(self) -> bool {
        self.kind == Kind::Pipe
    }

    /// Whether the reactor can report its readiness, and no call on it blocks. This is true for every
    /// socket, because a flag makes each call on it non-blocking.
    pub(crate) fn is_pollable(self) -> bool {
        match self.kind {
            Kind::Tcp | Kind::UnixStream => true,
            Kind::Pipe | Kind::Tty => self.is_nonblocking(),
            Kind::File | Kind::Device => false,
        }
    }

    /// Whether the open file description has `O_NONBLOCK`. Without it, splicing into a socket could
    /// block the worker, because `SPLICE_F_NONBLOCK` does not apply to the socket.
    pub(crate) fn is_nonblocking(self) -> bool {
        self.flags.contains(OFlags::NONBLOCK)
    }

    /// Whether the transfer owns the connection and can reset it.
    pub(crate) fn resets(self) -> bool {
        self.handed_over && self.kind == Kind::Tcp
    }

    pub(crate) fn is_write_ended(self) -> bool {
        self.write_ended
    }

    /// Whether the transfer owns the only descriptor of the socket, so that closing it sends FIN.
    pub(crate) fn ends_by_close(self) -> bool {
        self.handed_over && self.is_only
    }
}

/// A borrowed descriptor, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FdRef<'a> {
    fd: BorrowedFd<'a>,
    facts: Facts,
}

impl<'a> FdRef<'a> {
    pub(super) fn new(fd: BorrowedFd<'a>, facts: Facts) -> Self {
        Self { fd, facts }
    }

    /// Ends the connection of a socket for every owner, TCP with a reset if `reset` is set. A call that
    /// hangs keeps the socket open, so closing it would have no effect on its peer.
    pub(crate) fn break_off(self, reset: bool) {
        let broken = match self.kind {
            Kind::Tcp if reset => connect_unspec(self).or_else(|_| shutdown(self, Shutdown::Both)),
            Kind::Tcp | Kind::UnixStream => shutdown(self, Shutdown::Both),
            _ => Ok(()),
        };
        if let Err(errno) = broken {
            tracing::debug!(%errno, "breaking off a connection failed");
        }
    }

    /// After this call, closing the last descriptor of the socket resets the connection. Does nothing
    /// when the transfer cannot reset it.
    pub(crate) fn prepare_reset(self) {
        if self.resets() {
            reset_on_close(self);
        }
    }
}

impl Deref for FdRef<'_> {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

impl AsFd for FdRef<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd
    }
}

/// After this call, closing the last descriptor of a TCP socket resets the connection and purges
/// unsent bytes (`socket(7)`, `SO_LINGER`).
pub(super) fn reset_on_close(socket: impl AsFd) {
    if let Err(errno) = sockopt::set_socket_linger(socket, Some(Duration::ZERO)) {
        tracing::debug!(%errno, "setting SO_LINGER for a reset failed");
    }
}
