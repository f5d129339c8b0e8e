//! The work `pingpong`: messages to and fro.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Part, Work, all, open_all, per_second};
use crate::{latency::Samples, request::Request, shards::share, wire};

pub(crate) struct PingPong {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) size: u64,
    pub(crate) extent: Extent,
}

/// The end of a work: after a time or a number of round trips.
#[derive(Clone, Copy)]
pub(crate) enum Extent {
    Time(Duration),
    /// Round trips.
    Count(usize),
}

impl Extent {
    pub(crate) fn is_used_up(self, started: Instant, count: usize) -> bool {
        match self {
            Self::Time(time) => started.elapsed() >= time,
            Self::Count(most) => count >= most,
        }
    }

    pub(crate) fn share(self, index: usize, of: usize) -> Self {
        match self {
            Self::Time(time) => Self::Time(time),
            Self::Count(count) => Self::Count(share(count, index, of)),
        }
    }
}

impl Work for PingPong {
    type Connection = TcpStream;
    type Tally = Samples;

    fn total(&self) -> usize {
        self.connections
    }

    async fn establish(&self, part: Part) -> io::Result<Vec<TcpStream>> {
        open_all(
            self.target,
            vec![Request::Echo { size: self.size }; part.size],
        )
        .await
    }

    async fn drive(
        &self,
        part: Part,
        streams: Vec<TcpStream>,
    ) -> io::Result<(Vec<TcpStream>, Samples)> {
        let extent = self.extent.share(part.index, part.of);
        let (size, count) = (self.size, streams.len());
        let each = streams
            .into_iter()
            .enumerate()
            .map(|(index, stream)| volley(stream, size, extent.share(index, count)));
        let (kept, samples): (Vec<_>, Vec<_>) = all(each).await?.into_iter().unzip();
        Ok((kept, samples.into_iter().collect()))
    }

    fn summary(&self, tallies: Vec<Samples>, elapsed: Duration) -> Value {
        let samples: Samples = tallies.into_iter().collect();
        let mut summary = latency_summary(samples, elapsed);
        summary["work"] = "pingpong".into();
        summary["connections"] = self.connections.into();
        summary["size"] = self.size.into();
        summary
    }
}

/// Makes round trips until `extent` is used up.
pub(crate) async fn volley(
    stream: TcpStream,
    size: u64,
    extent: Extent,
) -> io::Result<(TcpStream, Samples)> {
    let mut rally = Rally::new(stream, size)?;
    let started = Instant::now();
    while !extent.is_used_up(started, rally.samples.count()) {
        rally.trip().await?;
    }
    Ok((rally.stream, rally.samples))
}

/// Round trips on one connection; each answer must equal its message.
pub(crate) struct Rally {
    pub(crate) stream: TcpStream,
    pub(crate) samples: Samples,
    message: Vec<u8>,
    answer: Vec<u8>,
}

impl Rally {
    pub(crate) fn new(stream: TcpStream, size: u64) -> io::Result<Self> {
        let message = wire::pattern(usize::try_from(size).map_err(io::Error::other)?);
        Ok(Self {
            stream,
            samples: Samples::default(),
            answer: vec![0; message.len()],
            message,
        })
    }

    pub(crate) async fn trip(&mut self) -> io::Result<()> {
        // Each message differs, so that a late or repeated answer is detected.
        self.message[0] = self.message[0].wrapping_add(1);
        let sent = Instant::now();
        self.stream.write_all(&self.message).await?;
        self.stream.read_exact(&mut self.answer).await?;
        self.samples.add(sent.elapsed());
        if self.answer == self.message {
            Ok(())
        } else {
            Err(wire::wrong("an answer differs from its message"))
        }
    }
}

/// Count, rate and percentiles.
pub(crate) fn latency_summary(samples: Samples, elapsed: Duration) -> Value {
    let count = samples.count();
    json!({
        "count": count,
        "seconds": elapsed.as_secs_f64(),
        "perSecond": per_second(count as u64, elapsed),
        "microseconds": samples.percentiles(),
    })
}
