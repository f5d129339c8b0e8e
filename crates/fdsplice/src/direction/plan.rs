//! What one direction of a transfer is asked to do, and the ends it does it between.

use crate::fd::RegisteredFd;
use crate::traffic::Counter;

/// What a direction can be told beforehand.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Delivered before anything from the source.
    pub(crate) head: Vec<u8>,
    /// FdAt most this many bytes of the source.
    pub(crate) length: Option<u64>,
    /// The source is a file, of which the part that is there at the start is wanted, no less.
    pub(crate) whole: bool,
    /// With `whole`: the last byte wanted.
    pub(crate) last: Option<u64>,
    /// First byte to read of a file, instead of its own position.
    pub(crate) start: Option<u64>,
    /// Where to write in a file, instead of its own position.
    pub(crate) position: Option<u64>,
    /// Shut the destination down for writing at the end.
    pub(crate) pass_end_on: bool,
    /// Never use a pipe.
    pub(crate) copy_only: bool,
    /// Wanted capacity of the pipe in bytes.
    pub(crate) pipe_size: Option<usize>,
}

/// Where a direction takes its bytes from, where it brings them, and where it counts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) source: &'a RegisteredFd,
    pub(crate) destination: &'a RegisteredFd,
    pub(crate) counter: Counter<'a>,
}
