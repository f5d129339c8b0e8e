//! A socket of a connection: accepted or connected, and registered when it has to be waited for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use fdsplice::TransferEnd;
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// One of the two sockets of a connection. Dropping it resets a TCP connection, because a truncated
/// stream must not look complete.
#[derive(Debug)]
pub(crate) struct Socket(Option<State>);

#[derive(Debug)]
enum State {
    Bare { fd: OwnedFd, is_tcp: bool },
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// A nonblocking socket that is registered nowhere.
    pub(crate) fn bare(fd: OwnedFd, is_tcp: bool) -> Self {
        Self(Some(State::Bare { fd, is_tcp }))
    }

    pub(crate) fn registered(socket: TcpStream) -> Self {
        Self(Some(State::Tcp(socket)))
    }

    fn is_tcp(&self) -> bool {
        matches!(
            self.0,
            Some(State::Bare { is_tcp: true, .. } | State::Tcp(_))
        )
    }

    /// Registers the socket with the reactor of the current runtime, unless it is registered. After a
    /// failure the connection is closed.
    pub(crate) fn register(&mut self) -> Result<(), Errno> {
        let Some(State::Bare { fd, is_tcp }) =
            self.0.take_if(|it| matches!(it, State::Bare { .. }))
        else {
            return Ok(());
        };
        let registered = if is_tcp {
            TcpStream::from_std(fd.into()).map(State::Tcp)
        } else {
            UnixStream::from_std(fd.into()).map(State::Unix)
        };
        match registered {
            Ok(state) => {
                self.0 = Some(state);
                Ok(())
            }
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }

    /// Waits until the connection of a registered socket fails.
    pub(crate) async fn failure(&self) -> Errno {
        let failed = match &self.0 {
            Some(State::Tcp(socket)) => match socket.ready(Interest::ERROR).await {
                Ok(_) => socket.take_error(),
                Err(error) => Err(error),
            },
            Some(State::Unix(socket)) => match socket.ready(Interest::ERROR).await {
                Ok(_) => socket.take_error(),
                Err(error) => Err(error),
            },
            _ => std::future::pending::<io::Result<Option<io::Error>>>().await,
        };
        let error = failed.unwrap_or_else(Some);
        let errno = error.and_then(|error| Errno::from_io_error(&error));
        errno.unwrap_or(Errno::CONNRESET)
    }

    pub(crate) fn set_keep_alive(&self, idle: Option<Duration>) {
        if self.is_tcp()
            && let Some(fd) = self.fd()
        {
            // A connection that has just failed reports that to its relay.
            let _ = crate::listen::set_keep_alive(fd, idle);
        }
    }

    /// The socket as an end of a relay, which owns it.
    pub(crate) fn into_end(mut self) -> Option<TransferEnd<'static>> {
        match self.0.take()? {
            State::Tcp(socket) => Some(socket.into()),
            State::Unix(socket) => Some(socket.into()),
            State::Bare { .. } => None,
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(match self.0.as_ref()? {
            State::Bare { fd, .. } => fd.as_fd(),
            State::Tcp(socket) => socket.as_fd(),
            State::Unix(socket) => socket.as_fd(),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.is_tcp()
            && let Some(fd) = self.fd()
        {
            // Without it the peer sees a clean end, and that cannot be mended here.
            let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        }
    }
}
