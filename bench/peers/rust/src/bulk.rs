//! The floor of bulk: bytes are received into `/dev/null` and sent from memory that is there already. The load only counts bulk
//! bytes, so it accepts this as a relay. No relay can do less.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::OwnedFd,
    sync::{Arc, mpsc::channel},
};

use rustix::fs::{MemfdFlags, memfd_create, sendfile};

use crate::bare::{CHUNK, both, pipe, splice_some};

/// Length of the request at the start of a connection: 7 bytes of magic, the kind, a number.
const REQUEST: usize = 16;

/// The request of a client, in the format of the load's origin.
#[derive(Clone, Copy)]
pub struct Request {
    encoded: [u8; REQUEST],
    /// Whether the client sends in bulk.
    pub up: bool,
    /// Number of bytes that the origin sends.
    pub down: u64,
}

impl Request {
    pub fn read(mut client: &TcpStream) -> io::Result<Self> {
        let mut encoded = [0; REQUEST];
        client.read_exact(&mut encoded)?;
        let [_, _, _, _, _, _, _, kind, number @ ..] = encoded;
        let number = u64::from_le_bytes(number);
        let (up, down) = match kind {
            b'k' => (true, 0),
            b's' => (false, number),
            b'b' => (true, number),
            _ => return Err(io::Error::other("the floor knows only bulk")),
        };
        Ok(Self { encoded, up, down })
    }
}

/// The sink and the source of the bytes.
struct Void {
    pipe: (OwnedFd, OwnedFd),
    null: File,
    memory: File,
}

impl Void {
    fn new() -> io::Result<Self> {
        let memory = File::from(memfd_create("floor", MemfdFlags::CLOEXEC)?);
        (&memory).write_all(&vec![b'.'; CHUNK])?;
        Ok(Self {
            pipe: pipe()?,
            null: OpenOptions::new().write(true).open("/dev/null")?,
            memory,
        })
    }

    /// Receives the available bytes, at most `most`; 0 at the end.
    fn receive(&self, source: &TcpStream, most: u64) -> io::Result<usize> {
        splice_some(source, &self.pipe, &self.null, chunk(most))
    }

    fn send(&self, destination: &TcpStream, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let mut start = 0;
            left -= sendfile(destination, &self.memory, Some(&mut start), chunk(left))? as u64;
        }
        Ok(())
    }

    /// Receives at most `bytes`, and sends as many.
    fn carry(&self, source: &TcpStream, destination: &TcpStream, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            match self.receive(source, left)? as u64 {
                0 => break,
                taken => {
                    self.send(destination, taken)?;
                    left -= taken;
                }
            }
        }
        Ok(())
    }
}

/// Both halves of a relay: receive from one side, send to the other.
pub fn relay(client: TcpStream, upstream: TcpStream, request: Request) -> io::Result<()> {
    let (client, upstream) = (Arc::new(client), Arc::new(upstream));
    let up = {
        let (client, upstream) = (client.clone(), upstream.clone());
        move || {
            (&*upstream).write_all(&request.encoded)?;
            if request.up {
                // The start signal is one byte.
                pass(&client, &upstream, 1)?;
                Void::new()?.carry(&client, &upstream, u64::MAX)?;
            } else {
                pass(&client, &upstream, u64::MAX)?;
            }
            upstream.shutdown(Shutdown::Write)
        }
    };
    let down = || {
        // The origin's answer: one byte.
        pass(&upstream, &client, 1)?;
        Void::new()?.carry(&upstream, &client, request.down)?;
        // The origin's count of what it received.
        pass(&upstream, &client, u64::MAX)?;
        client.shutdown(Shutdown::Write)
    };
    both(up, down)
}

/// One socket without an upstream: receives the bytes that go up, sends those that go down.
pub fn half(client: TcpStream, request: Request) -> io::Result<()> {
    let client = Arc::new(client);
    (&*client).write_all(b"R")?;
    (&*client).read_exact(&mut [0])?;
    let (count, received) = channel();
    let up = {
        let client = client.clone();
        move || {
            let (void, mut total) = (Void::new()?, 0);
            loop {
                match void.receive(&client, u64::MAX)? as u64 {
                    0 => return count.send(total).map_err(io::Error::other),
                    taken => total += taken,
                }
            }
        }
    };
    let down = || {
        Void::new()?.send(&client, request.down)?;
        if request.up {
            let total: u64 = received.recv().map_err(io::Error::other)?;
            (&*client).write_all(&total.to_le_bytes())?;
        }
        client.shutdown(Shutdown::Write)?;
        // Wait until the client has ended as well, so that it receives the count.
        let _ = received.recv();
        Ok(())
    };
    both(up, down)
}

/// Relays at most `bytes` unchanged.
fn pass(source: &TcpStream, mut destination: &TcpStream, bytes: u64) -> io::Result<()> {
    io::copy(&mut source.take(bytes), &mut destination)?;
    Ok(())
}

fn chunk(bytes: u64) -> usize {
    usize::try_from(bytes).map_or(CHUNK, |bytes| bytes.min(CHUNK))
}
