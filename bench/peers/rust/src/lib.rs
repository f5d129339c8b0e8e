//! The common part of the Rust relays: arguments, accepting, connecting. The binaries differ in one call.

pub mod bare;
pub mod bulk;
mod threads;

use std::{io, net::SocketAddr};

use clap::Parser;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

#[derive(Parser)]
pub struct Addresses {
    #[arg(long)]
    pub listen: SocketAddr,
    #[arg(long)]
    pub target: SocketAddr,
}

/// Accepts forever on tokio's multi-threaded runtime with its default number of workers, and passes each connection and
/// its upstream to `relay`.
pub fn serve<F>(relay: fn(TcpStream, TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let Addresses { listen, target } = Addresses::parse();
    Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind(listen).await?;
            println!("listening {}", listener.local_addr()?.port());
            loop {
                let (client, _) = listener.accept().await?;
                tokio::spawn(async move {
                    if let Err(error) = forward(client, target, relay).await {
                        eprintln!("{error}");
                    }
                });
            }
        })
}

async fn forward<F>(
    client: TcpStream,
    target: SocketAddr,
    relay: fn(TcpStream, TcpStream) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    let upstream = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    relay(client, upstream).await
}
