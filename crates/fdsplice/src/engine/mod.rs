//! The ways to move bytes between two descriptors, a few functions each, and the table that assigns
//! them to pairs of ends.
//!
//! An engine knows nothing of limits, timers or aborts. [`direction`](crate::direction) and
//! [`file`](crate::file) decide when it runs.

pub(crate) mod copy_file_range;
pub(crate) mod read_write;
pub(crate) mod sendfile;
pub(crate) mod splice;

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::fd::{Facts, Kind};

/// Returns whether the source can be read and the destination written at this moment. A call that
/// serves both ends returns one `EAGAIN`; this shows which end it came from.
pub(crate) fn readiness(
    source: BorrowedFd<'_>,
    destination: BorrowedFd<'_>,
) -> Result<(bool, bool), Errno> {
    let mut ends = [
        PollFd::from_borrowed_fd(source, PollFlags::IN),
        PollFd::from_borrowed_fd(destination, PollFlags::OUT),
    ];
    rustix::io::retry_on_intr(|| poll(&mut ends, Some(&Timespec::default())))?;
    // Errors and hang-ups count as ready: the next call reports them.
    Ok((!ends[0].revents().is_empty(), !ends[1].revents().is_empty()))
}

/// Whether `splice`, `sendfile` or `copy_file_range` is refused for these ends: by their kind, by the
/// kernel, or by a policy. Their bytes then go through the next engine, which serves every pair. It
/// also reports the failures that a refusal is taken for here, such as `EPERM` of an immutable file.
///
/// A refusal may come at any time, because a filter can be installed and a policy can change while
/// a transfer runs. A refused call moves no byte and no position, so the counts stay right.
pub(crate) fn is_refused(errno: Errno) -> bool {
    matches!(
        errno,
        // A kind of file without the call; since Linux 5.10 files that relied on the generic splice.
        // A target of splice with `O_APPEND`.
        Errno::INVAL | Errno::OPNOTSUPP
            // A target of copy_file_range with `O_APPEND`. Whether the descriptors are open and
            // have the right mode was checked before.
            | Errno::BADF
            // Two file systems, procfs.
            | Errno::XDEV
            // An end without a position, a position that the call cannot take, a swap file.
            | Errno::SPIPE | Errno::OVERFLOW | Errno::TXTBSY
            // A seccomp filter, a security module, a kernel without the call.
            | Errno::PERM | Errno::ACCESS | Errno::NOSYS
    )
}

/// A way to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// `copy_file_range(2)`.
    CopyFileRange,
    /// `sendfile(2)`.
    Sendfile,
    /// One `splice(2)` from end to end, because one end is a pipe itself.
    SpliceDirect,
    /// Two `splice(2)` calls, through a leased pipe.
    SplicePipe,
    /// A read and a write through a buffer.
    ReadWrite,
}

/// The engines for a pair of ends, best first. Each is tried until the kernel refuses the pair; the
/// last one serves every pair. `source` is `None` when all bytes are in memory.
///
/// Reasons for the choices that are not obvious:
/// - `O_APPEND`: `copy_file_range` and `splice` refuse such a file. A pipe has no position, so the
///   flag changes nothing there.
/// - A blocking socket: `splice` and `sendfile` have no `MSG_DONTWAIT`, and `SPLICE_F_NONBLOCK`
///   does not reach the socket.
/// - File to socket: `sendfile` costs the same as a pipe and holds none; the figures are in
///   [`sendfile`].
pub(crate) fn engines(
    source: Option<Facts>,
    destination: Facts,
    copy_only: bool,
) -> &'static [Engine] {
    use Engine::{CopyFileRange, ReadWrite, Sendfile, SpliceDirect, SplicePipe};
    let Some(source) = source else {
        return &[ReadWrite];
    };
    let is_blocking_socket = |end: Facts| end.is_socket() && !end.is_nonblocking();
    if copy_only
        || (destination.appends() && destination.kind() != Kind::Pipe)
        || is_blocking_socket(source)
        || is_blocking_socket(destination)
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
