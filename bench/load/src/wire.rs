//! Sends and counts bytes as cheaply as possible, because the load shares its processors with the measured relay.

use std::{io, sync::LazyLock};

use rustix::net::{RecvFlags, SendFlags};
use tokio::{
    io::{AsyncReadExt, Interest},
    net::TcpStream,
};

const SEND_SIZE: usize = 256 * 1024;
const DISCARD_SIZE: usize = 1024 * 1024;

/// The bytes for bulk; they fit a processor's second-level cache.
static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| pattern(SEND_SIZE));

/// Bytes in which neighbours and pages differ, so that a wrongly assembled message differs from the right one.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index.wrapping_mul(31) ^ (index >> 8)).to_le_bytes()[0])
        .collect()
}

pub(crate) fn wrong(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.into())
}

/// Sends `bytes` bytes.
pub(crate) async fn send(stream: &TcpStream, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let part = &FILLER[..capped(left, FILLER.len())];
        let sent = stream
            .async_io(Interest::WRITABLE, || {
                Ok(rustix::net::send(stream, part, SendFlags::NOSIGNAL)?)
            })
            .await?;
        left -= sent as u64;
    }
    Ok(())
}

/// Receives until the end, at most `limit` bytes; returns their number. TCP discards them without a copy.
pub(crate) async fn discard(stream: &TcpStream, limit: u64) -> io::Result<u64> {
    // Never written to, so it takes address space but no memory.
    let mut scratch = vec![0; DISCARD_SIZE];
    let mut received = 0;
    while received < limit {
        let room = capped(limit - received, scratch.len());
        let (_, count) = stream
            .async_io(Interest::READABLE, || {
                Ok(rustix::net::recv(
                    stream,
                    &mut scratch[..room],
                    RecvFlags::TRUNC,
                )?)
            })
            .await?;
        if count == 0 {
            break;
        }
        received += count as u64;
    }
    Ok(received)
}

/// Receives exactly `bytes` bytes; an earlier end is an error with the number received.
pub(crate) async fn discard_exactly(stream: &TcpStream, bytes: u64) -> io::Result<()> {
    let received = discard(stream, bytes).await?;
    if received == bytes {
        Ok(())
    } else {
        Err(wrong(format!(
            "the stream ended after {received} of {bytes} bytes"
        )))
    }
}

/// Checks that the stream ends here.
pub(crate) async fn expect_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(wrong("bytes arrived after the last one")),
    }
}

/// Checks that the stream ends here or is reset.
pub(crate) async fn expect_end_or_reset(stream: &mut TcpStream) -> io::Result<()> {
    match expect_end(stream).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        other => other,
    }
}

fn capped(bytes: u64, most: usize) -> usize {
    usize::try_from(bytes).map_or(most, |bytes| bytes.min(most))
}
