//! Listeners that answer to no connect.

use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::listen;

/// A listener whose queue is full: the kernel drops every further SYN.
pub(crate) struct Silent {
    pub(crate) listener: TcpListener,
    _queued: TcpStream,
}

impl Silent {
    /// On a free port of `ip`.
    pub(crate) fn new(ip: &str) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a listener");
        listen(&listener, 0).expect("a short queue");
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
