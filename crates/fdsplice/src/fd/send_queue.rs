//! The bytes of a TCP socket that its peer has not acknowledged.

use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};

use crate::fd::TransferEnd;

impl TransferEnd<'_> {
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
        bytes(self.as_fd())
    }
}

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

#[allow(unsafe_code, reason = "rustix has no safe call for SIOCOUTQ")]
fn bytes(socket: BorrowedFd<'_>) -> Result<c_int, Errno> {
    // SAFETY: SIOCOUTQ stores one int at the given address.
    unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::net::sockopt;

    use crate::fd::{Endpoint, TransferEnd};

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
            let mut ours = TransferEnd::from(endpoint);
            ours.register().expect("a registration");
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
