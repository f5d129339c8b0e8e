//! Why a connection was not made.

use std::error::Error;
use std::{fmt, io};

use rustix::io::Errno;

/// Why [`connect`](super::connect()) has no connection. Nothing was sent, and no descriptor is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// A system call failed. Of several attempts this is the first failure.
    System {
        /// The error number.
        errno: Errno,
        /// The failed call: `connect`, `socket`, `bind`, `epoll_ctl`; of the resolver `getaddrinfo` or
        /// `clone`.
        syscall: &'static str,
    },
    /// The name could not be resolved.
    Resolve {
        /// The name of the error: `ENOTFOUND` when the name has no address, else the one of
        /// `getaddrinfo(3)`, such as `EAI_AGAIN`.
        code: &'static str,
    },
    /// The connection did not stand in time.
    TimedOut,
}

impl ConnectError {
    pub(super) fn system(errno: Errno, syscall: &'static str) -> Self {
        Self::System { errno, syscall }
    }

    pub(super) fn io(error: &io::Error, syscall: &'static str) -> Self {
        // tokio and std report some failures without a number.
        Self::system(Errno::from_io_error(error).unwrap_or(Errno::IO), syscall)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { errno, syscall } => write!(f, "{syscall} failed: {errno}"),
            Self::Resolve { code } => write!(f, "getaddrinfo failed: {code}"),
            Self::TimedOut => f.write_str("connect failed: no answer in time"),
        }
    }
}

impl Error for ConnectError {}
