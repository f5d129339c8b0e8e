//! The client in front of the relay: connects, starts the work on all threads, prints the figures.

use std::{
    io::{self, BufRead},
    net::SocketAddr,
    process,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{
    shards::{runtime, share},
    work::{Bulk, Churn, Direction, Ending, Extent, Files, Idle, Mixed, Part, PingPong, Work},
};

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, value_enum)]
    work: Kind,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Seconds before the run fails
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    /// Print `{"event":"ready"}` once everything is connected and wait for a line on stdin; after the result, keep the
    /// connections until another line or the end of stdin
    #[arg(long)]
    gate: bool,
    /// bulk: number of streams
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// bulk, mixed: bytes of a stream in each of its directions
    #[arg(long, default_value_t = 1 << 30)]
    bytes_per_stream: u64,
    /// bulk: `up` is from the client to the origin
    #[arg(long, value_enum, default_value_t = Direction::Up)]
    direction: Direction,
    /// pingpong, idle, mixed, files: number of connections
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// pingpong, idle: bytes of a message; churn: bytes each way; files: bytes of a file
    #[arg(long, default_value_t = 64)]
    size: u64,
    /// pingpong, idle, mixed, files: duration
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// pingpong, files: total number, instead of a duration
    #[arg(long)]
    round_trips: Option<usize>,
    /// churn: connections at a time
    #[arg(long, default_value_t = 1)]
    connections_at_once: usize,
    /// churn: total number of connections
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// churn: end each connection with a reset, and wait until the relay has passed all of them on
    #[arg(long)]
    reset: bool,
    /// idle: one connection makes round trips
    #[arg(long)]
    active: bool,
    /// files: prefix of the paths
    #[arg(long, default_value = "/")]
    path: String,
    /// files: number of different files
    #[arg(long, default_value_t = 1)]
    files: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Many bytes in few streams
    Bulk,
    /// Messages to and fro
    Pingpong,
    /// Connect, exchange, close, repeatedly
    Churn,
    /// Idle connections
    Idle,
    /// Many small messages beside a few bulk streams, some of them read slowly
    Mixed,
    /// Requests to an HTTP server for the files of `files make`
    Files,
}

pub(crate) fn run(options: &Options) -> io::Result<()> {
    if options.threads == 0 {
        return Err(io::Error::other("--threads must be at least 1"));
    }
    let target = options.target;
    let span = Duration::try_from_secs_f64(options.seconds).map_err(io::Error::other)?;
    let extent = options
        .round_trips
        .map_or(Extent::Time(span), Extent::Count);
    match options.work {
        Kind::Bulk => drive(
            Bulk {
                target,
                streams: options.streams,
                bytes: options.bytes_per_stream,
                direction: options.direction,
            },
            options,
        ),
        Kind::Pingpong => drive(
            PingPong {
                target,
                connections: options.connections,
                size: options.size,
                extent,
            },
            options,
        ),
        Kind::Churn => drive(
            Churn {
                target,
                at_once: options.connections_at_once,
                count: options.count,
                size: options.size,
                ending: if options.reset {
                    Ending::Reset { run: process::id() }
                } else {
                    Ending::Clean
                },
            },
            options,
        ),
        Kind::Idle => drive(
            Idle {
                target,
                connections: options.connections,
                active: options.active.then_some(options.size),
                span,
            },
            options,
        ),
        Kind::Mixed => drive(
            Mixed {
                target,
                connections: options.connections,
                bytes: options.bytes_per_stream,
                span,
            },
            options,
        ),
        Kind::Files => drive(
            Files {
                target,
                connections: options.connections,
                path: options.path.clone(),
                different: options.files,
                size: options.size,
                extent,
            },
            options,
        ),
    }
}

/// The reports of a shard to the main thread.
enum Report<T> {
    Established,
    Finished(T),
}

fn drive<W: Work>(work: W, options: &Options) -> io::Result<()> {
    let work = Arc::new(work);
    let deadline = Instant::now() + Duration::from_secs(options.timeout);
    let (reports, inbox) = mpsc::channel();
    let begins: Vec<_> = (0..options.threads)
        .map(|index| {
            let (begin, orders) = mpsc::channel();
            let part = Part {
                index,
                size: share(work.total(), index, options.threads),
                of: options.threads,
            };
            let (work, reports) = (work.clone(), reports.clone());
            thread::spawn(move || {
                if let Err(error) = shard(&*work, part, &reports, &orders) {
                    // Without a receiver the run has already failed.
                    let _ = reports.send(Err(error));
                }
            });
            begin
        })
        .collect();

    for _ in &begins {
        next(&inbox, deadline)?;
    }
    let mut driver = io::stdin().lock();
    if options.gate {
        println!("{}", json!({ "event": "ready" }));
        driver.read_line(&mut String::new())?;
    }
    let started = Instant::now();
    for begin in &begins {
        // A shard that has ended has reported its error.
        let _ = begin.send(());
    }
    let mut tallies = Vec::new();
    while tallies.len() < begins.len() {
        if let Report::Finished(tally) = next(&inbox, deadline)? {
            tallies.push(tally);
        }
    }
    println!("{}", work.summary(tallies, started.elapsed()));
    if options.gate {
        driver.read_line(&mut String::new())?;
    }
    Ok(())
}

/// One thread's part: connects, waits for the start, works, and keeps its connections until the process ends.
fn shard<W: Work>(
    work: &W,
    part: Part,
    reports: &Sender<io::Result<Report<W::Tally>>>,
    orders: &Receiver<()>,
) -> io::Result<()> {
    let runtime = runtime()?;
    let connections = runtime.block_on(work.establish(part))?;
    let _ = reports.send(Ok(Report::Established));
    if orders.recv().is_err() {
        return Ok(());
    }
    let (_connections, tally) = runtime.block_on(work.drive(part, connections))?;
    let _ = reports.send(Ok(Report::Finished(tally)));
    // Waits until the main thread ends, and with it the process.
    let _ = orders.recv();
    Ok(())
}

fn next<T>(inbox: &Receiver<io::Result<Report<T>>>, deadline: Instant) -> io::Result<Report<T>> {
    let left = deadline.saturating_duration_since(Instant::now());
    inbox.recv_timeout(left).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            io::Error::new(io::ErrorKind::TimedOut, "not finished within --timeout")
        }
        RecvTimeoutError::Disconnected => io::Error::other("a thread ended without a report"),
    })?
}
