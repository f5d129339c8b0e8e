//! The works of the load: the trait, and the parts that several works share.

mod bulk;
mod churn;
mod files;
mod idle;
mod mixed;
mod ping_pong;

use std::{future::Future, io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

pub(crate) use self::{
    bulk::{Bulk, Direction},
    churn::{Churn, Ending},
    files::Files,
    idle::Idle,
    mixed::Mixed,
    ping_pong::{Extent, PingPong},
};
use crate::{request::Request, wire};

/// Concurrent connects: fewer than any listener's backlog.
const CONNECTING: usize = 64;

/// One thread's part of a work.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) index: usize,
    /// Its share of the work's total.
    pub(crate) size: usize,
    /// Number of parts.
    pub(crate) of: usize,
}

pub(crate) trait Work: Send + Sync + 'static {
    type Connection;
    type Tally: Send + 'static;

    /// The number of connections or exchanges to divide among threads.
    fn total(&self) -> usize;
    /// Makes the connections of a part, through to the origin.
    async fn establish(&self, part: Part) -> io::Result<Vec<Self::Connection>>;
    /// Runs the part. The returned connections stay open until the figures are taken.
    async fn drive(
        &self,
        part: Part,
        connections: Vec<Self::Connection>,
    ) -> io::Result<(Vec<TcpStream>, Self::Tally)>;
    /// The figures of all parts together.
    fn summary(&self, tallies: Vec<Self::Tally>, elapsed: Duration) -> Value;
}

/// Connects and waits until the origin has answered the request.
async fn open(target: SocketAddr, request: Request) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&request.encode()).await?;
    match stream.read_u8().await? {
        b'R' => Ok(stream),
        other => Err(wire::wrong(format!(
            "expected the origin's answer, not byte {other}"
        ))),
    }
}

/// Opens several connections, in batches.
async fn open_all(target: SocketAddr, requests: Vec<Request>) -> io::Result<Vec<TcpStream>> {
    let mut opened = Vec::with_capacity(requests.len());
    for batch in requests.chunks(CONNECTING) {
        opened.extend(all(batch.iter().map(|&request| open(target, request))).await?);
    }
    Ok(opened)
}

/// Runs all futures concurrently; returns the results in the order of completion, or the first error.
async fn all<T: Send + 'static>(
    futures: impl Iterator<Item = impl Future<Output = io::Result<T>> + Send + 'static>,
) -> io::Result<Vec<T>> {
    let mut running: JoinSet<_> = futures.collect();
    let mut results = Vec::with_capacity(running.len());
    while let Some(ended) = running.join_next().await {
        results.push(ended.map_err(io::Error::other)??);
    }
    Ok(results)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}
