//! The request for one direction of a transfer, and the ends that it connects.

use std::num::NonZeroUsize;

use crate::fd::TransferEnd;
use crate::traffic::Counter;

/// How a direction moves its bytes, fixed before it starts.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Delivered before any byte of the source.
    pub(crate) head: Vec<u8>,
    pub(crate) wanted: Wanted,
    /// First byte to read of a file, instead of its own position.
    pub(crate) start: Option<u64>,
    /// First byte to write in a file, instead of its own position.
    pub(crate) position: Option<u64>,
    /// Shut the destination down for writing at the end.
    pub(crate) pass_end_on: bool,
    /// Never use a pipe.
    pub(crate) copy_only: bool,
    /// The peer knows how many bytes to expect.
    pub(crate) framed: bool,
    /// Wanted capacity of the pipe in bytes.
    pub(crate) pipe_size: Option<NonZeroUsize>,
}

/// How much of the source is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// At most this many bytes; fewer are no failure.
    AtMost(u64),
    /// The source is a file: the part that is there at the start, up to the byte `last` inclusive.
    /// Fewer bytes are a failure.
    ExactRange { last: Option<u64> },
}

impl Wanted {
    /// At most this many bytes of a source that has no size.
    pub(crate) fn most(self) -> u64 {
        match self {
            Self::AtMost(bytes) => bytes,
            Self::ExactRange { .. } => u64::MAX,
        }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::AtMost(u64::MAX)
    }
}

/// The two ends of a direction, and its count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    /// `None` when all bytes are in the head of the [`Plan`].
    pub(crate) source: Option<&'a TransferEnd<'a>>,
    pub(crate) destination: &'a TransferEnd<'a>,
    pub(crate) counter: Counter<'a>,
}
