//! The registration of a descriptor with the reactor of a tokio runtime: our own, and those that the
//! sockets and pipes of tokio have already.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};

/// A wait for readiness. It owns its place in the list of waiters, and does not move.
pub(crate) type Waiting<'a> = Pin<Box<dyn Future<Output = io::Result<Ready>> + Send + 'a>>;

/// What a transfer needs of a registration.
pub(crate) trait Registration: AsFd + fmt::Debug + Send + Sync {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Makes `call` if the reactor has reported `interest`. `WouldBlock` from `call` clears that
    /// report, unless a new one has arrived since.
    fn try_io(
        &self,
        interest: Interest,
        call: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<()>;

    /// Whether the reactor has reported `interest`. This is one load, because each poll of a relay asks
    /// for a failure of both ends.
    fn is_reported(&self, interest: Interest) -> bool;

    /// Waits for a report of `interest`. Unlike the polls, this also wakes for an error while the
    /// descriptor is readable.
    fn wait_for(&self, interest: Interest) -> Waiting<'_>;

    /// Whether the reactor reports an out-of-band byte ([`Interest::PRIORITY`]).
    fn reports_urgent(&self) -> bool {
        false
    }
}

impl Registration for AsyncFd<OwnedFd> {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx).map_ok(|_| ())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx).map_ok(|_| ())
    }

    fn try_io(
        &self,
        interest: Interest,
        call: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        self.try_io(interest, |_| call())
    }

    fn is_reported(&self, interest: Interest) -> bool {
        self.try_io(interest, |_| Ok(())).is_ok()
    }

    fn wait_for(&self, interest: Interest) -> Waiting<'_> {
        Box::pin(async move { self.ready(interest).await.map(|guard| guard.ready()) })
    }

    fn reports_urgent(&self) -> bool {
        true
    }
}

macro_rules! socket_registration {
    ($socket:ty) => {
        impl Registration for $socket {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn try_io(
                &self,
                interest: Interest,
                call: &mut dyn FnMut() -> io::Result<()>,
            ) -> io::Result<()> {
                self.try_io(interest, call)
            }

            fn is_reported(&self, interest: Interest) -> bool {
                self.try_io(interest, || Ok(())).is_ok()
            }

            fn wait_for(&self, interest: Interest) -> Waiting<'_> {
                Box::pin(self.ready(interest))
            }
        }
    };
}

socket_registration!(TcpStream);
socket_registration!(UnixStream);

/// The result for an interest that an end of a pipe of tokio does not report: the other direction, an
/// error, an out-of-band byte.
fn not_reported() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

impl Registration for pipe::Receiver {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn try_io(
        &self,
        interest: Interest,
        call: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        if interest.is_readable() {
            self.try_io(call)
        } else {
            Err(not_reported())
        }
    }

    fn is_reported(&self, interest: Interest) -> bool {
        interest.is_readable() && self.try_io(|| Ok(())).is_ok()
    }

    fn wait_for(&self, interest: Interest) -> Waiting<'_> {
        Box::pin(self.ready(interest))
    }
}

impl Registration for pipe::Sender {
    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }

    fn try_io(
        &self,
        interest: Interest,
        call: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        if interest.is_writable() {
            self.try_io(call)
        } else {
            Err(not_reported())
        }
    }

    fn is_reported(&self, interest: Interest) -> bool {
        interest.is_writable() && self.try_io(|| Ok(())).is_ok()
    }

    fn wait_for(&self, interest: Interest) -> Waiting<'_> {
        Box::pin(self.ready(interest))
    }
}
