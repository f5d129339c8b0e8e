//! The errors of transfers and endpoints, and the side at which they occur.

use std::error::Error;
use std::fmt;

use rustix::io::Errno;

/// An end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end a copy reads from.
    Source,
    /// The end a copy writes to.
    Destination,
    /// The first end of a relay.
    A,
    /// The second end of a relay.
    B,
}

impl Side {
    /// The word used for this side in messages: `source`, `destination`, `a` or `b`.
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Source => "source",
            Side::Destination => "destination",
            Side::A => "a",
            Side::B => "b",
        }
    }
}

/// Why a transfer ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A system call failed.
    System {
        /// The error number.
        errno: Errno,
        /// The failed system call, by the name of its Linux manual page.
        syscall: &'static str,
    },
    /// [`Control::abort`](crate::Control::abort) was called.
    Aborted,
    /// The source file was truncated while it was sent.
    SourceTruncated,
    /// No byte moved for the length of the idle timeout.
    IdleTimeout,
    /// One direction stayed open for longer than the half-close timeout after the other had ended.
    /// The side is the one that has not ended.
    HalfCloseTimeout,
}

/// The failure of a transfer. The counts are beside it in [`TrafficResult`](crate::TrafficResult).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferError {
    /// Why the transfer ended.
    pub reason: Reason,
    /// The end at which the transfer failed; `None` when it failed at neither.
    pub side: Option<Side>,
    /// Bytes that a copy took from its source and the destination did not accept, in order.
    ///
    /// They are not counted. Always empty for a relay, which owns the bytes that it reads.
    pub undelivered: Vec<u8>,
    /// Whether a call of the transfer has not returned, because a file system does not answer. It
    /// holds the sockets of the transfer open, so their connections were broken off. Bytes that the
    /// call still moves are in no count.
    pub stuck: bool,
    /// Whether the peer of [`side`](Self::side) had ended its input before it reset or closed the
    /// connection, and the other side had accepted every byte of that input. Many clients leave in this
    /// way when they have their answer. Bytes that the other side still sent are lost.
    ///
    /// A copy does not read from its destination. There, this is `true` when a TCP destination had
    /// ended its own output before it was reset.
    pub after_end: bool,
}

impl TransferError {
    /// A failed system call at one end, or at neither.
    pub fn system(errno: Errno, syscall: &'static str, side: impl Into<Option<Side>>) -> Self {
        Self::other(Reason::System { errno, syscall }, side.into())
    }

    /// A failure for any reason, at one end or at neither.
    pub fn other(reason: Reason, side: Option<Side>) -> Self {
        Self {
            reason,
            side,
            undelivered: Vec::new(),
            stuck: false,
            after_end: false,
        }
    }
}

/// Shows the count of undelivered bytes, but not the bytes. They are user data, and errors are
/// logged.
impl fmt::Debug for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferError")
            .field("reason", &self.reason)
            .field("side", &self.side)
            .field("undelivered", &self.undelivered.len())
            .field("stuck", &self.stuck)
            .field("after_end", &self.after_end)
            .finish()
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::System { errno, syscall } => write!(f, "{syscall} failed: {errno}")?,
            Reason::Aborted => f.write_str("aborted")?,
            Reason::SourceTruncated => f.write_str("the file became shorter")?,
            Reason::IdleTimeout => f.write_str("no byte moved in time")?,
            Reason::HalfCloseTimeout => f.write_str("half open for too long")?,
        }
        let when = if self.after_end {
            ", after the end of its input"
        } else {
            ""
        };
        match self.side {
            Some(side) => write!(f, " (side {}{when})", side.as_str()),
            None => Ok(()),
        }
    }
}

impl Error for TransferError {}

/// Why a descriptor cannot be an end of a transfer. Nothing was read, written or kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// The descriptor is open, but of a kind that the transfer cannot use.
    Unsupported {
        /// What the transfer needs: a noun with its article.
        expected: &'static str,
        /// What the descriptor is: a text that completes the sentence "the descriptor is ...".
        found: &'static str,
    },
    /// A system call on the descriptor failed: `EBADF` when it is closed, `EMFILE` when the process
    /// has no free descriptor for the duplicate.
    System {
        /// The error number.
        errno: Errno,
        /// The failed system call.
        syscall: &'static str,
    },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { expected, found } => {
                write!(f, "expected {expected}: the descriptor is {found}")
            }
            Self::System { errno, syscall } => write!(f, "{syscall} failed: {errno}"),
        }
    }
}

impl Error for EndpointError {}
