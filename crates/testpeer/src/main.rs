//! A raw TCP and Unix stream peer for tests, driven by JSON lines.
//!
//! Every line on stdin is one command, `{"id": 7, "op": "write", "conn": 1, ...}`. The answer is one line on stdout,
//! `{"id": 7, "ok": true, ...}` or `{"id": 7, "error": "ECONNRESET", "bytes": 42}`, in the order of completion. The reads
//! and the writes of a connection are independent: each has a queue and a thread. The process ends at the end of stdin.

mod command;
mod connection;
mod connections;
mod generator;
mod listener;
mod peer;
mod reply;
mod socket;
mod tally;

use std::io::BufRead;

use crate::{peer::Peer, reply::Replies};

fn main() {
    let replies = Replies::default();
    let mut peer = Peer::new(replies.clone());
    for line in std::io::stdin().lock().lines() {
        match line
            .map_err(|error| error.to_string())
            .and_then(|line| command::parse(&line))
        {
            Ok(request) => peer.handle(request),
            Err(message) => {
                eprintln!("fdsplice-testpeer: {message}");
                std::process::exit(2);
            }
        }
    }
    // The driver has ended, so the process does not wait for threads that are blocked in a connect.
    std::process::exit(0);
}
