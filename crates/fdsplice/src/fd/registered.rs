//! An endpoint registered with the reactor of the current tokio runtime.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, Shutdown, getpeername, recv, shutdown, sockopt};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::fd::{Endpoint, Kind};

pub(crate) type Ready<'a> = AsyncFdReadyGuard<'a, Endpoint>;

/// An endpoint and its registration with the reactor.
#[derive(Debug)]
pub(crate) struct RegisteredFd {
    io: AsyncFd<Endpoint>,
    /// Whether an out-of-band byte was announced. After that, a short read no longer proves that the
    /// socket is empty, because reads stop in front of the out-of-band byte.
    urgent: AtomicBool,
    /// Whether the peer of a TCP socket had ended its output before its reset.
    ended_before_reset: AtomicBool,
}

impl RegisteredFd {
    /// Registers an endpoint. A failure returns the endpoint.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub(crate) fn register(endpoint: Endpoint) -> Result<Self, (Endpoint, Errno)> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        #[allow(
            unsafe_code,
            reason = "tokio requires a guarantee about the descriptor"
        )]
        // SAFETY: an endpoint owns its descriptor and never changes it. The descriptor refers to the
        // same open file until it is dropped together with the registration.
        let registered = unsafe { AsyncFd::register_with_interest(endpoint, interest) };
        match registered {
            Ok(io) => Ok(Self {
                io,
                urgent: AtomicBool::new(false),
                ended_before_reset: AtomicBool::new(false),
            }),
            Err(failure) => {
                let (endpoint, error) = failure.into_parts();
                Err((endpoint, Errno::from_io_error(&error).unwrap_or(Errno::IO)))
            }
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.io.get_ref()
    }

    pub(crate) fn is_pipe(&self) -> bool {
        self.endpoint().kind() == Kind::Pipe
    }

    pub(crate) fn urgent(&self) -> bool {
        self.urgent.load(Ordering::Relaxed)
    }

    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Result<Ready<'_>, Errno>> {
        self.io.poll_read_ready(cx).map_err(|_| Errno::CANCELED)
    }

    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Result<Ready<'_>, Errno>> {
        self.io.poll_write_ready(cx).map_err(|_| Errno::CANCELED)
    }

    /// Sends FIN. The peer sees the end of input and can still send. Does nothing for a pipe, which
    /// ends when its last writer closes it.
    pub(crate) fn end(&self) -> Result<(), Errno> {
        if !self.endpoint().is_socket() {
            return Ok(());
        }
        shutdown(self, Shutdown::Write).map_err(|errno| match errno {
            // The connection is lost. Its pending error, if there is one, gives the cause.
            Errno::NOTCONN => self.take_error().unwrap_or(errno),
            _ => errno,
        })
    }

    /// Watches for events that reads and writes may miss or see too late. With [`Interest::ERROR`],
    /// resolves with an error, also while there is no read or write. With [`Interest::PRIORITY`],
    /// records the arrival of an out-of-band byte.
    pub(crate) async fn watch(&self, mut interest: Interest) -> Errno {
        loop {
            let Ok(mut guard) = self.io.ready(interest).await else {
                return Errno::CANCELED;
            };
            let ready = guard.ready();
            if ready.is_priority() {
                self.urgent.store(true, Ordering::Relaxed);
            }
            if ready.is_error() {
                guard.clear_ready_matching(tokio::io::Ready::ERROR);
                if !self.endpoint().is_socket() {
                    // A pipe reports this when its last reader has closed it.
                    return Errno::PIPE;
                }
                // `None`: a read or write has taken the error, and reports it.
                if let Some(errno) = self.take_loss() {
                    return self.explain(errno);
                }
            }
            // Do not wait for priority events again. They include the end of input, which stays
            // ready for ever, and the first out-of-band byte changes the reads for good.
            match interest.remove(Interest::PRIORITY) {
                Some(rest) => interest = rest,
                None => return std::future::pending().await,
            }
        }
    }

    /// Replaces `EPIPE` by `ECONNRESET` where a TCP socket has lost its connection. Such a socket
    /// reports the cause only once, and `EPIPE` from then on. The cause itself is `EPIPE` when the reset
    /// came after the FIN of the peer, which is recorded: a transfer ends with the first error that
    /// it sees. `EPIPE` from a connected socket means that it was shut down for writing.
    pub(crate) fn explain(&self, errno: Errno) -> Errno {
        let explained = self.explain_later(errno);
        if explained != errno {
            self.ended_before_reset.store(true, Ordering::Relaxed);
        }
        explained
    }

    /// Does the same after a call that may have taken the cause: `EPIPE` then says nothing about a FIN.
    pub(crate) fn explain_later(&self, errno: Errno) -> Errno {
        if errno == Errno::PIPE && self.is_lost() {
            return Errno::CONNRESET;
        }
        errno
    }

    /// Whether the error that was found is a reset after the end of input.
    pub(crate) fn ended_before_reset(&self) -> bool {
        self.ended_before_reset.load(Ordering::Relaxed)
    }

    /// Whether this is a TCP socket that has lost its connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.endpoint().kind() == Kind::Tcp && getpeername(self) == Err(Errno::NOTCONN)
    }

    /// The number of bytes that the next read of one byte returns: 0 at the end of input.
    pub(crate) fn peek(&self) -> Result<usize, Errno> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        retry_on_intr(|| recv(self, &mut [0_u8; 1], flags)).map(|(_, length)| length)
    }

    /// Takes the pending error, and records whether the end of input came before it. Later, reads return
    /// 0 in either case.
    fn take_loss(&self) -> Option<Errno> {
        let peeked = if self.endpoint().kind() == Kind::Tcp {
            self.peek()
        } else {
            Err(Errno::AGAIN)
        };
        if peeked == Ok(0) {
            self.ended_before_reset.store(true, Ordering::Relaxed);
        }
        // Without an end and without bytes, the peek has taken the error. The others come from a policy
        // that forbids the call, and from a socket whose error was taken before.
        let taken = peeked.err().filter(|errno| {
            !matches!(
                *errno,
                Errno::AGAIN
                    | Errno::PERM
                    | Errno::ACCESS
                    | Errno::NOSYS
                    | Errno::INVAL
                    | Errno::NOTCONN
            )
        });
        self.take_error().or(taken)
    }

    fn take_error(&self) -> Option<Errno> {
        sockopt::socket_error(self).ok()?.err()
    }

    /// Resolves when the kernel of the peer has acknowledged every byte sent, or when the connection is
    /// lost.
    pub(crate) async fn acknowledged(&self) {
        // No event reports an empty send queue, so this polls it, less and less often. The caller
        // limits the time.
        let mut pause = Duration::from_micros(200);
        while !self.is_lost() && self.unacknowledged().is_ok_and(|bytes| bytes > 0) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(10));
        }
    }

    fn unacknowledged(&self) -> Result<i32, Errno> {
        send_queue::bytes(self.as_fd())
    }
}

impl AsFd for RegisteredFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.endpoint().as_fd()
    }
}

#[allow(unsafe_code, reason = "rustix has no safe call for SIOCOUTQ")]
mod send_queue {
    use std::ffi::c_int;
    use std::os::fd::BorrowedFd;

    use rustix::io::Errno;
    use rustix::ioctl::{Getter, Opcode, ioctl};

    /// `SIOCOUTQ` (`tcp(7)`): bytes sent or queued that the peer has not acknowledged. It is `TIOCOUTQ`
    /// (`linux/sockios.h`), whose number depends on the architecture: this one is in
    /// `asm-generic/ioctls.h`, the others in `asm/ioctls.h` of their architecture.
    #[cfg(not(any(
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "sparc",
        target_arch = "sparc64",
        target_arch = "mips",
        target_arch = "mips32r6",
        target_arch = "mips64",
        target_arch = "mips64r6",
    )))]
    const SIOCOUTQ: Opcode = 0x5411;
    /// `_IOR('t', 115, int)`.
    #[cfg(any(
        target_arch = "powerpc",
        target_arch = "powerpc64",
        target_arch = "sparc",
        target_arch = "sparc64",
    ))]
    const SIOCOUTQ: Opcode = rustix::ioctl::opcode::read::<c_int>(b't', 115);
    #[cfg(any(
        target_arch = "mips",
        target_arch = "mips32r6",
        target_arch = "mips64",
        target_arch = "mips64r6",
    ))]
    const SIOCOUTQ: Opcode = 0x7472;

    pub(super) fn bytes(socket: BorrowedFd<'_>) -> Result<c_int, Errno> {
        // SAFETY: SIOCOUTQ stores one int at the given address.
        unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::net::sockopt;

    use super::RegisteredFd;
    use crate::fd::Endpoint;

    #[test]
    fn a_lost_connection_is_not_awaited_for_acknowledgements() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let mut ours = TcpStream::connect(address).expect("a connection");
        let (peer, _) = listener.accept().expect("an accepted connection");
        ours.set_nonblocking(true).expect("a non-blocking socket");
        while ours.write(&[0; 1 << 14]).is_ok() {}
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let endpoint = Endpoint::try_from(OwnedFd::from(ours)).expect("an endpoint");
            let ours = RegisteredFd::register(endpoint).expect("a registration");
            sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).expect("SO_LINGER");
            drop(peer);
            while !ours.is_lost() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert!(ours.unacknowledged().is_ok_and(|bytes| bytes > 0));
            let patience = Duration::from_secs(10);
            let awaited = tokio::time::timeout(patience, ours.acknowledged()).await;
            assert!(awaited.is_ok(), "the wait has no end");
        });
    }
}
