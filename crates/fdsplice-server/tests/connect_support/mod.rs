//! Listeners that answer to no connect.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

/// A listener whose queue is full: the kernel drops every further SYN.
pub(crate) struct Silent {
    pub(crate) listener: TcpListener,
    _queued: TcpStream,
}

impl Silent {
    /// On a free port of `ip`.
    pub(crate) fn new(ip: &str) -> Self {
        let address = SocketAddr::new(ip.parse().expect("an address"), 0);
        let family = if address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let fd: OwnedFd = socket(family, SocketType::STREAM, None).expect("socket");
        bind(&fd, &address).expect("bind");
        listen(&fd, 0).expect("listen");
        let listener = TcpListener::from(fd);
        let address = listener.local_addr().expect("its address");
        // A queue of length 0 takes one connection.
        let queued = TcpStream::connect(address).expect("the queued connection");
        Self {
            listener,
            _queued: queued,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("its address")
    }
}
