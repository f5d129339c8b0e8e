//! What one direction of a transfer is told, and how it fails.

use rustix::io::Errno;

use crate::rate::Throttle;
use crate::stream::Stream;
use crate::traffic::Counter;

/// What a direction can be told beforehand.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Delivered before anything from the source.
    pub(crate) head: Vec<u8>,
    /// At most this many bytes of the source.
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

/// The end at which a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// A failed system call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) errno: Errno,
    pub(crate) syscall: &'static str,
    pub(crate) end: End,
}

impl Fault {
    pub(crate) fn source(syscall: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            errno,
            syscall,
            end: End::Source,
        }
    }

    pub(crate) fn destination(syscall: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            errno,
            syscall,
            end: End::Destination,
        }
    }
}

/// Where a direction takes its bytes from, where it brings them, and where it counts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) source: &'a Stream,
    pub(crate) destination: &'a Stream,
    pub(crate) counter: Counter<'a>,
}

/// A limit on what a direction takes from its source, and which of its users the direction is.
pub(crate) type Limit<'a> = (&'a mut Throttle, usize);
