//! Through a buffer: cheaper than a pipe for small messages, and what is left where the kernel
//! cannot splice or has no pipe.

use std::cell::RefCell;
use std::os::fd::AsFd;

use rustix::io::{Errno, pread, pwrite, read, retry_on_intr, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::fd::{Endpoint, Kind};

/// Bytes one call can take.
pub(crate) const BUFFER: usize = 64 * 1024;

thread_local! {
    // Never held across an await: a transfer that waits holds no buffer.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Lends this thread's buffer.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SHARED.with_borrow_mut(|buffer| work(buffer))
}

/// Reads from a position, or from where the descriptor stands; 0 at the end of input.
pub(crate) fn take(
    source: &Endpoint,
    position: Option<u64>,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    let fd = source.as_fd();
    let taken = retry_on_intr(|| match position {
        Some(position) => pread(fd, &mut *buffer, position),
        // MSG_DONTWAIT: also right for a socket that was handed over blocking, whose flags belong
        // to whoever shares its open file description.
        None if source.is_socket() => {
            recv(fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, received)| received)
        }
        None => read(fd, &mut *buffer),
    });
    match taken {
        // What a pseudo-terminal's master says once nobody has the terminal open any more.
        Err(Errno::IO) if source.kind() == Kind::Tty => Ok(0),
        taken => taken,
    }
}

/// Writes at a position, or where the descriptor stands.
pub(crate) fn give(
    destination: &Endpoint,
    position: Option<u64>,
    bytes: &[u8],
) -> Result<usize, Errno> {
    let fd = destination.as_fd();
    retry_on_intr(|| match position {
        Some(position) => pwrite(fd, bytes, position),
        // MSG_NOSIGNAL: an embedder that does not ignore SIGPIPE gets EPIPE all the same.
        None if destination.is_socket() => {
            send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
        }
        None => write(fd, bytes),
    })
}

/// The name of the call that [`take`] makes.
pub(crate) fn take_call(source: &Endpoint) -> &'static str {
    if source.is_socket() { "recv" } else { "read" }
}

/// The name of the call that [`give`] makes.
pub(crate) fn give_call(destination: &Endpoint) -> &'static str {
    if destination.is_socket() {
        "send"
    } else {
        "write"
    }
}
