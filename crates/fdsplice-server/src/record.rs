//! The events of a server: connections that have ended or were refused, and failures of listeners.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use fdsplice::{Traffic, TransferError};
use rustix::io::Errno;

use crate::address::Address;
use crate::connect::ConnectError;
use crate::target::Target;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The server has as many connections as it may have.
    Limit,
    /// No route was there for it, or every target of its route is being drained.
    NoRoute,
    /// The decision took longer than it may take.
    RouteTimeout,
    /// The decision has failed.
    RouteFailed,
    /// The connection to its target was not made.
    Connect,
}

impl Refusal {
    /// The number of reasons.
    pub const COUNT: usize = Self::ALL.len();
    /// All reasons. The position of each is its number, `reason as usize`.
    pub const ALL: [Self; 5] = [
        Self::Limit,
        Self::NoRoute,
        Self::RouteTimeout,
        Self::RouteFailed,
        Self::Connect,
    ];

    /// The word for the reason, such as `route-timeout`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::NoRoute => "no-route",
            Self::RouteTimeout => "route-timeout",
            Self::RouteFailed => "route-failed",
            Self::Connect => "connect",
        }
    }
}

/// Why a connection has failed. Its sides are the client (`a`) and the target (`b`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionError {
    /// It has failed after it was accepted.
    Transfer(TransferError),
    /// The connection to its target was not made.
    Connect(ConnectError),
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transfer(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
        }
    }
}

impl Error for ConnectionError {}

/// A connection that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// The number of the connection.
    pub id: u64,
    /// The number of the listener that has accepted it.
    pub listener: u32,
    /// The address of the client.
    pub client: Address,
    /// Its target, if it had one.
    pub target: Option<Target>,
    /// `tx`: bytes from the client that the socket of the target has accepted. `rx`: the others.
    pub traffic: Traffic,
    /// The time that the connect took; zero without one.
    pub connect_time: Duration,
    /// The time from the accept to the end.
    pub duration: Duration,
    /// `None` after two clean ends.
    pub error: Option<ConnectionError>,
}

/// A failure of a listener. It goes on: without a free descriptor it pauses, and accepts again within a
/// second of one being free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerError {
    /// The number of the listener.
    pub listener: u32,
    /// The error number.
    pub errno: Errno,
    /// The failed system call.
    pub syscall: &'static str,
}

/// What a server reports.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection has ended, well or with a failure.
    Relayed(Record),
    /// A connection was refused, and its client reset.
    Refused(Refusal, Record),
    /// A listener has failed. One failure is reported once, however often it repeats.
    Listener(ListenerError),
}

/// Which records a server builds. The others cost nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// [`Event::Relayed`].
    pub relayed: bool,
    /// [`Event::Refused`].
    pub refused: bool,
}
