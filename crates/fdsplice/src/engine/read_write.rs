//! A read and a write through a buffer. Cheaper than a pipe for small messages, and the last resort
//! where the kernel cannot splice or grants no pipe.

use std::cell::RefCell;
use std::os::fd::AsFd;

use rustix::io::{Errno, pread, pwrite, read, retry_on_intr, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::fd::{FdRef, Kind};

/// Bytes that one call moves at most.
pub(crate) const BUFFER: usize = 64 * 1024;

thread_local! {
    // Never borrowed across an await: unsent bytes are copied to the transfer that holds them.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Lends the buffer of this thread.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SHARED.with_borrow_mut(|buffer| work(buffer))
}

/// Reads from `position`, or from the descriptor's own position without one. Returns 0 at the end
/// of input.
pub(crate) fn recv_or_read(
    source: FdRef<'_>,
    position: Option<u64>,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    let fd = source.as_fd();
    let received = retry_on_intr(|| match position {
        Some(position) => pread(fd, &mut *buffer, position),
        // MSG_DONTWAIT keeps this call from blocking even if the socket has no O_NONBLOCK. That flag
        // is not set here, because it belongs to every owner of the open file description.
        None if source.is_socket() => match recv(fd, &mut *buffer, RecvFlags::DONTWAIT) {
            Err(errno) if is_forbidden(source, errno) => read(fd, &mut *buffer),
            received => received.map(|(_, received)| received),
        },
        None => read(fd, &mut *buffer),
    });
    match received {
        // A pseudo-terminal's master returns EIO once its last terminal is closed.
        Err(Errno::IO) if source.kind() == Kind::Tty => Ok(0),
        received => received,
    }
}

/// Writes at `position`, or at the descriptor's own position without one.
pub(crate) fn send_or_write(
    destination: FdRef<'_>,
    position: Option<u64>,
    bytes: &[u8],
) -> Result<usize, Errno> {
    let fd = destination.as_fd();
    retry_on_intr(|| match position {
        Some(position) => pwrite(fd, bytes, position),
        // MSG_NOSIGNAL makes a failed send return EPIPE instead of raising SIGPIPE.
        None if destination.is_socket() => {
            match send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(errno) if is_forbidden(destination, errno) => write(fd, bytes),
                sent => sent,
            }
        }
        None => write(fd, bytes),
    })
}

/// Whether a policy forbids `recv` or `send`, and `read` or `write` can replace it: a seccomp filter
/// may list only these, which are all that Node itself needs. They have no `MSG_DONTWAIT`, so a
/// blocking socket has no replacement.
fn is_forbidden(socket: FdRef<'_>, errno: Errno) -> bool {
    matches!(errno, Errno::PERM | Errno::ACCESS | Errno::NOSYS) && socket.is_nonblocking()
}

/// The name of the call that [`recv_or_read`] makes.
pub(crate) fn source_call(source: FdRef<'_>) -> &'static str {
    if source.is_socket() { "recv" } else { "read" }
}

/// The name of the call that [`send_or_write`] makes.
pub(crate) fn destination_call(destination: FdRef<'_>) -> &'static str {
    if destination.is_socket() {
        "send"
    } else {
        "write"
    }
}
