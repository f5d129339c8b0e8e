//! Relays between real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use fdsplice::{Control, Endpoint, Reason, RelayOptions, Side, TrafficResult, relay};
use tokio::sync::oneshot;

/// Two connections: the ends outside and the endpoints inside the relay.
fn outer_and_inner() -> (TcpStream, Endpoint, Endpoint, TcpStream) {
    let (client, a) = connected();
    let (origin, b) = connected();
    (client, a, b, origin)
}

fn connected() -> (TcpStream, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outer =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (inner, _) = listener.accept().expect("an accepted connection");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    let endpoint = Endpoint::try_from(OwnedFd::from(inner)).expect("an endpoint");
    (outer, endpoint)
}

fn run(a: Endpoint, b: Endpoint, options: RelayOptions) -> thread::JoinHandle<TrafficResult> {
    thread::spawn(move || runtime().block_on(relay(a, b, options)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn bytes_pass_in_both_directions_and_both_ends_are_passed_on() {
    let (mut client, a, b, mut origin) = outer_and_inner();
    let relay = run(a, b, RelayOptions::new());
    client.write_all(b"question").expect("a write");
    client.shutdown(Shutdown::Write).expect("a shutdown");
    let mut question = Vec::new();
    origin.read_to_end(&mut question).expect("a read");
    assert_eq!(question, b"question");
    origin.write_all(b"the answer").expect("a write");
    drop(origin);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("a read");
    assert_eq!(answer, b"the answer");
    let result = relay.join().expect("a result");
    assert_eq!((result.tx, result.rx), (8, 10));
    assert!(result.error.is_none(), "{:?}", result.error);
    assert!(result.a_ended && result.b_ended);
}

#[test]
fn bulk_bytes_never_pass_through_user_space() {
    const BYTES: usize = 64 * 1024 * 1024;
    let (mut client, a, b, mut origin) = outer_and_inner();
    let relay = run(a, b, RelayOptions::new());
    let writer = thread::spawn(move || {
        let block = vec![7; 1024 * 1024];
        for _ in 0..BYTES / block.len() {
            client.write_all(&block).expect("a write");
        }
        client.shutdown(Shutdown::Write).expect("a shutdown");
        client
    });
    let mut received = 0;
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        match origin.read(&mut buffer).expect("a read") {
            0 => break,
            n => received += n,
        }
    }
    assert_eq!(received, BYTES);
    drop(origin);
    drop(writer.join());
    let result = relay.join().expect("a result");
    assert_eq!(result.tx, BYTES as u64);
    assert!(result.zero_copy * 10 >= result.tx * 9, "{result:?}");
}

#[test]
fn an_abort_keeps_the_counts_and_resets_both_peers() {
    let (mut client, a, b, mut origin) = outer_and_inner();
    let control = Control::new();
    let relay = run(a, b, RelayOptions::new().control(control.clone()));
    client.write_all(b"before").expect("a write");
    let mut before = [0; 6];
    origin.read_exact(&mut before).expect("a read");
    control.abort();
    let result = relay.join().expect("a result");
    assert_eq!(result.tx, 6);
    let error = result.error.expect("a failure");
    assert_eq!((error.reason, error.side), (Reason::Aborted, None));
    for mut peer in [client, origin] {
        let failure = peer.read(&mut [0; 1]).expect_err("a reset");
        assert_eq!(failure.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_relay_that_is_dropped_while_it_runs_resets_both_peers() {
    let (mut client, a, b, mut origin) = outer_and_inner();
    let (sender, dropped) = oneshot::channel::<()>();
    let relaying = thread::spawn(move || {
        runtime().block_on(async {
            let relay = relay(a, b, RelayOptions::new());
            tokio::select! {
                _ = relay => panic!("it ended"),
                _ = dropped => {}
            }
        });
    });
    client.write_all(b"before").expect("a write");
    origin.read_exact(&mut [0; 6]).expect("a read");
    sender.send(()).expect("a running relay");
    relaying.join().expect("the end of the thread");
    for mut peer in [client, origin] {
        let failure = peer.read(&mut [0; 1]).expect_err("a reset");
        assert_eq!(failure.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_reset_of_either_side_while_the_other_is_idle_resets_the_other() {
    for side in [Side::A, Side::B] {
        let (client, a, b, origin) = outer_and_inner();
        let relay = run(a, b, RelayOptions::new());
        let (failing, mut standing) = match side {
            Side::A => (client, origin),
            _ => (origin, client),
        };
        rustix::net::sockopt::set_socket_linger(&failing, Some(std::time::Duration::ZERO))
            .expect("an option");
        drop(failing);
        let failure = standing.read(&mut [0; 1]).expect_err("a reset");
        assert_eq!(failure.kind(), std::io::ErrorKind::ConnectionReset);
        let error = relay.join().expect("a result").error.expect("a failure");
        assert_eq!(error.side, Some(side));
        assert!(matches!(error.reason, Reason::System { errno, .. }
            if errno == rustix::io::Errno::CONNRESET));
    }
}

#[test]
fn only_sockets_that_are_handed_over_get_tcp_nodelay() {
    for handed_over in [true, false] {
        let (mut client, a, b, mut origin) = outer_and_inner();
        let ends = [a, b].map(|end| end.handed_over(handed_over));
        let watched = ends
            .each_ref()
            .map(|end| TcpStream::from(end.as_fd().try_clone_to_owned().expect("a duplicate")));
        let [a, b] = ends;
        let relay = run(a, b, RelayOptions::new());
        client.write_all(b"x").expect("a write");
        origin.read_exact(&mut [0]).expect("a read");
        for socket in &watched {
            assert_eq!(socket.nodelay().expect("an option"), handed_over);
        }
        drop((client, origin));
        relay.join().expect("a result");
    }
}

#[test]
fn a_side_ended_by_control_is_shut_down_and_later_bytes_fail_the_relay() {
    for sends_more in [false, true] {
        let (mut client, a, b, mut origin) = outer_and_inner();
        let control = Control::new();
        origin.write_all(b"answer").expect("a write");
        let relay = run(a, b, RelayOptions::new().control(control.clone()));
        control.end(Side::A);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an end of input");
        assert_eq!(answer, b"answer");
        if sends_more {
            origin.write_all(b"too late").expect("a write");
            let error = relay.join().expect("a result").error.expect("a failure");
            assert_eq!(error.side, Some(Side::A), "{error}");
            continue;
        }
        client.write_all(b"thanks").expect("a write");
        drop(client);
        let mut thanks = Vec::new();
        origin.read_to_end(&mut thanks).expect("a read");
        assert_eq!(thanks, b"thanks");
        drop(origin);
        let result = relay.join().expect("a result");
        assert_eq!((result.tx, result.rx), (6, 6));
        assert!(result.error.is_none(), "{:?}", result.error);
    }
}

#[test]
fn a_side_whose_input_has_ended_is_ended_by_control_only_after_the_other_side() {
    let (mut client, a, b, mut origin) = outer_and_inner();
    let control = Control::new();
    let relay = run(a, b, RelayOptions::new().control(control.clone()));
    client.shutdown(Shutdown::Write).expect("a shutdown");
    let mut question = Vec::new();
    origin.read_to_end(&mut question).expect("a read");
    control.end(Side::A);
    origin.write_all(b"the answer").expect("a write");
    drop(origin);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("a read");
    assert_eq!(answer, b"the answer");
    let result = relay.join().expect("a result");
    assert!(result.error.is_none(), "{:?}", result.error);
}
