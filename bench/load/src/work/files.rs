//! The work `files`: requests to an HTTP server over connections that stay open.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use httparse::{EMPTY_HEADER, Response, Status};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Extent, Part, Work, all, ping_pong::latency_summary};
use crate::{content::Content, latency::Samples, wire};

const BUFFER: usize = 256 * 1024;

/// Requests for `/0`, `/1` and so on below `path`; each file has the content of `content`.
pub(crate) struct Files {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    pub(crate) path: String,
    /// Number of different files.
    pub(crate) different: u32,
    pub(crate) size: u64,
    pub(crate) extent: Extent,
}

impl Work for Files {
    type Connection = TcpStream;
    type Tally = Samples;

    fn total(&self) -> usize {
        self.connections
    }

    async fn establish(&self, part: Part) -> io::Result<Vec<TcpStream>> {
        if self.different == 0 {
            return Err(io::Error::other("--files must be at least 1"));
        }
        let target = self.target;
        let connect = |_| async move {
            let stream = TcpStream::connect(target).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        all((0..part.size).map(connect)).await
    }

    async fn drive(
        &self,
        part: Part,
        streams: Vec<TcpStream>,
    ) -> io::Result<(Vec<TcpStream>, Samples)> {
        let extent = self.extent.share(part.index, part.of);
        let count = streams.len();
        // Shared, so that every file is requested once before any is requested again.
        let turn = Arc::new(AtomicU32::new(0));
        let each = streams.into_iter().enumerate().map(|(index, stream)| {
            let client = Client {
                stream,
                host: self.target.to_string(),
                path: self.path.trim_end_matches('/').to_owned(),
                size: self.size,
                buffer: vec![0; BUFFER],
            };
            client.visits(turn.clone(), self.different, extent.share(index, count))
        });
        let (kept, samples): (Vec<_>, Vec<_>) = all(each).await?.into_iter().unzip();
        Ok((kept, samples.into_iter().collect()))
    }

    fn summary(&self, tallies: Vec<Samples>, elapsed: Duration) -> Value {
        let samples: Samples = tallies.into_iter().collect();
        let bytes = samples.count() as u64 * self.size;
        let mut summary = latency_summary(samples, elapsed);
        summary["work"] = "files".into();
        summary["connections"] = self.connections.into();
        summary["size"] = self.size.into();
        summary["bytes"] = bytes.into();
        summary
    }
}

struct Client {
    stream: TcpStream,
    host: String,
    path: String,
    size: u64,
    buffer: Vec<u8>,
}

impl Client {
    async fn visits(
        mut self,
        turn: Arc<AtomicU32>,
        files: u32,
        extent: Extent,
    ) -> io::Result<(TcpStream, Samples)> {
        let mut samples = Samples::default();
        let started = Instant::now();
        while !extent.is_used_up(started, samples.count()) {
            let index = turn.fetch_add(1, Ordering::Relaxed) % files;
            let sent = Instant::now();
            self.get(index).await?;
            samples.add(sent.elapsed());
        }
        Ok((self.stream, samples))
    }

    /// One request; the response must be exactly the file.
    async fn get(&mut self, index: u32) -> io::Result<()> {
        let (path, host) = (&self.path, &self.host);
        let request = format!("GET {path}/{index} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let mut content = Content::new(index, self.size);
        let (head, mut filled) = self.head().await?;
        content.expect(&self.buffer[head..filled])?;
        while content.left() > 0 {
            filled = self.stream.read(&mut self.buffer).await?;
            if filled == 0 {
                return content.end();
            }
            content.expect(&self.buffer[..filled])?;
        }
        Ok(())
    }

    /// Reads and checks a response head; returns its length and the number of bytes in the buffer.
    async fn head(&mut self) -> io::Result<(usize, usize)> {
        let mut filled = 0;
        loop {
            match self.stream.read(&mut self.buffer[filled..]).await? {
                0 => {
                    return Err(wire::wrong(
                        "the server ended the connection, or its head does",
                    ));
                }
                count => filled += count,
            }
            let mut headers = [EMPTY_HEADER; 32];
            let mut response = Response::new(&mut headers);
            if let Status::Complete(head) = response
                .parse(&self.buffer[..filled])
                .map_err(|error| wire::wrong(format!("not a response: {error}")))?
            {
                check_head(&response, self.size)?;
                return Ok((head, filled));
            }
        }
    }
}

fn check_head(response: &Response<'_, '_>, size: u64) -> io::Result<()> {
    if response.code != Some(200) {
        return Err(wire::wrong(format!("status {:?}", response.code)));
    }
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| str::from_utf8(header.value).ok()?.trim().parse().ok());
    if length == Some(size) {
        Ok(())
    } else {
        Err(wire::wrong(format!(
            "a content length of {length:?} for {size} bytes"
        )))
    }
}
