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
    time::timeout,
};

use super::{Part, Work, all, ping_pong::latency_summary};
use crate::{
    latency::Samples,
    request::{self, Request},
    shards::share,
    wire,
};

/// Longest wait for a relay that has to pass resets on.
const SETTLING: Duration = Duration::from_secs(3);

pub(crate) struct Churn {
    pub(crate) target: SocketAddr,
    pub(crate) at_once: usize,
    pub(crate) count: usize,
    pub(crate) size: u64,
    pub(crate) ending: Ending,
}

/// How the client ends a connection.
#[derive(Clone, Copy)]
pub(crate) enum Ending {
    /// Both ends close, one after the other.
    Clean,
    /// The client resets once it has the answer. `run` distinguishes the connections of this run at the origin.
    Reset { run: u32 },
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
        let (target, size, ending) = (self.target, self.size, self.ending);
        let each = (0..at_once)
            .map(|index| visits(target, size, ending, share(part.size, index, at_once)));
        let samples = all(each).await?.into_iter().collect();
        // Each part waits for all connections up to now. The last one to end thus waits for every one.
        if let Ending::Reset { run } = ending {
            settled(target, run, part.size as u64).await?;
        }
        Ok((Vec::new(), samples))
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

async fn visits(
    target: SocketAddr,
    size: u64,
    ending: Ending,
    count: usize,
) -> io::Result<Samples> {
    let request = match ending {
        Ending::Clean => Request::Exchange { size },
        Ending::Reset { run } => Request::Reset {
            size: u32::try_from(size).map_err(io::Error::other)?,
            run,
        },
    };
    let mut message = wire::pattern(usize::try_from(size).map_err(io::Error::other)?);
    message[..request::LENGTH].copy_from_slice(&request.encode());
    let mut answer = vec![0; message.len()];
    let mut samples = Samples::default();
    for _ in 0..count {
        let started = Instant::now();
        let mut stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        match ending {
            Ending::Clean => {
                stream.shutdown().await?;
                wire::expect_end(&mut stream).await?;
            }
            Ending::Reset { .. } => {
                stream.set_zero_linger()?;
                drop(stream);
            }
        }
        samples.add(started.elapsed());
        if answer != message {
            return Err(wire::wrong("an answer differs from its message"));
        }
    }
    Ok(samples)
}

/// Waits until the origin has seen the end of every connection, and checks that there were at least `count`.
async fn settled(target: SocketAddr, run: u32, count: u64) -> io::Result<()> {
    let answer = async {
        let mut stream = TcpStream::connect(target).await?;
        stream.write_all(&Request::Settled { run }.encode()).await?;
        let served = stream.read_u64_le().await?;
        stream.shutdown().await?;
        wire::expect_end(&mut stream).await?;
        Ok(served)
    };
    match timeout(SETTLING, answer).await {
        Ok(Ok(served)) if served >= count => Ok(()),
        Ok(Ok(served)) => Err(wire::wrong(format!(
            "the origin saw {served} of {count} connections"
        ))),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(wire::wrong(format!(
            "resets do not reach the origin within {} s",
            SETTLING.as_secs()
        ))),
    }
}
