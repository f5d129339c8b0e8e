//! A listening socket, and the thread that accepts its connections.

use std::sync::Arc;

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{SocketAddrAny, SocketFlags, accept_with, bind, getsockname, listen, sockopt},
};
use serde_json::json;

use crate::{
    command::Tuning,
    connection::{Connection, Worker},
    connections::Connections,
    reply::{Failure, Replies, Reply},
    socket::{Address, Socket, tune},
};

pub(crate) struct Listener {
    socket: Arc<Socket>,
    worker: Worker<Tuning>,
    /// Absent for a Unix socket.
    pub(crate) port: Option<u16>,
}

impl Listener {
    pub(crate) fn new(
        address: Address,
        backlog: u16,
        tuning: &Tuning,
        connections: &Connections,
        replies: &Replies,
    ) -> Result<Self, Failure> {
        let fd = address.socket()?;
        // Set before listening, so that accepted connections inherit the buffer sizes.
        tune(&fd, tuning)?;
        if matches!(address, Address::Tcp(_)) {
            sockopt::set_socket_reuseaddr(&fd, true)?;
        }
        bind(&fd, &address.any())?;
        listen(&fd, backlog.into())?;
        let port = port_of(getsockname(&fd)?);
        let socket = Arc::new(Socket::new(fd)?);
        let worker = Worker::spawn(replies.clone(), {
            let socket = Arc::clone(&socket);
            let connections = connections.clone();
            let replies = replies.clone();
            move |tuning| accept(&socket, &tuning, &connections, &replies)
        });
        Ok(Self {
            socket,
            worker,
            port,
        })
    }

    pub(crate) fn accept(&self, id: u64, tuning: Tuning) {
        self.worker.push(id, tuning);
    }

    pub(crate) fn close(self) -> Reply {
        self.socket.cancel()?;
        self.worker.finish();
        Ok(json!({}))
    }
}

fn accept(socket: &Socket, tuning: &Tuning, connections: &Connections, replies: &Replies) -> Reply {
    let fd = loop {
        socket.ready(PollFlags::IN)?;
        match accept_with(&socket.fd, SocketFlags::CLOEXEC) {
            Ok(fd) => break fd,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    tune(&fd, tuning)?;
    Ok(json!({ "conn": connections.add(Connection::new(fd, replies)?) }))
}

pub(crate) fn port_of(address: SocketAddrAny) -> Option<u16> {
    std::net::SocketAddr::try_from(address)
        .ok()
        .map(|address| address.port())
}
