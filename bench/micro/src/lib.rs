//! The setup of both benchmarks: a direction between two socket pairs, with the two far ends.

use std::os::fd::OwnedFd;

use fdsplice::bench::Joint;
use rustix::io::{read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::runtime::{Builder, Runtime};

/// Message sizes: below, at, and far above the size from which a pipe is cheaper.
pub const SIZES: [usize; 3] = [64, 16 * 1024, 128 * 1024];

/// Messages after which a direction has chosen its engine and holds its resources.
const WARM_UP: usize = 16;

/// A direction from one socket pair to another: bytes written to `near` arrive at `far`.
#[derive(Debug)]
pub struct Hop {
    runtime: Runtime,
    joint: Joint,
    near: OwnedFd,
    far: OwnedFd,
    message: Vec<u8>,
}

impl Hop {
    /// A direction that has already carried messages of `size` bytes.
    ///
    /// # Panics
    /// If the system has no sockets left.
    pub fn warm(size: usize) -> Self {
        let runtime = runtime();
        let (near, source) = pair();
        let (destination, far) = pair();
        let joint = {
            let _guard = runtime.enter();
            Joint::new(source, destination)
        };
        let mut hop = Self {
            runtime,
            joint,
            near,
            far,
            message: vec![7; size],
        };
        for _ in 0..WARM_UP {
            hop.once();
        }
        hop
    }

    /// Sends one message through.
    ///
    /// # Panics
    /// If the message does not arrive.
    pub fn once(&mut self) {
        let size = self.message.len();
        assert_eq!(write(&self.near, &self.message), Ok(size));
        self.runtime.block_on(self.joint.carry(size));
        let mut received = 0;
        while received < size {
            received += read(&self.far, &mut self.message[received..]).expect("the message");
        }
    }
}

/// A runtime like those of the addon: one thread, I/O and time.
///
/// # Panics
/// If the system has no descriptors left.
pub fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket pair")
}
