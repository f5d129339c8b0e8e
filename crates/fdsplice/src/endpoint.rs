//! A descriptor, and what the kernel can do with it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::error::EndpointError;

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A TCP socket, or another stream socket of the internet families.
    Tcp,
    /// A Unix stream socket, or a stream socket of another family without a reset.
    UnixStream,
}

/// One end of a transfer: a descriptor that the transfer owns alone.
///
/// [`Endpoint::duplicate`] leaves the caller's descriptor with the caller, and whatever happens to
/// that number afterwards (closed, reused) cannot reach the transfer. A duplicate shares the open
/// file description: flags, position and shutdown are common to both. [`Endpoint::try_from`] takes
/// a descriptor over.
#[derive(Debug)]
pub struct Endpoint {
    fd: OwnedFd,
    kind: Kind,
    nonblocking: bool,
    identity: (u64, u64),
    handed_over: bool,
    write_ended: bool,
}

impl Endpoint {
    /// Duplicates a descriptor (close-on-exec) and finds out what it is.
    ///
    /// A relay passes only a clean end on to such an end; what a failure means to its peer stays
    /// with the caller, unless [`Endpoint::handed_over`] says otherwise.
    ///
    /// # Errors
    /// [`EndpointError::System`] for a closed descriptor or when no duplicate can be had,
    /// [`EndpointError::Unsupported`] for anything but a stream socket that is not listening.
    pub fn duplicate(fd: impl AsFd) -> Result<Self, EndpointError> {
        let duplicate = fcntl_dupfd_cloexec(fd, 0).map_err(failed("fcntl"))?;
        Self::inspect(duplicate, false)
    }

    /// Whether the socket behind this end belongs to the transfer. A relay then sets `TCP_NODELAY`
    /// on it, and resets it when it fails, so that a truncated stream never looks complete to its
    /// peer. On for a descriptor that was taken over, off for a duplicate. Only TCP has either.
    #[must_use]
    pub fn handed_over(mut self, handed_over: bool) -> Self {
        self.handed_over = handed_over;
        self
    }

    /// Says that the socket was already shut down for writing: a relay then moves nothing into it,
    /// and that direction starts at its end.
    #[must_use]
    pub fn write_ended(mut self, write_ended: bool) -> Self {
        self.write_ended = write_ended;
        self
    }

    /// What the descriptor refers to.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether both are the same socket, perhaps through two descriptors.
    pub fn same_as(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// Whether the open file description has `O_NONBLOCK`. Where it has not, splicing *into* it
    /// could block the worker (`SPLICE_F_NONBLOCK` does not reach the socket).
    pub(crate) fn nonblocking(&self) -> bool {
        self.nonblocking
    }

    /// Whether the transfer owns a connection that has a reset.
    pub(crate) fn resets(&self) -> bool {
        self.handed_over && self.kind == Kind::Tcp
    }

    pub(crate) fn is_write_ended(&self) -> bool {
        self.write_ended
    }

    /// From here on closing the last descriptor of the socket resets it, and unsent bytes are
    /// purged (`socket(7)`, `SO_LINGER`). Nothing where there is no reset.
    pub(crate) fn prepare_reset(&self) {
        if self.resets()
            && let Err(errno) = sockopt::set_socket_linger(self, Some(Duration::ZERO))
        {
            tracing::debug!(%errno, "no reset could be prepared");
        }
    }

    fn inspect(fd: OwnedFd, owned: bool) -> Result<Self, EndpointError> {
        let stat = fstat(&fd).map_err(failed("fstat"))?;
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => return Self::inspect_socket(fd, (stat.st_dev, stat.st_ino), owned),
            FileType::RegularFile => "a regular file",
            FileType::Directory => "a directory",
            FileType::Fifo => "a pipe",
            FileType::CharacterDevice => "a character device",
            FileType::BlockDevice => "a block device",
            _ => "something else",
        };
        Err(EndpointError::Unsupported(found))
    }

    fn inspect_socket(
        fd: OwnedFd,
        identity: (u64, u64),
        owned: bool,
    ) -> Result<Self, EndpointError> {
        match sockopt::socket_type(&fd).map_err(failed("getsockopt"))? {
            SocketType::STREAM => {}
            SocketType::DGRAM => return Err(EndpointError::Unsupported("a datagram socket")),
            // A splice shorter than a packet would lose the packet's rest.
            SocketType::SEQPACKET => {
                return Err(EndpointError::Unsupported("a sequenced-packet socket"));
            }
            _ => return Err(EndpointError::Unsupported("a raw socket")),
        }
        if sockopt::socket_acceptconn(&fd).map_err(failed("getsockopt"))? {
            return Err(EndpointError::Unsupported("a listening socket"));
        }
        let kind = match sockopt::socket_domain(&fd).map_err(failed("getsockopt"))? {
            AddressFamily::INET | AddressFamily::INET6 => Kind::Tcp,
            _ => Kind::UnixStream,
        };
        let nonblocking = fcntl_getfl(&fd)
            .map_err(failed("fcntl"))?
            .contains(OFlags::NONBLOCK);
        Ok(Self {
            fd,
            kind,
            nonblocking,
            identity,
            handed_over: owned,
            write_ended: false,
        })
    }
}

impl TryFrom<OwnedFd> for Endpoint {
    type Error = EndpointError;

    /// Takes a descriptor over; it is closed when the transfer ends, or here on an error.
    ///
    /// Set `O_NONBLOCK` first: bytes for a blocking socket cannot be spliced without blocking, and
    /// go through a buffer instead.
    fn try_from(fd: OwnedFd) -> Result<Self, EndpointError> {
        Self::inspect(fd, true)
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Endpoint {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> EndpointError {
    move |errno| EndpointError::System { errno, syscall }
}
