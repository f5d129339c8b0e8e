//! The bare loops: blocking sockets, a thread for each connection or direction, and nothing but the calls that move bytes.

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

/// Capacity of a pipe, and the most that one call moves.
pub const PIECE: usize = 1024 * 1024;

/// Accepts for ever, each connection in a thread of its own.
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

/// One direction, until its end.
pub type Carry = fn(&TcpStream, &TcpStream) -> io::Result<()>;

/// A relay whose directions differ in nothing.
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
        // Somebody waits for it below.
        let _ = ended.send(up());
    });
    let down = down();
    up_ended.recv().map_err(io::Error::other)?.and(down)
}

/// A pipe as large as one is let have.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    match fcntl_setpipe_size(&writer, PIECE) {
        // An ordinary user is over the quota: it stays as it was made.
        Ok(_) | Err(Errno::PERM) => Ok((reader, writer)),
        Err(errno) => Err(errno.into()),
    }
}

/// Moves what is there, at most `most` and at least one byte unless the source is at its end, and returns how many.
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
    while splice_some(source, &pipe, destination, PIECE)? > 0 {}
    destination.shutdown(Shutdown::Write)
}
