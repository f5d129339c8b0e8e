//! One socket inside a relay, in each form that a relay takes.

use std::os::fd::OwnedFd;

use fdsplice::{Endpoint, TransferEnd};
use tokio::net::{TcpStream, UnixStream};

/// The form in which a relay gets a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An inspected endpoint.
    Inspected,
    /// An endpoint that the core takes as it is. A Unix socket is inspected instead.
    Only,
    /// A socket of tokio by value.
    Owned,
    /// A borrowed socket of tokio.
    Borrowed,
}

pub(crate) const FORMS: [Form; 4] = [Form::Inspected, Form::Only, Form::Owned, Form::Borrowed];

/// A socket, and the form in which it is lent or given to a relay.
pub(crate) enum Inner {
    Endpoint(Option<Endpoint>),
    OwnedTcp(Option<TcpStream>),
    OwnedUnix(Option<UnixStream>),
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Inner {
    /// A non-blocking TCP socket, inside a runtime.
    pub(crate) fn tcp(form: Form, fd: OwnedFd) -> Self {
        let socket = |fd: OwnedFd| TcpStream::from_std(fd.into()).expect("a registration");
        match form {
            Form::Inspected => Self::inspected(fd),
            Form::Only => Self::Endpoint(Some(Endpoint::sole_nonblocking_tcp(fd))),
            Form::Owned => Self::OwnedTcp(Some(socket(fd))),
            Form::Borrowed => Self::Tcp(socket(fd)),
        }
    }

    /// A non-blocking Unix socket, inside a runtime.
    pub(crate) fn unix(form: Form, fd: OwnedFd) -> Self {
        let socket = |fd: OwnedFd| UnixStream::from_std(fd.into()).expect("a registration");
        match form {
            Form::Inspected | Form::Only => Self::inspected(fd),
            Form::Owned => Self::OwnedUnix(Some(socket(fd))),
            Form::Borrowed => Self::Unix(socket(fd)),
        }
    }

    pub(crate) fn inspected(fd: OwnedFd) -> Self {
        Self::Endpoint(Some(Endpoint::try_from(fd).expect("an endpoint")))
    }

    /// The end for a relay, which can be had once.
    pub(crate) fn end(&mut self) -> TransferEnd<'_> {
        match self {
            Self::Endpoint(endpoint) => endpoint.take().expect("an endpoint").into(),
            Self::OwnedTcp(socket) => socket.take().expect("a socket").into(),
            Self::OwnedUnix(socket) => socket.take().expect("a socket").into(),
            Self::Tcp(socket) => socket.into(),
            Self::Unix(socket) => socket.into(),
        }
    }
}
