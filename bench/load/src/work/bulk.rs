//! The work `bulk`: many bytes in few streams.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Part, Work, all, open_all, per_second};
use crate::{request::Request, wire};

pub(crate) struct Bulk {
    pub(crate) target: SocketAddr,
    pub(crate) streams: usize,
    pub(crate) bytes: u64,
    pub(crate) direction: Direction,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Direction {
    Up,
    Down,
    Both,
}

impl Direction {
    pub(crate) fn ways(self) -> u64 {
        match self {
            Self::Up | Self::Down => 1,
            Self::Both => 2,
        }
    }
}

impl Work for Bulk {
    type Connection = TcpStream;
    /// The duration of each stream.
    type Tally = Vec<Duration>;

    fn total(&self) -> usize {
        self.streams
    }

    async fn establish(&self, part: Part) -> io::Result<Vec<TcpStream>> {
        let bytes = self.bytes;
        let request = match self.direction {
            Direction::Up => Request::Sink,
            Direction::Down => Request::Source { bytes },
            Direction::Both => Request::Both { bytes },
        };
        open_all(self.target, vec![request; part.size]).await
    }

    async fn drive(
        &self,
        _: Part,
        streams: Vec<TcpStream>,
    ) -> io::Result<(Vec<TcpStream>, Vec<Duration>)> {
        let (bytes, direction) = (self.bytes, self.direction);
        let started = Instant::now();
        let each = streams.into_iter().map(|stream| async move {
            let stream = carry(stream, bytes, direction).await?;
            Ok((stream, started.elapsed()))
        });
        Ok(all(each).await?.into_iter().unzip())
    }

    fn summary(&self, tallies: Vec<Vec<Duration>>, elapsed: Duration) -> Value {
        let bytes = self.bytes * self.streams as u64 * self.direction.ways();
        let seconds = tallies.iter().flatten().map(Duration::as_secs_f64);
        let (fastest, slowest) = seconds.fold((f64::INFINITY, 0.0_f64), |(least, most), time| {
            (least.min(time), most.max(time))
        });
        json!({
            "work": "bulk",
            "streams": self.streams,
            "bytes": bytes,
            "seconds": elapsed.as_secs_f64(),
            "bytesPerSecond": per_second(bytes, elapsed),
            // All streams carry the same amount, so 1 means equal service.
            "evenness": fastest / slowest,
        })
    }
}

/// Moves the bytes of one stream; checks the counts and the ends of both sides.
pub(crate) async fn carry(
    mut stream: TcpStream,
    bytes: u64,
    direction: Direction,
) -> io::Result<TcpStream> {
    stream.write_all(b"G").await?;
    match direction {
        Direction::Up => wire::send(&stream, bytes).await?,
        Direction::Down => wire::discard_exactly(&stream, bytes).await?,
        Direction::Both => {
            let (sending, receiving) = (
                send_and_end(&stream, bytes),
                wire::discard_exactly(&stream, bytes),
            );
            tokio::try_join!(sending, receiving)?;
        }
    }
    if !matches!(direction, Direction::Down) {
        stream.shutdown().await?;
        let received = stream.read_u64_le().await?;
        if received != bytes {
            return Err(wire::wrong(format!(
                "the origin received {received} of {bytes} bytes"
            )));
        }
    }
    wire::expect_end(&mut stream).await?;
    Ok(stream)
}

/// Sends and ends the direction, while the other one may continue.
async fn send_and_end(stream: &TcpStream, bytes: u64) -> io::Result<()> {
    wire::send(stream, bytes).await?;
    Ok(rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?)
}
