//! A raw TCP and Unix stream peer for tests, driven by JSON lines.
//!
//! Every line on stdin is one command, `{"id": 7, "op": "write", "conn": 1, ...}`. The answer is one line on stdout,
//! `{"id": 7, "ok": true, ...}` or `{"id": 7, "error": "ECONNRESET", "bytes": 42}`, in the order of completion. The reads
//! and the writes of a connection are independent: each has a queue and a thread. The process ends at the end of stdin.

#[cfg(not(target_os = "linux"))]
compile_error!("fdsplice-testpeer needs Linux");
#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod connection;
#[cfg(target_os = "linux")]
mod connections;
#[cfg(target_os = "linux")]
mod generator;
#[cfg(target_os = "linux")]
mod listener;
#[cfg(target_os = "linux")]
mod peer;
#[cfg(target_os = "linux")]
mod reply;
#[cfg(target_os = "linux")]
mod socket;
#[cfg(target_os = "linux")]
mod tally;

#[cfg(target_os = "linux")]
use std::io::BufRead;

#[cfg(target_os = "linux")]
use crate::{peer::Peer, reply::Replies};

#[cfg(target_os = "linux")]
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
