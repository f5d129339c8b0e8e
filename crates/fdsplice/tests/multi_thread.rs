//! Transfers on tokio's multi-threaded runtime, where a task can change its thread between two polls.

mod copy_support;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use fdsplice::{
    Control, CopyOptions, Endpoint, RateLimiter, Reason, RelayOptions, SendFileOptions, copy,
    pipe_stats, relay, send_file,
};

use copy_support::{MIB, PROMPT, Scratch, data, duplicate, read_to_end, write_all};

const RELAYS: usize = 12;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A connection: the end outside the transfer, and the endpoint inside it.
fn connected() -> (TcpStream, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outer =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (inner, _) = listener.accept().expect("an accepted connection");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    outer
        .set_read_timeout(Some(2 * PROMPT))
        .expect("a time limit");
    (outer, OwnedFd::from(inner).try_into().expect("an endpoint"))
}

/// Sends `bytes`, ends, and returns the bytes received until the other side ends.
fn exchange(socket: TcpStream, bytes: &'static [u8]) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let sender = socket.try_clone().expect("a duplicate");
        let sending = thread::spawn(move || {
            write_all(&sender, bytes);
            sender.shutdown(Shutdown::Write).expect("a shutdown");
        });
        let received = read_to_end(&socket);
        sending.join().expect("a sender");
        received
    })
}

#[test]
fn concurrent_relays_deliver_their_own_bytes_in_both_directions() {
    let runtime = runtime();
    let running: Vec<_> = (0..RELAYS)
        .map(|index| {
            let (client, a) = connected();
            let (origin, b) = connected();
            // Each relay has different bytes, so that an exchange between two relays is detected.
            let part = |start: usize, bytes: usize| &data(10 * MIB)[start..start + bytes];
            let (question, answer) = (part(index, 4 * MIB + index), part(5 * MIB + index, 3 * MIB));
            let relay = runtime.spawn(relay(a, b, RelayOptions::new()));
            let client = exchange(client, question);
            let origin = exchange(origin, answer);
            (relay, client, origin, question, answer)
        })
        .collect();
    for (relay, client, origin, question, answer) in running {
        assert!(origin.join().expect("an origin") == question);
        assert!(client.join().expect("a client") == answer);
        let result = runtime.block_on(relay).expect("no panic");
        assert_eq!(
            (result.tx, result.rx),
            (question.len() as u64, answer.len() as u64)
        );
        assert!(result.error.is_none(), "{:?}", result.error);
    }
    // The other tests also lease pipes for a while.
    let end = Instant::now() + PROMPT;
    while pipe_stats().leased > 0 {
        assert!(Instant::now() < end, "{:?}", pipe_stats());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_file_is_copied_and_sent_under_one_limit() {
    let runtime = runtime();
    let scratch = Scratch::new();
    let path = scratch.path();
    std::fs::write(&path, data(2 * MIB)).expect("a file");
    let limiter = RateLimiter::new(64.0 * 1024.0 * 1024.0);
    let mut running = Vec::new();
    for index in 0..4 {
        let (outer, inner) = connected();
        let file = duplicate(std::fs::File::open(&path).expect("the file"));
        let transfer = if index % 2 == 0 {
            let options = CopyOptions::new()
                .rate_limit(limiter.clone())
                .end_destination(true);
            runtime.spawn(copy(file, inner, options))
        } else {
            let options = SendFileOptions::new()
                .rate_limit(limiter.clone())
                .end_destination(true);
            runtime.spawn(send_file(file, inner, options))
        };
        running.push((transfer, thread::spawn(move || read_to_end(&outer))));
    }
    for (transfer, arrived) in running {
        assert!(arrived.join().expect("a reader") == data(2 * MIB));
        let result = runtime.block_on(transfer).expect("no panic");
        assert_eq!(result.tx, 2 * MIB as u64);
        assert!(result.error.is_none(), "{:?}", result.error);
    }
}

#[test]
fn an_abort_ends_a_relay_that_runs_on_another_thread() {
    let runtime = runtime();
    let (client, a) = connected();
    let (origin, b) = connected();
    let control = Control::new();
    let options = RelayOptions::new().control(control.clone());
    let relay = runtime.spawn(relay(a, b, options));
    write_all(&client, b"before");
    // The origin does not read, and its bytes are counted nevertheless.
    while control.traffic().tx < 6 {
        thread::sleep(Duration::from_millis(1));
    }
    thread::spawn(move || control.abort());
    let result = runtime
        .block_on(async { tokio::time::timeout(PROMPT, relay).await })
        .expect("in time")
        .expect("no panic");
    assert_eq!((result.tx, result.rx), (6, 0));
    assert_eq!(result.error.expect("a failure").reason, Reason::Aborted);
    drop(origin);
}
