//! Through one buffer per thread: cheaper than a pipe for small messages, and what is left where
//! the kernel cannot splice or has no pipe.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};

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

/// `MSG_DONTWAIT`: also right for a socket that was handed over blocking, whose flags belong to
/// whoever shares its open file description.
pub(crate) fn receive(source: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    retry_on_intr(|| recv(source, &mut *buffer, RecvFlags::DONTWAIT).map(|(_, received)| received))
}

/// `MSG_NOSIGNAL`: an embedder that does not ignore `SIGPIPE` gets `EPIPE` all the same.
pub(crate) fn transmit(destination: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    retry_on_intr(|| {
        send(
            destination,
            bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
    })
}
