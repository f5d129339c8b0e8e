//! A failed system call of one direction, and the end at which it failed.

use rustix::io::Errno;

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
