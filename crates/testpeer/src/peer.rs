//! Passes each command to its connection or listener.

use std::{collections::HashMap, time::Duration};

use rustix::{
    io::Errno,
    net::{connect, getsockname},
};
use serde_json::{Value, json};

use crate::{
    command::{Command, Directions, Request, Tuning},
    connection::{Connection, Input, Output},
    connections::Connections,
    generator::Stream,
    listener::{Listener, port_of},
    reply::{Failure, Replies, Reply},
    socket::{Address, tune},
    tally::{Tally, unhex},
};

/// The connections and listeners of this process, and where it writes its answers.
pub(crate) struct Peer {
    connections: Connections,
    listeners: HashMap<u64, Listener>,
    last_listener: u64,
    replies: Replies,
}

impl Peer {
    pub(crate) fn new(replies: Replies) -> Self {
        Self {
            connections: Connections::default(),
            listeners: HashMap::new(),
            last_listener: 0,
            replies,
        }
    }

    pub(crate) fn handle(&mut self, Request { id, command }: Request) {
        match command
            .map_err(Failure::new)
            .and_then(|command| self.run(id, command))
        {
            Ok(Some(fields)) => self.replies.send(id, Ok(fields)),
            // A thread sends the answer.
            Ok(None) => {}
            Err(failure) => self.replies.send(id, Err(failure)),
        }
    }

    fn run(&mut self, id: u64, command: Command) -> Result<Option<Value>, Failure> {
        match command {
            Command::Listen {
                host,
                port,
                path,
                backlog,
                tuning,
            } => {
                let address = Address::new(host.as_deref(), port, path.as_deref())?;
                return self
                    .listen(address, backlog.unwrap_or(1024), &tuning)
                    .map(Some);
            }
            Command::Accept { listener, tuning } => {
                self.listeners
                    .get(&listener)
                    .ok_or(Errno::BADF)?
                    .accept(id, tuning);
            }
            Command::CloseListener { listener } => {
                return self
                    .listeners
                    .remove(&listener)
                    .ok_or(Errno::BADF)?
                    .close()
                    .map(Some);
            }
            Command::Connect {
                host,
                port,
                path,
                tuning,
            } => {
                let address = Address::new(host.as_deref(), port, path.as_deref())?;
                let (connections, replies) = (self.connections.clone(), self.replies.clone());
                self.in_background(id, move || dial(address, &tuning, &connections, &replies));
            }
            Command::Hash { seed, bytes } => self.in_background(id, move || Ok(hash(seed, bytes))),
            Command::Write {
                conn,
                bytes,
                seed,
                pace,
            } => self.output(id, conn, Output::Stream { bytes, seed, pace })?,
            Command::WriteHex { conn, data } => {
                let bytes = unhex(&data).ok_or_else(|| Failure::new("data must be hexadecimal"))?;
                self.output(id, conn, Output::Literal(bytes))?;
            }
            Command::Oob { conn, byte } => self.output(id, conn, Output::OutOfBand(byte))?,
            Command::Shutdown {
                conn,
                directions: Directions::Read,
            } => {
                return self
                    .connections
                    .with(conn, Connection::shutdown_reading)
                    .map(Some);
            }
            Command::Shutdown { conn, directions } => {
                self.output(id, conn, Output::Shutdown(directions.shutdown()))?;
            }
            Command::Read { conn, bytes, pace } => {
                self.input(id, conn, Input::Exactly { bytes, pace })?;
            }
            Command::ReadToEnd { conn, pace } => self.input(id, conn, Input::ToEnd { pace })?,
            Command::Pause { conn, ms } => {
                self.input(id, conn, Input::Pause(Duration::from_millis(ms)))?;
            }
            Command::SetRcvBuf { conn, bytes } => {
                return self
                    .connections
                    .with(conn, |connection| connection.set_receive_buffer(bytes))
                    .map(Some);
            }
            Command::Counts { conn } => {
                return self
                    .connections
                    .with(conn, |connection| Ok(connection.counts()))
                    .map(Some);
            }
            Command::Reset { conn } => return self.connections.take(conn)?.reset().map(Some),
            Command::Close { conn } => return self.connections.take(conn)?.close().map(Some),
        }
        Ok(None)
    }

    fn listen(&mut self, address: Address, backlog: u16, tuning: &Tuning) -> Reply {
        let listener = Listener::new(address, backlog, tuning, &self.connections, &self.replies)?;
        self.last_listener += 1;
        let reply = json!({ "listener": self.last_listener, "port": listener.port });
        self.listeners.insert(self.last_listener, listener);
        Ok(reply)
    }

    fn output(&self, id: u64, conn: u64, job: Output) -> Result<(), Failure> {
        self.connections.with(conn, |connection| {
            connection.output(id, job);
            Ok(())
        })
    }

    fn input(&self, id: u64, conn: u64, job: Input) -> Result<(), Failure> {
        self.connections.with(conn, |connection| {
            connection.input(id, job);
            Ok(())
        })
    }

    /// Starts a thread for a slow command that is not queued on a connection.
    fn in_background(&self, id: u64, run: impl FnOnce() -> Reply + Send + 'static) {
        let replies = self.replies.clone();
        std::thread::spawn(move || replies.send(id, run()));
    }
}

fn dial(address: Address, tuning: &Tuning, connections: &Connections, replies: &Replies) -> Reply {
    let fd = address.socket()?;
    tune(&fd, tuning)?;
    connect(&fd, &address.any())?;
    let port = port_of(getsockname(&fd)?);
    Ok(json!({ "conn": connections.add(Connection::new(fd, replies)?), "localPort": port }))
}

fn hash(seed: u64, bytes: u64) -> Value {
    let mut stream = Stream::new(seed);
    let mut tally = Tally::default();
    let mut buffer = vec![0; 64 << 10];
    while tally.bytes < bytes {
        let size = usize::try_from(bytes - tally.bytes)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        stream.fill(&mut buffer[..size]);
        tally.add(&buffer[..size]);
    }
    json!({ "bytes": bytes, "sha256": tally.sha256() })
}
