//! The work `churn`: connect, exchange, close, repeatedly.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Part, Work, all, ping_pong::latency_summary};
use crate::{
    latency::Samples,
    request::{self, Request},
    shards::share,
    wire,
};

pub(crate) struct Churn {
    pub(crate) target: SocketAddr,
    pub(crate) at_once: usize,
    pub(crate) count: usize,
    pub(crate) size: u64,
}

impl Work for Churn {
    type Connection = TcpStream;
    type Tally = Samples;

    fn total(&self) -> usize {
        self.count
    }

    async fn establish(&self, _: Part) -> io::Result<Vec<TcpStream>> {
        if self.size < request::LENGTH as u64 {
            return Err(io::Error::other(format!(
                "--size must be at least {}: the request is part of it",
                request::LENGTH
            )));
        }
        Ok(Vec::new())
    }

    async fn drive(&self, part: Part, _: Vec<TcpStream>) -> io::Result<(Vec<TcpStream>, Samples)> {
        let at_once = share(self.at_once, part.index, part.of).max(1);
        let (target, size) = (self.target, self.size);
        let each = (0..at_once).map(|index| visits(target, size, share(part.size, index, at_once)));
        Ok((Vec::new(), all(each).await?.into_iter().collect()))
    }

    fn summary(&self, tallies: Vec<Samples>, elapsed: Duration) -> Value {
        let samples: Samples = tallies.into_iter().collect();
        let mut summary = latency_summary(samples, elapsed);
        summary["work"] = "churn".into();
        summary["connectionsAtOnce"] = self.at_once.into();
        summary["size"] = self.size.into();
        summary
    }
}

async fn visits(target: SocketAddr, size: u64, count: usize) -> io::Result<Samples> {
    let mut message = wire::pattern(usize::try_from(size).map_err(io::Error::other)?);
    message[..request::LENGTH].copy_from_slice(&Request::Exchange { size }.encode());
    let mut answer = vec![0; message.len()];
    let mut samples = Samples::default();
    for _ in 0..count {
        let started = Instant::now();
        let mut stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        stream.shutdown().await?;
        wire::expect_end(&mut stream).await?;
        samples.add(started.elapsed());
        if answer != message {
            return Err(wire::wrong("an answer differs from its message"));
        }
    }
    Ok(samples)
}
