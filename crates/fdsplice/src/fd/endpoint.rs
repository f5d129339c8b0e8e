//! A descriptor as one end of a transfer, with its kind and its possible roles.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, makedev, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::termios::isatty;

use super::pseudo::true_size_of;
use crate::error::EndpointError;
use crate::fd::descriptor::{Descriptor, Status, known_size};
use crate::fd::facts::{Facts, FdRef, Kind, Role, STREAM_SOCKET, reset_on_close};
use crate::threads::{BackgroundCall, Lane, Running};

/// One end of a transfer: a descriptor that only the transfer owns.
///
/// [`Endpoint::duplicate`] leaves the caller's descriptor with the caller. When that number is
/// closed or reused later, the transfer is not affected. A duplicate shares the open file
/// description, so flags, position and shutdown are common to both. [`Endpoint::try_from`] takes
/// ownership of a descriptor.
#[derive(Debug)]
pub struct Endpoint {
    fd: Descriptor,
    facts: Facts,
    /// Device and inode; `None` when they were not queried.
    identity: Option<(u64, u64)>,
}

impl Endpoint {
    /// Duplicates a descriptor (close-on-exec) and determines its kind.
    ///
    /// A relay passes only a clean end on to such an endpoint. After a failure, the caller decides
    /// what its peer sees, unless [`Endpoint::handed_over`] is set.
    ///
    /// # Errors
    /// [`EndpointError::System`] when the descriptor is closed or cannot be duplicated.
    /// [`EndpointError::Unsupported`] for a descriptor without a stream of bytes: datagram and
    /// listening sockets, directories, event descriptors and the like.
    pub fn duplicate(fd: impl AsFd) -> Result<Self, EndpointError> {
        let duplicate = fcntl_dupfd_cloexec(fd, 0).map_err(failed("fcntl"))?;
        Self::inspect(duplicate, false)
    }

    /// Duplicates a descriptor that the caller knows to be a connected TCP socket with `O_NONBLOCK`.
    /// This saves five system calls, which matters to a proxy of many short connections.
    ///
    /// # Errors
    /// [`EndpointError::System`] when the descriptor is closed or cannot be duplicated.
    pub fn duplicate_nonblocking_tcp(fd: impl AsFd) -> Result<Self, EndpointError> {
        let duplicate = fcntl_dupfd_cloexec(fd, 0).map_err(failed("fcntl"))?;
        Ok(Self::uninspected(
            duplicate,
            Facts::of_nonblocking_socket(Kind::Tcp),
        ))
    }

    /// Takes the only descriptor of a connected TCP socket with `O_NONBLOCK`, for example one that
    /// `accept4` has returned. The transfer owns the socket. A relay that fails resets it; `copy` and
    /// `send_file` do not. Nothing is inspected, and closing the descriptor ends the connection, so a
    /// relay makes fewer system calls than with [`Endpoint::try_from`].
    ///
    /// A descriptor of another kind fails during the transfer, and a blocking socket may block it. If
    /// the socket has another descriptor, its peer may see no end of input. With a linger time of 0
    /// (`SO_LINGER`), it may see a reset instead of the end.
    pub fn sole_nonblocking_tcp(fd: OwnedFd) -> Self {
        Self::uninspected(fd, Facts::of_nonblocking_socket(Kind::Tcp).owned_alone())
    }

    pub(super) fn uninspected(fd: OwnedFd, facts: Facts) -> Self {
        Self {
            fd: Descriptor::local(fd),
            facts,
            identity: None,
        }
    }

    /// Whether the socket of this endpoint belongs to the transfer. A relay then sets `TCP_NODELAY`
    /// on it, and resets it on failure, so that a truncated stream never looks complete to its peer.
    /// Default: `true` for a descriptor whose ownership was taken, `false` for a duplicate. This
    /// affects TCP only.
    #[must_use]
    pub fn handed_over(mut self, handed_over: bool) -> Self {
        self.facts.handed_over = handed_over;
        self
    }

    /// Whether the socket was already shut down for writing. A relay then starts the direction to it
    /// as ended. A head for it fails with `EPIPE`.
    #[must_use]
    pub fn write_ended(mut self, write_ended: bool) -> Self {
        self.facts.write_ended = write_ended;
        self
    }

    /// The kind of file that the descriptor refers to.
    pub fn kind(&self) -> Kind {
        self.facts.kind()
    }

    /// Checks that the endpoint can take a role.
    ///
    /// # Errors
    /// [`EndpointError::Unsupported`] with a text that names what was found instead.
    pub fn require(&self, role: Role) -> Result<(), EndpointError> {
        self.facts.require(role)
    }

    /// Whether every write appends to the file (`O_APPEND`).
    pub fn appends(&self) -> bool {
        self.facts.appends()
    }

    /// Whether both endpoints are the same socket, pipe or file, perhaps through two descriptors.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.identity.is_some() && self.identity == other.identity
    }

    /// Whether both endpoints are one socket, or the two ends of one pipe. Such a transfer would read
    /// its own output and is refused. Two ranges of one file are allowed.
    pub fn is_itself(&self, other: &Self) -> bool {
        (self.facts.is_socket() || self.facts.is_pipe()) && self.same_as(other)
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts
    }

    /// The descriptor, and what is known of it.
    pub(crate) fn as_ref(&self) -> FdRef<'_> {
        FdRef::new(self.fd.as_fd(), self.facts)
    }

    pub(super) fn with_facts(self, facts: Facts) -> Self {
        Self { facts, ..self }
    }

    /// The slot from which the registration takes the descriptor of a socket, pipe or terminal.
    pub(super) fn local_fd(&mut self) -> &mut Option<OwnedFd> {
        self.fd.slot()
    }

    /// The device of the file system on which calls of this endpoint may block; 0 if none does.
    pub(crate) fn blocks_on(&self) -> u64 {
        match self.identity {
            Some((device, _)) if !self.facts.is_pollable() => device,
            _ => 0,
        }
    }

    /// Closes it. Returns the call if that may block.
    pub(crate) fn close(self) -> Option<Running<()>> {
        self.fd.close()
    }

    /// Whether it is a file on a file system that may have a server, as FUSE and NFS do. Querying
    /// its size may then block for as long as the server does not answer.
    pub fn is_remote(&self) -> bool {
        self.fd.is_remote()
    }

    /// The size of a file as the kernel knows it; 0 if it knows none. This does not wait for a server.
    pub fn known_size(&self) -> u64 {
        known_size(self).unwrap_or(0)
    }

    /// Queries the size of a file on a thread of the core, from which `done` is called with it.
    ///
    /// # Errors
    /// [`EndpointError::System`] when there is no descriptor for a duplicate, or no thread.
    pub fn size_in_background(
        &self,
        done: impl FnOnce(Result<u64, EndpointError>) + Send + 'static,
    ) -> Result<BackgroundCall, EndpointError> {
        let file = Self::duplicate(self)?;
        let lane = Lane::Files(file.blocks_on(), 0);
        let size = move || {
            let found = fstat(&file).map_err(failed("fstat"))?;
            Ok(true_size_of(file.as_fd(), &found))
        };
        BackgroundCall::start(lane, size, done).map_err(failed("clone"))
    }

    /// After this call, closing the last descriptor of a TCP socket resets the connection and purges
    /// unsent bytes (`socket(7)`, `SO_LINGER`). This is for a socket whose relay cannot start because
    /// its descriptor cannot be duplicated.
    pub fn reset_on_close(socket: impl AsFd) {
        reset_on_close(socket);
    }

    fn inspect(fd: OwnedFd, handed_over: bool) -> Result<Self, EndpointError> {
        let status = Status::of(&fd).map_err(failed("fstat"))?;
        let fd = Descriptor::new(fd, &status);
        let flags = fcntl_getfl(&fd).map_err(failed("fcntl"))?;
        if flags.contains(OFlags::PATH) {
            return Err(not_a_stream("opened with O_PATH"));
        }
        let kind = match status.file_type {
            FileType::Socket => socket_kind(&fd)?,
            FileType::RegularFile | FileType::BlockDevice => Kind::File,
            FileType::Fifo => Kind::Pipe,
            FileType::CharacterDevice if isatty(&fd) => Kind::Tty,
            FileType::CharacterDevice => Kind::Device,
            FileType::Directory => return Err(not_a_stream("a directory")),
            // eventfd, epoll, signalfd and timerfd descriptors have no file type.
            _ => return Err(not_a_stream("not a stream of bytes")),
        };
        let identity = Some(status.identity);
        let mut facts = Facts::new(kind, flags);
        facts.handed_over = handed_over;
        let endpoint = Self {
            fd,
            facts,
            identity,
        };
        let pty_master = status.device == makedev(5, 2);
        Ok(match kind {
            Kind::Pipe => endpoint.without_blocking(),
            // Opening the master of a pseudo-terminal again makes a new pseudo-terminal.
            Kind::Tty if !pty_master => endpoint.without_blocking(),
            _ => endpoint,
        })
    }

    /// Replaces a blocking descriptor with a second, non-blocking open file description of the same
    /// pipe or terminal. `O_NONBLOCK` is never set on the original description, because other
    /// processes share it, for example the parent shell.
    fn without_blocking(mut self) -> Self {
        if !self.facts.is_nonblocking() {
            let path = format!("/proc/self/fd/{}", self.as_raw_fd());
            let flags = (self.facts.flags() & OFlags::RWMODE) | OFlags::NONBLOCK;
            let reopened = open(
                path,
                flags | OFlags::CLOEXEC | OFlags::NOCTTY,
                Mode::empty(),
            );
            // The blocking descriptor is kept in two cases. The reopen has failed. Or all writers of
            // the FIFO have closed it: a new description would wait for the next writer, and never
            // report the end of input.
            if let Ok(fd) = reopened
                && !hung_up(&self.fd)
            {
                self.fd = Descriptor::local(fd);
                self.facts = self.facts.with_flags(flags);
            }
        }
        self
    }
}

fn not_a_stream(found: &'static str) -> EndpointError {
    EndpointError::Unsupported {
        expected: "a stream of bytes (a connected socket, a pipe, a file, a terminal or a device)",
        found,
    }
}

fn not_a_stream_socket(found: &'static str) -> EndpointError {
    EndpointError::Unsupported {
        expected: STREAM_SOCKET,
        found,
    }
}

fn hung_up(fd: &Descriptor) -> bool {
    let mut ends = [PollFd::new(fd, PollFlags::empty())];
    let polled = retry_on_intr(|| poll(&mut ends, Some(&Timespec::default())));
    polled.is_ok() && ends[0].revents().contains(PollFlags::HUP)
}

pub(crate) fn socket_kind(fd: impl AsFd) -> Result<Kind, EndpointError> {
    let fd = fd.as_fd();
    match sockopt::socket_type(fd).map_err(failed("getsockopt"))? {
        SocketType::STREAM => {}
        SocketType::DGRAM => return Err(not_a_stream_socket("a datagram socket")),
        // A splice shorter than a packet would lose the rest of the packet.
        SocketType::SEQPACKET => {
            return Err(not_a_stream_socket("a sequenced-packet socket"));
        }
        _ => return Err(not_a_stream_socket("a raw socket")),
    }
    if sockopt::socket_acceptconn(fd).map_err(failed("getsockopt"))? {
        return Err(not_a_stream_socket("a listening socket"));
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

    /// Takes ownership of a descriptor. It is closed when the transfer ends, or here on an error.
    ///
    /// Set `O_NONBLOCK` first. Splicing into a blocking socket could block, so its bytes go through
    /// a buffer.
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
        self.fd.as_fd().as_raw_fd()
    }
}

fn failed(syscall: &'static str) -> impl Fn(Errno) -> EndpointError {
    move |errno| EndpointError::System { errno, syscall }
}
