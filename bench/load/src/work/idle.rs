//! The work `idle`: idle connections, of which one may make round trips.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    Part, Work, open_all,
    ping_pong::{Extent, latency_summary, volley},
};
use crate::{latency::Samples, request::Request, wire};

pub(crate) struct Idle {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    /// Message size of the active connection, if there is one.
    pub(crate) active: Option<u64>,
    pub(crate) span: Duration,
}

impl Work for Idle {
    type Connection = TcpStream;
    type Tally = Samples;

    fn total(&self) -> usize {
        self.connections
    }

    async fn establish(&self, part: Part) -> io::Result<Vec<TcpStream>> {
        let size = self.active.unwrap_or(1);
        open_all(self.target, vec![Request::Echo { size }; part.size]).await
    }

    async fn drive(
        &self,
        part: Part,
        mut streams: Vec<TcpStream>,
    ) -> io::Result<(Vec<TcpStream>, Samples)> {
        let mut samples = Samples::default();
        match (part.index, self.active) {
            (0, Some(size)) => {
                let first = streams
                    .pop()
                    .ok_or_else(|| io::Error::other("--active needs a connection"))?;
                let (first, made) = volley(first, size, Extent::Time(self.span)).await?;
                streams.push(first);
                samples = made;
            }
            _ => tokio::time::sleep(self.span).await,
        }
        for stream in &streams {
            check_alive(stream)?;
        }
        Ok((streams, samples))
    }

    fn summary(&self, tallies: Vec<Samples>, elapsed: Duration) -> Value {
        let samples: Samples = tallies.into_iter().collect();
        json!({
            "work": "idle",
            "connections": self.connections,
            "seconds": elapsed.as_secs_f64(),
            "active": self.active.map(|_| latency_summary(samples, elapsed)),
        })
    }
}

/// Checks that an idle connection has nothing to read, not even an end.
fn check_alive(stream: &TcpStream) -> io::Result<()> {
    match stream.try_read(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
        Ok(0) => Err(wire::wrong("an idle connection was ended")),
        Ok(_) => Err(wire::wrong("bytes arrived on an idle connection")),
    }
}
