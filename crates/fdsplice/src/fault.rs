//! A failed system call of a transfer in one direction, with the end at which it failed. Both kinds
//! of a transfer, with the reactor and with blocking calls, report their failures in this form.

use rustix::io::Errno;

use crate::error::{Side, TransferError};

/// One end of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// A failed system call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoFailure {
    pub(crate) errno: Errno,
    pub(crate) syscall: &'static str,
    pub(crate) end: End,
}

impl IoFailure {
    /// Makes failures of one system call at one end, for `map_err`.
    pub(crate) fn at(end: End, syscall: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            errno,
            syscall,
            end,
        }
    }

    pub(crate) fn source(syscall: &'static str) -> impl Fn(Errno) -> Self {
        Self::at(End::Source, syscall)
    }

    pub(crate) fn destination(syscall: &'static str) -> impl Fn(Errno) -> Self {
        Self::at(End::Destination, syscall)
    }

    /// The failure of a transfer in one direction. A relay maps the ends to its own sides instead.
    pub(crate) fn into_error(self) -> TransferError {
        let side = match self.end {
            End::Source => Side::Source,
            End::Destination => Side::Destination,
        };
        TransferError::system(self.errno, self.syscall, side)
    }
}
