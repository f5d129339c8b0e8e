//! The work `mixed`: small messages on most connections, bulk on some, and one in a hundred with a slow reader.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval, interval_at},
};

use super::{
    Part, Work, all,
    bulk::{Direction, carry},
    open,
    ping_pong::{Rally, latency_summary},
};
use crate::{latency::Samples, request::Request, wire};

/// One of this many connections carries bulk.
const BULK_EVERY: usize = 20;
/// The roles of the bulk connections in turn; the third has a slow reader.
const ROLES: [Role; 5] = [
    Role::Bulk(Direction::Up),
    Role::Bulk(Direction::Down),
    Role::Slow,
    Role::Bulk(Direction::Both),
    Role::Bulk(Direction::Up),
];
/// Message sizes of the other connections, in turn.
const SIZES: [u64; 3] = [64, 512, 2048];
/// Pause before the next message of a connection.
const THINKING: Duration = Duration::from_millis(10);
/// Bytes per read of a slow reader, and the `SO_RCVBUF` that it requests, so that the unread bytes stay in the relay.
const SLOW_READ: u64 = 64 * 1024;
/// A slow stream carries the bytes of another stream divided by this number.
const SLOW_PART: u64 = 8;

pub(crate) struct Mixed {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    /// Bytes in each direction of a bulk stream.
    pub(crate) bytes: u64,
    /// Duration of the messages and of the slow readers.
    pub(crate) span: Duration,
}

#[derive(Clone, Copy)]
pub(crate) enum Role {
    Message(u64),
    Bulk(Direction),
    Slow,
}

impl Role {
    fn of(index: usize) -> Self {
        if (index + 1).is_multiple_of(BULK_EVERY) {
            ROLES[index / BULK_EVERY % ROLES.len()]
        } else {
            Self::Message(SIZES[index % SIZES.len()])
        }
    }
}

#[derive(Default)]
pub(crate) struct Tally {
    samples: Samples,
    bytes: u64,
}

impl Work for Mixed {
    type Connection = (TcpStream, Role);
    type Tally = Tally;

    fn total(&self) -> usize {
        self.connections
    }

    async fn establish(&self, part: Part) -> io::Result<Vec<Self::Connection>> {
        let mut connections = Vec::with_capacity(part.size);
        for role in (0..part.size).map(Role::of) {
            let bytes = self.bytes;
            let request = match role {
                Role::Message(size) => Request::Echo { size },
                Role::Bulk(Direction::Up) => Request::Sink,
                Role::Bulk(Direction::Down) => Request::Source { bytes },
                Role::Bulk(Direction::Both) => Request::Both { bytes },
                Role::Slow => Request::Source {
                    bytes: bytes / SLOW_PART,
                },
            };
            let stream = open(self.target, request).await?;
            if matches!(role, Role::Slow) {
                let size = usize::try_from(SLOW_READ).map_err(io::Error::other)?;
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, size)?;
            }
            connections.push((stream, role));
        }
        Ok(connections)
    }

    async fn drive(
        &self,
        _: Part,
        connections: Vec<Self::Connection>,
    ) -> io::Result<(Vec<TcpStream>, Tally)> {
        let (bytes, span) = (self.bytes, self.span);
        let count = connections.len();
        let each = connections
            .into_iter()
            .enumerate()
            .map(|(index, (stream, role))| async move {
                match role {
                    Role::Message(size) => {
                        // Spread over the pause, so that not all send at once.
                        let offset =
                            THINKING.mul_f64(precise(index as u64) / precise(count as u64));
                        let (stream, samples) = converse(stream, size, span, offset).await?;
                        Ok((stream, Tally { samples, bytes: 0 }))
                    }
                    Role::Bulk(direction) => {
                        let stream = carry(stream, bytes, direction).await?;
                        let bytes = bytes * direction.ways();
                        Ok((
                            stream,
                            Tally {
                                bytes,
                                ..Tally::default()
                            },
                        ))
                    }
                    Role::Slow => {
                        let bytes = bytes / SLOW_PART;
                        let stream = read_slowly(stream, bytes, span).await?;
                        Ok((
                            stream,
                            Tally {
                                bytes,
                                ..Tally::default()
                            },
                        ))
                    }
                }
            });
        let mut tally = Tally::default();
        let mut kept = Vec::with_capacity(count);
        for (stream, other) in all(each).await? {
            kept.push(stream);
            tally.add(other);
        }
        Ok((kept, tally))
    }

    fn summary(&self, tallies: Vec<Tally>, elapsed: Duration) -> Value {
        let mut total = Tally::default();
        for tally in tallies {
            total.add(tally);
        }
        let mut summary = latency_summary(total.samples, elapsed);
        summary["work"] = json!("mixed");
        summary["connections"] = json!(self.connections);
        summary["bytes"] = json!(total.bytes);
        summary
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.samples.append(other.samples);
        self.bytes += other.bytes;
    }
}

/// Makes as many round trips as fit into `span` with a pause before each. The number is fixed even if they take longer, so that
/// all relays carry the same messages.
async fn converse(
    stream: TcpStream,
    size: u64,
    span: Duration,
    offset: Duration,
) -> io::Result<(TcpStream, Samples)> {
    let mut rally = Rally::new(stream, size)?;
    let mut ticks = interval_at(Instant::now() + offset, THINKING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..span.as_millis() / THINKING.as_millis() {
        ticks.tick().await;
        rally.trip().await?;
    }
    Ok((rally.stream, rally.samples))
}

/// Reads all bytes, evenly spread over `span`.
async fn read_slowly(mut stream: TcpStream, bytes: u64, span: Duration) -> io::Result<TcpStream> {
    stream.write_all(b"G").await?;
    let reads = bytes.div_ceil(SLOW_READ).max(1);
    let pause = span.div_f64(precise(reads));
    let mut ticks = interval(pause.max(Duration::from_micros(1)));
    let mut left = bytes;
    while left > 0 {
        ticks.tick().await;
        let next = left.min(SLOW_READ);
        wire::discard_exactly(&stream, next).await?;
        left -= next;
    }
    wire::expect_end(&mut stream).await?;
    Ok(stream)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn precise(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_connections_five_carry_bulk_and_one_of_them_is_read_slowly() {
        let roles: Vec<_> = (0..100).map(Role::of).collect();
        let messages = roles.iter().filter(|role| matches!(role, Role::Message(_)));
        let slow = roles.iter().filter(|role| matches!(role, Role::Slow));
        assert_eq!((messages.count(), slow.count()), (95, 1));
    }
}
