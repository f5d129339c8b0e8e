//! A relay of read(2) and write(2) in a loop, with a buffer of 64 KiB for each direction.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
};

fn main() -> io::Result<()> {
    fdsplice_bench_peers::bare::relay(carry)
}

fn carry(mut source: &TcpStream, mut destination: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match source.read(&mut buffer)? {
            0 => return destination.shutdown(Shutdown::Write),
            count => destination.write_all(&buffer[..count])?,
        }
    }
}
