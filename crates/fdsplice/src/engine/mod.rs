//! The ways to move bytes: a few functions on descriptors each. They know nothing of limits,
//! timers or abort; [`direction`](crate::direction) and [`file_copy`](crate::file::copy) decide
//! when, an engine does it.

pub(crate) mod copy_file_range;
pub(crate) mod read_write;
pub(crate) mod sendfile;
pub(crate) mod splice;

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::fd::{Endpoint, Kind};

/// Whether a source can be read from and a destination written to at this moment. Where one call serves both ends, this tells which of them its `EAGAIN` was about.
pub(crate) fn readiness(
    source: BorrowedFd<'_>,
    destination: BorrowedFd<'_>,
) -> Result<(bool, bool), Errno> {
    let mut ends = [
        PollFd::from_borrowed_fd(source, PollFlags::IN),
        PollFd::from_borrowed_fd(destination, PollFlags::OUT),
    ];
    rustix::io::retry_on_intr(|| poll(&mut ends, Some(&Timespec::default())))?;
    // Errors and hang-ups count as ready: the next call tells what they are.
    Ok((!ends[0].revents().is_empty(), !ends[1].revents().is_empty()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    CopyFileRange,
    Sendfile,
    /// One end is a pipe.
    SpliceDirect,
    SplicePipe,
    ReadWrite,
}

/// The engines for a pair of ends, best first. Each is tried until the kernel says that it cannot
/// serve the pair; the last one always can.
///
/// File → socket is `sendfile`; the figures behind that stand in [`sendfile`].
pub(crate) fn engines(
    source: &Endpoint,
    destination: &Endpoint,
    copy_only: bool,
) -> &'static [Engine] {
    use Engine::{CopyFileRange, ReadWrite, Sendfile, SpliceDirect, SplicePipe};
    let blocking_socket = |end: &Endpoint| end.is_socket() && !end.is_nonblocking();
    if copy_only
        // Positions mean nothing to it, and splice refuses it.
        || destination.appends()
        // Splice and sendfile have no MSG_DONTWAIT.
        || blocking_socket(source)
        || blocking_socket(destination)
    {
        return &[ReadWrite];
    }
    match (source.kind(), destination.kind()) {
        (Kind::Tty | Kind::Device, _) | (_, Kind::Tty) => &[ReadWrite],
        (Kind::Pipe, _) | (_, Kind::Pipe) => &[SpliceDirect, ReadWrite],
        (Kind::File, Kind::File) => &[CopyFileRange, SplicePipe, ReadWrite],
        (Kind::File, Kind::Tcp | Kind::UnixStream) => &[Sendfile, ReadWrite],
        _ => &[SplicePipe, ReadWrite],
    }
}
