//! The common part of the Rust relays: arguments, runtimes, accepting, connecting. The binaries differ in one call.

pub mod bare;
pub mod bulk;
pub mod ours;
mod threads;

use std::{
    io,
    net::{SocketAddr, TcpListener as Listener},
    sync::OnceLock,
    thread,
};

use clap::Parser;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

#[derive(Parser)]
pub struct Addresses {
    #[arg(long)]
    pub listen: SocketAddr,
    #[arg(long)]
    pub target: SocketAddr,
}

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    addresses: Addresses,
    /// Number of worker threads: 1 is the current-thread runtime. Default: tokio's default of the multi-threaded one
    #[arg(long)]
    workers: Option<usize>,
    /// A current-thread runtime for each worker. A connection stays on the runtime that accepted it
    #[arg(long, requires = "workers")]
    pinned: bool,
}

/// Where every connection goes. A static takes no room in the tasks, whose memory is measured.
static TARGET: OnceLock<SocketAddr> = OnceLock::new();

/// How a relay has ended.
pub trait Ending {
    /// Whether the runtime needs timers.
    const USES_TIME: bool;
    fn into_result(self) -> io::Result<()>;
}

impl Ending for io::Result<()> {
    const USES_TIME: bool = false;

    fn into_result(self) -> io::Result<()> {
        self
    }
}

/// Accepts forever, and passes each connection and its upstream to `relay`.
///
/// # Errors
/// Fails if the listener or the runtime cannot be made, or accepting fails.
pub fn serve<R, F>(relay: R) -> io::Result<()>
where
    R: Fn(TcpStream, TcpStream) -> io::Result<F> + Copy + Send + Sync + 'static,
    F: Future<Output: Ending> + Send + 'static,
{
    let Options {
        addresses: Addresses { listen, target },
        workers,
        pinned,
    } = Options::parse();
    TARGET.get_or_init(|| target);
    let listener = bind(listen)?;
    println!("listening {}", listener.local_addr()?.port());
    match workers {
        Some(workers) if pinned => each_alone(workers, listener, relay),
        workers => runtime(workers, F::Output::USES_TIME)?.block_on(accept(listener, relay)),
    }
}

fn bind(address: SocketAddr) -> io::Result<Listener> {
    let listener = Listener::bind(address)?;
    listener.set_nonblocking(true)?;
    // The backlog of tokio's listener; the standard library's is 128.
    rustix::net::listen(&listener, 1024)?;
    // Accepted sockets inherit it.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    Ok(listener)
}

fn runtime(workers: Option<usize>, uses_time: bool) -> io::Result<Runtime> {
    let mut builder = match workers {
        Some(1) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if let Some(workers) = workers.filter(|&workers| workers > 1) {
        builder.worker_threads(workers);
    }
    if uses_time {
        builder.enable_time();
    }
    builder.enable_io().build()
}

/// Runs a current-thread runtime in each of `workers` threads; ends when one fails.
///
/// All of them accept on duplicates of one listener, so there is one queue of connections. tokio registers a listener without
/// `EPOLLEXCLUSIVE`, so a connection wakes every idle runtime. Most of them find it taken and sleep again.
fn each_alone<R, F>(workers: usize, listener: Listener, relay: R) -> io::Result<()>
where
    R: Fn(TcpStream, TcpStream) -> io::Result<F> + Copy + Send + Sync + 'static,
    F: Future<Output: Ending> + Send + 'static,
{
    let alone = move |listener: Listener| {
        runtime(Some(1), F::Output::USES_TIME)?.block_on(accept(listener, relay))
    };
    for _ in 1..workers {
        let duplicate = listener.try_clone()?;
        thread::spawn(move || {
            if let Err(error) = alone(duplicate) {
                eprintln!("{error}");
                std::process::exit(1);
            }
        });
    }
    alone(listener)
}

async fn accept<R, F>(listener: Listener, relay: R) -> io::Result<()>
where
    R: Fn(TcpStream, TcpStream) -> io::Result<F> + Copy + Send + Sync + 'static,
    F: Future<Output: Ending> + Send + 'static,
{
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (client, _) = listener.accept().await?;
        // The only task of a connection. It holds one socket beside the future of the relay, and nothing else.
        tokio::spawn(async move {
            let relay = match connect().await {
                Ok(upstream) => relay(client, upstream),
                Err(error) => Err(error),
            };
            let ended = match relay {
                Ok(relay) => relay.await.into_result(),
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                report(&error);
            }
        });
    }
}

/// Prints an error. That a peer has reset its connection or gone is everyday business, and a line for each would be part of
/// the measured cost.
fn report(error: &io::Error) {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    if !matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected) {
        eprintln!("{error}");
    }
}

/// The connection to the target.
async fn connect() -> io::Result<TcpStream> {
    let target = TARGET
        .get()
        .ok_or_else(|| io::Error::other("no target is set"))?;
    let upstream = TcpStream::connect(target).await?;
    upstream.set_nodelay(true)?;
    Ok(upstream)
}
