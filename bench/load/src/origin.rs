//! The origin: the server behind the relay, which checks and counts.

use std::{io, net::SocketAddr};

use clap::{Args, ValueEnum};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    request::{self, Request},
    resets,
    shards::{self, runtime},
    wire,
};

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The same service for every connection; without it each connection begins with a request, as `run` sends it
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    /// Number of bytes that `--mode source` sends
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Send back all received bytes
    Echo,
    /// Read to the end
    Sink,
    /// Send `--bytes` and end
    Source,
}

pub(crate) fn serve(options: &Options) -> io::Result<()> {
    let listener = listen(options.listen)?;
    println!("listening {}", listener.local_addr()?.port());
    let fixed = options.mode.map(|mode| (mode, options.bytes));
    let listeners = (0..options.threads)
        .map(|_| listener.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    shards::each(listeners, |_, listener| {
        let runtime = runtime()?;
        runtime.block_on(async { accept(&TcpListener::from_std(listener)?, fixed).await })
    })?;
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    // The standard library's backlog is 128. Connections of a burst beyond it are dropped, and wait a second for a retry.
    rustix::net::listen(&listener, 4096)?;
    Ok(listener)
}

async fn accept(listener: &TcpListener, fixed: Option<(Mode, u64)>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let served = match fixed {
                Some((mode, bytes)) => serve_fixed(stream, mode, bytes).await,
                None => serve_request(stream).await,
            };
            if let Err(error) = served {
                eprintln!("fdsplice-load origin: {error}");
            }
        });
    }
}

async fn serve_fixed(mut stream: TcpStream, mode: Mode, bytes: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match mode {
        Mode::Echo => {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match stream.read(&mut buffer).await? {
                    0 => return Ok(()),
                    count => stream.write_all(&buffer[..count]).await?,
                }
            }
        }
        Mode::Sink => {
            wire::discard(&stream, u64::MAX).await?;
        }
        Mode::Source => {
            wire::send(&stream, bytes).await?;
            stream.shutdown().await?;
            wire::discard(&stream, u64::MAX).await?;
        }
    }
    Ok(())
}

async fn serve_request(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; request::LENGTH];
    match stream.read(&mut first[..1]).await? {
        // A probe whether the relay accepts: no request.
        0 => return Ok(()),
        _ => stream.read_exact(&mut first[1..]).await?,
    };
    match Request::decode(first)? {
        Request::Echo { size } => {
            stream.write_all(b"R").await?;
            echo(&mut stream, size).await
        }
        Request::Exchange { size } => {
            answer(&mut stream, first, size).await?;
            wire::expect_end(&mut stream).await
        }
        Request::Reset { size, run } => {
            let _open = resets::begin(run);
            answer(&mut stream, first, size.into()).await?;
            wire::expect_end_or_reset(&mut stream).await
        }
        Request::Settled { run } => {
            let served = resets::settled(run).await;
            report(&mut stream, served).await
        }
        Request::Sink => {
            start(&mut stream).await?;
            let received = wire::discard(&stream, u64::MAX).await?;
            report(&mut stream, received).await
        }
        Request::Source { bytes } => {
            start(&mut stream).await?;
            wire::send(&stream, bytes).await?;
            stream.shutdown().await?;
            wire::expect_end(&mut stream).await
        }
        Request::Both { bytes } => {
            start(&mut stream).await?;
            let receiving = wire::discard(&stream, u64::MAX);
            let (received, ()) = tokio::try_join!(receiving, wire::send(&stream, bytes))?;
            report(&mut stream, received).await
        }
    }
}

/// Reports that the connection to the origin is up, and waits for the start signal.
async fn start(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"R").await?;
    match stream.read_u8().await? {
        b'G' => Ok(()),
        other => Err(wire::wrong(format!(
            "expected the start signal, not byte {other}"
        ))),
    }
}

/// Ends a connection with a number.
async fn report(stream: &mut TcpStream, number: u64) -> io::Result<()> {
    stream.write_u64_le(number).await?;
    stream.shutdown().await
}

async fn echo(stream: &mut TcpStream, size: u64) -> io::Result<()> {
    let mut message = vec![0; size_in_memory(size)?];
    loop {
        match stream.read(&mut message).await? {
            0 => return Ok(()),
            count => stream.read_exact(&mut message[count..]).await?,
        };
        stream.write_all(&message).await?;
    }
}

async fn answer(stream: &mut TcpStream, first: [u8; request::LENGTH], size: u64) -> io::Result<()> {
    let mut message = vec![0; size_in_memory(size)?];
    message[..request::LENGTH].copy_from_slice(&first);
    stream.read_exact(&mut message[request::LENGTH..]).await?;
    stream.write_all(&message).await
}

fn size_in_memory(size: u64) -> io::Result<usize> {
    const MOST: u64 = 64 << 20;
    match usize::try_from(size) {
        Ok(in_memory) if (1..=MOST).contains(&size) => Ok(in_memory),
        _ => Err(wire::wrong(format!("a message of {size} bytes"))),
    }
}
