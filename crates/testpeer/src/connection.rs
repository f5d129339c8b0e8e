//! A connection: one socket, a thread that reads and a thread that writes.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown, shutdown, sockopt},
};
use serde_json::{Value, json};

use crate::{
    command::{Directions, Pace},
    generator::{Random, Streams},
    reply::{Failure, Replies, Reply, errno_name},
    socket::Socket,
    tally::{Tally, hex},
};

/// A queue of jobs, and the thread that runs them in order.
pub(crate) struct Worker<Job> {
    queue: Sender<(u64, Job)>,
    thread: JoinHandle<()>,
}

impl<Job: Send + 'static> Worker<Job> {
    pub(crate) fn spawn(
        replies: Replies,
        mut run: impl FnMut(Job) -> Reply + Send + 'static,
    ) -> Self {
        let (queue, jobs) = channel();
        let thread = std::thread::spawn(move || {
            for (id, job) in jobs {
                let reply = run(job);
                replies.send(id, reply);
            }
        });
        Self { queue, thread }
    }

    pub(crate) fn push(&self, id: u64, job: Job) {
        assert!(
            self.queue.send((id, job)).is_ok(),
            "a worker outlives its queue"
        );
    }

    /// Waits until all queued jobs have run.
    pub(crate) fn finish(self) {
        drop(self.queue);
        assert!(self.thread.join().is_ok(), "a worker panicked");
    }
}

/// A job of the writing thread.
pub(crate) enum Output {
    Stream { bytes: u64, seed: u64, pace: Pace },
    Literal(Vec<u8>),
    OutOfBand(u8),
    Shutdown(Shutdown),
}

/// A job of the reading thread.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    Exactly { bytes: u64, pace: Pace },
    ToEnd { pace: Pace },
    Pause(Duration),
}

pub(crate) struct Connection {
    socket: Arc<Socket>,
    writer: Worker<Output>,
    reader: Worker<Input>,
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd, replies: &Replies) -> Result<Self, Errno> {
        let socket = Arc::new(Socket::new(fd)?);
        let mut streams = Streams::default();
        let writer = Worker::spawn(replies.clone(), {
            let socket = Arc::clone(&socket);
            move |job| output(&socket, &mut streams, job)
        });
        let reader = Worker::spawn(replies.clone(), {
            let socket = Arc::clone(&socket);
            move |job| input(&socket, job)
        });
        Ok(Self {
            socket,
            writer,
            reader,
        })
    }

    pub(crate) fn output(&self, id: u64, job: Output) {
        self.writer.push(id, job);
    }

    pub(crate) fn input(&self, id: u64, job: Input) {
        self.reader.push(id, job);
    }

    pub(crate) fn shutdown_reading(&self) -> Reply {
        shutdown(&self.socket.fd, Shutdown::Read)?;
        Ok(json!({}))
    }

    pub(crate) fn set_receive_buffer(&self, bytes: usize) -> Reply {
        sockopt::set_socket_recv_buffer_size(&self.socket.fd, bytes)?;
        Ok(json!({}))
    }

    pub(crate) fn counts(&self) -> Value {
        json!({
            "sent": self.socket.sent.load(Ordering::Relaxed),
            "received": self.socket.received.load(Ordering::Relaxed),
        })
    }

    /// Resets the connection. The kernel discards the bytes that it still had to send.
    pub(crate) fn reset(self) -> Reply {
        sockopt::set_socket_linger(&self.socket.fd, Some(Duration::ZERO))?;
        self.close()
    }

    pub(crate) fn close(self) -> Reply {
        let Self {
            socket,
            writer,
            reader,
        } = self;
        socket.cancel()?;
        writer.finish();
        reader.finish();
        // The threads have ended and dropped their references. Dropping this one closes the socket before the answer is sent.
        assert!(
            Arc::into_inner(socket).is_some(),
            "a finished thread still holds the socket"
        );
        Ok(json!({}))
    }
}

impl Directions {
    pub(crate) fn shutdown(self) -> Shutdown {
        match self {
            Self::Read => Shutdown::Read,
            Self::Write => Shutdown::Write,
            Self::Both => Shutdown::Both,
        }
    }
}

fn output(socket: &Socket, streams: &mut Streams, job: Output) -> Reply {
    match job {
        Output::Stream { bytes, seed, pace } => {
            let (min, max) = pace.range().map_err(Failure::new)?;
            let mut tally = Tally::default();
            let mut random = Random::new(seed);
            let mut buffer = vec![0; max];
            while tally.bytes < bytes {
                let size = step(&mut random, min, max, bytes - tally.bytes);
                let chunk = &mut buffer[..size];
                streams.of(seed).fill(chunk);
                if let Err(errno) = rest(socket, &mut random, pace)
                    .and_then(|()| send_all(socket, chunk, SendFlags::empty(), &mut tally))
                {
                    return Err(Failure::after(errno, tally));
                }
            }
            Ok(json!({ "bytes": tally.bytes, "sha256": tally.sha256() }))
        }
        Output::Literal(bytes) => literal(socket, &bytes, SendFlags::empty()),
        Output::OutOfBand(byte) => literal(socket, &[byte], SendFlags::OOB),
        Output::Shutdown(directions) => {
            shutdown(&socket.fd, directions)?;
            Ok(json!({}))
        }
    }
}

fn literal(socket: &Socket, bytes: &[u8], flags: SendFlags) -> Reply {
    let mut tally = Tally::default();
    match send_all(socket, bytes, flags, &mut tally) {
        Ok(()) => Ok(json!({ "bytes": tally.bytes, "sha256": tally.sha256() })),
        Err(errno) => Err(Failure::after(errno, tally)),
    }
}

fn send_all(
    socket: &Socket,
    mut bytes: &[u8],
    flags: SendFlags,
    tally: &mut Tally,
) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let count = socket.send(bytes, flags)?;
        tally.add(&bytes[..count]);
        bytes = &bytes[count..];
    }
    Ok(())
}

/// How many bytes at most an answer shows.
const SHOWN: u64 = 64;

fn input(socket: &Socket, job: Input) -> Reply {
    match job {
        Input::Exactly { bytes, pace } => {
            let mut shown = Vec::new();
            let (tally, end) = receive(socket, bytes, pace, |part| {
                if bytes <= SHOWN {
                    shown.extend_from_slice(part);
                }
            })?;
            match end {
                None if bytes <= SHOWN => Ok(
                    json!({ "bytes": tally.bytes, "sha256": tally.sha256(), "data": hex(&shown) }),
                ),
                None => Ok(json!({ "bytes": tally.bytes, "sha256": tally.sha256() })),
                Some(Ok(())) => Err(Failure::early_end(tally)),
                Some(Err(errno)) => Err(Failure::after(errno, tally)),
            }
        }
        Input::ToEnd { pace } => {
            let (tally, end) = receive(socket, u64::MAX, pace, |_| {})?;
            let end = match end {
                Some(Err(Errno::CANCELED)) => return Err(Failure::after(Errno::CANCELED, tally)),
                Some(Err(Errno::CONNRESET)) => "reset".into(),
                Some(Err(errno)) => errno_name(errno),
                Some(Ok(())) | None => "eof".into(),
            };
            Ok(json!({ "bytes": tally.bytes, "sha256": tally.sha256(), "end": end }))
        }
        Input::Pause(duration) => {
            socket.pause(duration)?;
            Ok(json!({}))
        }
    }
}

/// Reads up to `limit` bytes. Also returns how the input ended, if it ended before that.
fn receive(
    socket: &Socket,
    limit: u64,
    pace: Pace,
    mut show: impl FnMut(&[u8]),
) -> Result<(Tally, Option<Result<(), Errno>>), Failure> {
    let (min, max) = pace.range().map_err(Failure::new)?;
    let mut tally = Tally::default();
    let mut random = Random::new(limit);
    let mut buffer = vec![0; max];
    while tally.bytes < limit {
        let size = step(&mut random, min, max, limit - tally.bytes);
        match rest(socket, &mut random, pace).and_then(|()| socket.receive(&mut buffer[..size])) {
            Ok(0) => return Ok((tally, Some(Ok(())))),
            Ok(count) => {
                tally.add(&buffer[..count]);
                show(&buffer[..count]);
            }
            Err(errno) => return Ok((tally, Some(Err(errno)))),
        }
    }
    Ok((tally, None))
}

/// The size of the next call in bytes.
fn step(random: &mut Random, min: usize, max: usize, left: u64) -> usize {
    usize::try_from(random.between(min as u64, max as u64).min(left)).unwrap_or(max)
}

/// Pauses for a random time, if the pace has pauses.
fn rest(socket: &Socket, random: &mut Random, pace: Pace) -> Result<(), Errno> {
    if pace.pause_ms == 0 {
        return Ok(());
    }
    socket.pause(Duration::from_micros(
        random.between(0, pace.pause_ms * 1000),
    ))
}
