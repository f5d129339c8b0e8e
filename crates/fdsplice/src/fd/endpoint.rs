//! A descriptor, and what the kernel can do with it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, makedev, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::termios::isatty;

use crate::error::EndpointError;

/// What a descriptor refers to.
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

/// What an end is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To be read from by [`copy`](crate::copy()).
    Source,
    /// To be written to by [`copy`](crate::copy()).
    Destination,
    /// Either end of a [`relay`](crate::relay()).
    Relay,
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
    flags: OFlags,
    /// Unknown where nobody has asked.
    identity: Option<(u64, u64)>,
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
    /// [`EndpointError::Unsupported`] for what has no stream of bytes: datagram and listening
    /// sockets, directories, event descriptors and the like.
    pub fn duplicate(fd: impl AsFd) -> Result<Self, EndpointError> {
        let duplicate = fcntl_dupfd_cloexec(fd, 0).map_err(failed("fcntl"))?;
        Self::inspect(duplicate, false)
    }

    /// Duplicates a descriptor of which the caller knows that it is a connected TCP socket with
    /// `O_NONBLOCK`: five system calls less, for who relays many short connections.
    ///
    /// # Errors
    /// [`EndpointError::System`] for a closed descriptor or when no duplicate can be had.
    pub fn duplicate_nonblocking_tcp(fd: impl AsFd) -> Result<Self, EndpointError> {
        Ok(Self {
            fd: fcntl_dupfd_cloexec(fd, 0).map_err(failed("fcntl"))?,
            kind: Kind::Tcp,
            flags: OFlags::RDWR | OFlags::NONBLOCK,
            identity: None,
            handed_over: false,
            write_ended: false,
        })
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

    /// Checks that the end can play a role.
    ///
    /// # Errors
    /// [`EndpointError::Unsupported`] with what it is instead.
    pub fn require(&self, role: Role) -> Result<(), EndpointError> {
        let mode = self.flags & OFlags::RWMODE;
        let found = match role {
            Role::Source if mode == OFlags::WRONLY => "open for writing only",
            Role::Destination if mode == OFlags::RDONLY => "open for reading only",
            Role::Relay if !self.is_socket() => self.kind.name(),
            _ => return Ok(()),
        };
        Err(EndpointError::Unsupported(found))
    }

    /// Whether writes go to the end of the file, wherever it is (`O_APPEND`).
    pub fn appends(&self) -> bool {
        self.flags.contains(OFlags::APPEND)
    }

    /// Whether both are the same socket, pipe or file, perhaps through two descriptors.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.identity.is_some() && self.identity == other.identity
    }

    /// Whether what is written to one comes out of the other, or both are one socket: no transfer
    /// can serve them. Two parts of one file are another matter.
    pub fn is_itself(&self, other: &Self) -> bool {
        (self.is_socket() || self.kind == Kind::Pipe) && self.same_as(other)
    }

    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Tcp | Kind::UnixStream)
    }

    /// Whether the reactor can tell when it is ready, and no call on it blocks. A socket always is:
    /// its calls can be told not to wait.
    pub(crate) fn is_pollable(&self) -> bool {
        match self.kind {
            Kind::Tcp | Kind::UnixStream => true,
            Kind::Pipe | Kind::Tty => self.is_nonblocking(),
            Kind::File | Kind::Device => false,
        }
    }

    /// Whether the open file description has `O_NONBLOCK`. Where a socket has not, splicing into it
    /// could block the worker (`SPLICE_F_NONBLOCK` does not reach the socket).
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.flags.contains(OFlags::NONBLOCK)
    }

    /// Whether the transfer owns a connection that has a reset.
    pub(crate) fn resets(&self) -> bool {
        self.handed_over && self.kind == Kind::Tcp
    }

    pub(crate) fn is_write_ended(&self) -> bool {
        self.write_ended
    }

    /// From here on closing the last descriptor of the socket resets it. Nothing where there is no
    /// reset.
    pub(crate) fn prepare_reset(&self) {
        if self.resets() {
            Self::reset_on_close(self);
        }
    }

    /// From here on closing the last descriptor of a TCP socket resets it, and unsent bytes are
    /// purged (`socket(7)`, `SO_LINGER`): for one that was to be relayed, and of which no duplicate
    /// can be had.
    pub fn reset_on_close(socket: impl AsFd) {
        if let Err(errno) = sockopt::set_socket_linger(socket, Some(Duration::ZERO)) {
            tracing::debug!(%errno, "no reset could be prepared");
        }
    }

    fn inspect(fd: OwnedFd, handed_over: bool) -> Result<Self, EndpointError> {
        let stat = fstat(&fd).map_err(failed("fstat"))?;
        let flags = fcntl_getfl(&fd).map_err(failed("fcntl"))?;
        if flags.contains(OFlags::PATH) {
            return Err(EndpointError::Unsupported("opened with O_PATH"));
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Socket => socket_kind(&fd)?,
            FileType::RegularFile | FileType::BlockDevice => Kind::File,
            FileType::Fifo => Kind::Pipe,
            FileType::CharacterDevice if isatty(&fd) => Kind::Tty,
            FileType::CharacterDevice => Kind::Device,
            FileType::Directory => return Err(EndpointError::Unsupported("a directory")),
            // eventfd, epoll, signalfd, timerfd and their kin have no file type.
            _ => return Err(EndpointError::Unsupported("not a stream of bytes")),
        };
        let identity = Some((stat.st_dev, stat.st_ino));
        let endpoint = Self {
            fd,
            kind,
            flags,
            identity,
            handed_over,
            write_ended: false,
        };
        let pty_master = stat.st_rdev == makedev(5, 2);
        Ok(match kind {
            Kind::Pipe => endpoint.without_blocking(),
            // Opening a pseudo-terminal's master again makes a new pseudo-terminal.
            Kind::Tty if !pty_master => endpoint.without_blocking(),
            _ => endpoint,
        })
    }

    /// Swaps a blocking descriptor for a second open file description of the same pipe or terminal
    /// that does not block. `O_NONBLOCK` is never set on the one that was passed in: it belongs to
    /// everybody who shares it, a parent shell among them.
    fn without_blocking(mut self) -> Self {
        if !self.is_nonblocking() {
            let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
            let flags = (self.flags & OFlags::RWMODE) | OFlags::NONBLOCK;
            let reopened = open(
                path,
                flags | OFlags::CLOEXEC | OFlags::NOCTTY,
                Mode::empty(),
            );
            // Without permission to open it, its calls are made on a thread that may block.
            // A FIFO that is opened when its writers are gone waits for the next one, and never
            // tells of the end that the first description stands at.
            if let Ok(fd) = reopened
                && !hung_up(&self.fd)
            {
                self.fd = fd;
                self.flags = flags;
            }
        }
        self
    }
}

fn hung_up(fd: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(fd, PollFlags::empty())];
    let polled = retry_on_intr(|| poll(&mut ends, Some(&Timespec::default())));
    polled.is_ok() && ends[0].revents().contains(PollFlags::HUP)
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

pub(crate) fn socket_kind(fd: impl AsFd) -> Result<Kind, EndpointError> {
    let fd = fd.as_fd();
    match sockopt::socket_type(fd).map_err(failed("getsockopt"))? {
        SocketType::STREAM => {}
        SocketType::DGRAM => return Err(EndpointError::Unsupported("a datagram socket")),
        // A splice shorter than a packet would lose the packet's rest.
        SocketType::SEQPACKET => {
            return Err(EndpointError::Unsupported("a sequenced-packet socket"));
        }
        _ => return Err(EndpointError::Unsupported("a raw socket")),
    }
    if sockopt::socket_acceptconn(fd).map_err(failed("getsockopt"))? {
        return Err(EndpointError::Unsupported("a listening socket"));
    }
    Ok(
        match sockopt::socket_domain(fd).map_err(failed("getsockopt"))? {
            AddressFamily::INET | AddressFamily::INET6 => Kind::Tcp,
            _ => Kind::UnixStream,
        },
    )
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
