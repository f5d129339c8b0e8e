//! One end of a transfer, registered with the reactor of a tokio runtime.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use rustix::fs::OFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

use crate::error::EndpointError;
use crate::fd::Endpoint;
use crate::fd::descriptor::Status;
use crate::fd::facts::{Facts, FdRef, Kind, Role};
use crate::fd::registration::{Registration, Waiting};

/// The result of a call, and whether the descriptor is no longer ready.
pub(crate) type Attempt<T> = (T, bool);

/// One end of a transfer: an [`Endpoint`], or a socket or pipe of tokio, by value or borrowed. The
/// functions of this crate convert each of them.
///
/// A borrowed end is a `&mut TcpStream` or `&mut UnixStream`, and for [`copy`](crate::copy()) also a
/// [`&mut pipe::Receiver`](pipe::Receiver) or [`&mut pipe::Sender`](pipe::Sender). It stays open, and
/// keeps its registration with the reactor of tokio. A relay that fails does not reset it unless
/// [`TransferEnd::handed_over`] is set, so its peer may see a clean end when the caller drops it.
///
/// A `TcpStream` or `UnixStream` by value belongs to the transfer, which closes it at the end. A relay
/// that fails resets a TCP socket; `copy` and `send_file` do not. The socket must have no other
/// descriptor and no `SO_LINGER`, because closing this descriptor has to end the connection: with a
/// linger time of 0 that is a reset. If it has, use [`Endpoint::try_from`].
///
/// A transfer reads and writes the descriptor itself. Bytes in a `BufReader` around a socket are not
/// part of it: pass them as the head in the options.
///
/// # Out-of-band bytes
/// tokio does not report an out-of-band byte (`MSG_OOB`) of its own sockets. A read ends in
/// front of such a byte, and the bytes behind it wait until more bytes arrive. An [`Endpoint`] has no
/// such wait.
#[derive(Debug)]
pub struct TransferEnd<'a> {
    io: Io<'a>,
    pub(super) facts: Facts,
    /// Whether the peer of a TCP socket had ended its output before its reset.
    pub(super) ended_before_reset: AtomicBool,
}

#[derive(Debug)]
enum Io<'a> {
    /// Registered when its transfer starts, by the runtime that runs the transfer. On the heap, because
    /// most transfers outlast this state.
    Unregistered(Box<Endpoint>),
    Own(AsyncFd<OwnedFd>),
    Tcp(TcpStream),
    Unix(UnixStream),
    Borrowed(&'a dyn Registration),
}

impl From<Endpoint> for TransferEnd<'_> {
    fn from(endpoint: Endpoint) -> Self {
        let facts = endpoint.facts();
        Self::new(Io::Unregistered(Box::new(endpoint)), facts)
    }
}

impl From<TcpStream> for TransferEnd<'_> {
    fn from(socket: TcpStream) -> Self {
        let facts = Facts::of_nonblocking_socket(Kind::Tcp);
        Self::new(Io::Tcp(socket), facts.owned_alone())
    }
}

impl From<UnixStream> for TransferEnd<'_> {
    fn from(socket: UnixStream) -> Self {
        let facts = Facts::of_nonblocking_socket(Kind::UnixStream);
        Self::new(Io::Unix(socket), facts.owned_alone())
    }
}

impl<'a> From<&'a mut TcpStream> for TransferEnd<'a> {
    fn from(socket: &'a mut TcpStream) -> Self {
        let facts = Facts::of_nonblocking_socket(Kind::Tcp);
        Self::new(Io::Borrowed(socket), facts)
    }
}

impl<'a> From<&'a mut UnixStream> for TransferEnd<'a> {
    fn from(socket: &'a mut UnixStream) -> Self {
        let facts = Facts::of_nonblocking_socket(Kind::UnixStream);
        Self::new(Io::Borrowed(socket), facts)
    }
}

impl<'a> From<&'a mut pipe::Receiver> for TransferEnd<'a> {
    fn from(pipe: &'a mut pipe::Receiver) -> Self {
        Self::new(
            Io::Borrowed(pipe),
            Facts::of_nonblocking_pipe(OFlags::RDONLY),
        )
    }
}

impl<'a> From<&'a mut pipe::Sender> for TransferEnd<'a> {
    fn from(pipe: &'a mut pipe::Sender) -> Self {
        Self::new(
            Io::Borrowed(pipe),
            Facts::of_nonblocking_pipe(OFlags::WRONLY),
        )
    }
}

impl<'a> TransferEnd<'a> {
    fn new(io: Io<'a>, facts: Facts) -> Self {
        Self {
            io,
            facts,
            ended_before_reset: AtomicBool::new(false),
        }
    }

    /// Whether the socket belongs to the transfer: see [`Endpoint::handed_over`]. Default: `false` for
    /// a borrowed socket, `true` for a socket by value.
    ///
    /// A failed relay sets `SO_LINGER` of a borrowed TCP socket that is handed over. The connection is
    /// then reset when the caller drops the socket.
    #[must_use]
    pub fn handed_over(mut self, handed_over: bool) -> Self {
        self.facts.handed_over = handed_over;
        self
    }

    /// As [`Endpoint::write_ended`].
    #[must_use]
    pub fn write_ended(mut self, write_ended: bool) -> Self {
        self.facts.write_ended = write_ended;
        self
    }

    /// The kind of file that the descriptor refers to.
    pub fn kind(&self) -> Kind {
        self.facts.kind()
    }

    pub(crate) fn require(&self, role: Role) -> Result<(), EndpointError> {
        self.facts.require(role)
    }

    pub(crate) fn facts(&self) -> Facts {
        self.facts
    }

    /// Whether both ends are one socket, or the two ends of one pipe, perhaps through two descriptors.
    pub(crate) fn is_itself(&self, other: &TransferEnd<'_>) -> bool {
        if let Some((this, other)) = self.endpoint().zip(other.endpoint()) {
            return this.is_itself(other);
        }
        let is_stream = self.facts.is_socket() || self.facts.is_pipe();
        is_stream && self.kind() == other.kind() && {
            let identity = |end: &TransferEnd<'_>| Status::of(end).ok().map(|it| it.identity);
            let this = identity(self);
            this.is_some() && this == identity(other)
        }
    }

    /// The descriptor, and what is known of it.
    pub(crate) fn as_ref(&self) -> FdRef<'_> {
        FdRef::new(self.as_fd(), self.facts)
    }

    /// Registers the descriptor with the reactor of the current runtime, unless it is registered. After
    /// a failure the descriptor is still open.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub(crate) fn register(&mut self) -> Result<(), Errno> {
        let Io::Unregistered(endpoint) = &mut self.io else {
            return Ok(());
        };
        let Some(fd) = endpoint.local_fd().take() else {
            return Err(Errno::BADF);
        };
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        #[allow(
            unsafe_code,
            reason = "tokio requires a guarantee about the descriptor"
        )]
        // SAFETY: an `OwnedFd` never changes its descriptor, which refers to the same open file until
        // it is dropped together with the registration.
        let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
        match registered {
            Ok(registered) => {
                self.io = Io::Own(registered);
                Ok(())
            }
            Err(failure) => {
                let (fd, error) = failure.into_parts();
                *endpoint.local_fd() = Some(fd);
                Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
            }
        }
    }

    /// The end without a borrow. A borrowed descriptor is duplicated, and registered again later.
    pub(crate) fn into_owned(self) -> Result<TransferEnd<'static>, Errno> {
        let io = match self.io {
            Io::Unregistered(endpoint) => Io::Unregistered(endpoint),
            Io::Own(fd) => Io::Own(fd),
            Io::Tcp(socket) => Io::Tcp(socket),
            Io::Unix(socket) => Io::Unix(socket),
            Io::Borrowed(registration) => {
                let duplicate = fcntl_dupfd_cloexec(registration, 0)?;
                Io::Unregistered(Box::new(Endpoint::uninspected(duplicate, self.facts)))
            }
        };
        Ok(TransferEnd::new(io, self.facts))
    }

    /// The endpoint, if it is not registered yet.
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        match &self.io {
            Io::Unregistered(endpoint) => Some(endpoint),
            _ => None,
        }
    }

    /// The endpoint, if it is not registered yet.
    pub(crate) fn into_endpoint(self) -> Result<Endpoint, Self> {
        match self.io {
            Io::Unregistered(endpoint) => Ok(endpoint.with_facts(self.facts)),
            io => Err(Self { io, ..self }),
        }
    }

    fn registration(&self) -> &dyn Registration {
        match &self.io {
            Io::Unregistered(_) => unreachable!("an end is registered when its transfer starts"),
            Io::Own(fd) => fd,
            Io::Tcp(socket) => socket,
            Io::Unix(socket) => socket,
            Io::Borrowed(registration) => *registration,
        }
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        self.registration()
            .poll_readable(cx)
            .map_err(|error| errno_of(&error))
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        self.registration()
            .poll_writable(cx)
            .map_err(|error| errno_of(&error))
    }

    /// Makes one call on a descriptor that was reported ready. If the call finds it not ready, the
    /// report is cleared, unless a new one has arrived since. `None`: no report, and no call.
    pub(crate) fn attempt<T>(
        &self,
        interest: Interest,
        call: impl FnOnce() -> Attempt<T>,
    ) -> Option<T> {
        let mut call = Some(call);
        let mut found = None;
        // A failure only says that the report was cleared or missing.
        let _ = self.registration().try_io(interest, &mut || {
            let (result, is_over) = call.take().map(|call| call()).ok_or(io::ErrorKind::Other)?;
            found = Some(result);
            if is_over {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        found
    }

    /// Whether an out-of-band byte or the end of input was reported. The reactor does not distinguish
    /// them. A short read then does not prove that the socket is empty, because reads
    /// stop in front of the out-of-band byte.
    pub(crate) fn is_urgent(&self) -> bool {
        self.registration().is_reported(Interest::PRIORITY)
    }

    /// Whether `EAGAIN` from a splice of this source may come from an out-of-band byte.
    pub(crate) fn may_be_urgent(&self) -> bool {
        !self.registration().reports_urgent() || self.is_urgent()
    }

    pub(super) fn is_reported(&self, interest: Interest) -> bool {
        self.registration().is_reported(interest)
    }

    pub(super) fn wait_for(&self, interest: Interest) -> Waiting<'_> {
        self.registration().wait_for(interest)
    }
}

impl AsFd for TransferEnd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.io {
            Io::Unregistered(fd) => fd.as_fd(),
            Io::Own(fd) => fd.as_fd(),
            Io::Tcp(socket) => socket.as_fd(),
            Io::Unix(socket) => socket.as_fd(),
            Io::Borrowed(registration) => registration.as_fd(),
        }
    }
}

fn errno_of(error: &io::Error) -> Errno {
    // Without a number: the runtime of the registration has ended.
    Errno::from_io_error(error).unwrap_or(Errno::CANCELED)
}
