//! Bare loops: blocking sockets, a thread for each connection or direction, and only the calls that move bytes.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, mpsc::channel},
};

use clap::Parser;
use rustix::{
    io::Errno,
    pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
};

use crate::{Addresses, threads};

/// Capacity of a pipe, and the maximum of one call.
pub const CHUNK: usize = 1024 * 1024;

/// Accepts forever, with a thread for each connection.
pub fn accept<E: Clone + Send + 'static>(
    listen: SocketAddr,
    environment: E,
    serve: fn(TcpStream, E) -> io::Result<()>,
) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("listening {}", listener.local_addr()?.port());
    loop {
        let (client, _) = listener.accept()?;
        let environment = environment.clone();
        threads::run(move || {
            let served = client
                .set_nodelay(true)
                .and_then(|()| serve(client, environment));
            if let Err(error) = served {
                eprintln!("{error}");
            }
        });
    }
}

/// Moves one direction until its end.
pub type Carry = fn(&TcpStream, &TcpStream) -> io::Result<()>;

/// A relay that runs `carry` for both directions.
pub fn relay(carry: Carry) -> io::Result<()> {
    let Addresses { listen, target } = Addresses::parse();
    accept(listen, (target, carry), |client, (target, carry)| {
        let (client, upstream) = (Arc::new(client), Arc::new(connect(target)?));
        let up = {
            let (client, upstream) = (client.clone(), upstream.clone());
            move || carry(&client, &upstream)
        };
        both(up, || carry(&upstream, &client))
    })
}

pub fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let upstream = TcpStream::connect(target)?;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}

/// Runs two directions at once.
pub fn both(
    up: impl FnOnce() -> io::Result<()> + Send + 'static,
    down: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let (ended, up_ended) = channel();
    threads::run(move || {
        // The receiver waits below.
        let _ = ended.send(up());
    });
    let down = down();
    up_ended.recv().map_err(io::Error::other)?.and(down)
}

/// A pipe of `CHUNK` bytes, or of the default size if the quota is used up.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    match fcntl_setpipe_size(&writer, CHUNK) {
        // The quota of an ordinary user is used up: the pipe keeps its default size.
        Ok(_) | Err(Errno::PERM) => Ok((reader, writer)),
        Err(errno) => Err(errno.into()),
    }
}

/// Moves the available bytes, at most `most`; returns their number, 0 at the end of the source.
pub fn splice_some(
    source: impl AsFd,
    (reader, writer): &(OwnedFd, OwnedFd),
    destination: impl AsFd,
    most: usize,
) -> io::Result<usize> {
    let taken = splice(source, None, writer, None, most, SpliceFlags::MOVE)?;
    let mut left = taken;
    while left > 0 {
        left -= splice(reader, None, &destination, None, left, SpliceFlags::MOVE)?;
    }
    Ok(taken)
}

pub fn splice_all(source: &TcpStream, destination: &TcpStream) -> io::Result<()> {
    let pipe = pipe()?;
    while splice_some(source, &pipe, destination, CHUNK)? > 0 {}
    destination.shutdown(Shutdown::Write)
}
