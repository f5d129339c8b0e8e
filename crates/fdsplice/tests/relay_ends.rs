//! Relays of every form of an end: endpoints, and sockets of tokio by value and borrowed.

mod ends_support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use ends_support::{FORMS, Form, Inner};
use fdsplice::{Control, Reason, RelayOptions, Side, TrafficResult, relay};
use rustix::io::Errno;
use rustix::net::{SendFlags, send, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream as TokioStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// How long a peer waits before its test fails.
const PATIENCE: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

/// The end of a peer, and the end for a relay.
fn connected() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outer =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    outer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (inner, _) = listener.accept().expect("an accepted connection");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    (outer, inner.into())
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

/// A runtime whose reactor may report an event while a relay runs on another thread.
fn two_workers() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.expect("a runtime")
}

/// Relays two sockets on a thread of its own. Borrowed sockets are handed over, and dropped with the
/// others after the relay.
fn start(
    forms: [Form; 2],
    ends: [OwnedFd; 2],
    options: RelayOptions,
) -> thread::JoinHandle<TrafficResult> {
    start_on(runtime(), forms, ends, options)
}

fn start_on(
    runtime: Runtime,
    forms: [Form; 2],
    [a, b]: [OwnedFd; 2],
    options: RelayOptions,
) -> thread::JoinHandle<TrafficResult> {
    thread::spawn(move || {
        let relaying = async move {
            let (mut a, mut b) = (Inner::tcp(forms[0], a), Inner::tcp(forms[1], b));
            let (a, b) = (a.end().handed_over(true), b.end().handed_over(true));
            relay(a, b, options).await
        };
        runtime.block_on(async { tokio::spawn(relaying).await.expect("no panic") })
    })
}

/// Runs a test for every pair of forms. The name of the pair is in the panic message.
fn for_each_pair(test: impl Fn([Form; 2]) + std::panic::RefUnwindSafe) {
    for a in FORMS {
        for b in FORMS {
            if let Err(panic) = std::panic::catch_unwind(|| test([a, b])) {
                eprintln!("with {a:?} and {b:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn reset(peer: TcpStream) {
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).expect("SO_LINGER");
    drop(peer);
}

fn assert_is_reset(peer: &mut TcpStream) {
    let mut rest = Vec::new();
    let error = peer.read_to_end(&mut rest).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn messages_and_both_ends_of_input_pass() {
    for_each_pair(|forms| pass_messages(runtime(), forms));
    for_each_pair(|forms| pass_messages(two_workers(), forms));
}

fn pass_messages(runtime: Runtime, forms: [Form; 2]) {
    let ((mut client, a), (mut origin, b)) = (connected(), connected());
    let relaying = start_on(runtime, forms, [a, b], RelayOptions::new());
    let mut buffer = [0; 8];
    for round in 0..20_u64 {
        client.write_all(&round.to_ne_bytes()).expect("a write");
        origin.read_exact(&mut buffer).expect("a read");
        assert_eq!(buffer, round.to_ne_bytes());
        origin.write_all(&buffer).expect("a write");
        client.read_exact(&mut buffer).expect("a read");
    }
    client.shutdown(Shutdown::Write).expect("a shutdown");
    assert_eq!(origin.read(&mut buffer).expect("an end"), 0);
    origin.write_all(b"late").expect("a write");
    origin.shutdown(Shutdown::Write).expect("a shutdown");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).expect("an end");
    assert_eq!(rest, b"late");
    let result = relaying.join().expect("a result");
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!((result.tx, result.rx), (160, 164));
    assert!(result.a_ended && result.b_ended);
}

#[test]
fn unix_sockets_pass_messages_and_both_ends_of_input() {
    for form in FORMS {
        let pair = || UnixStream::pair().expect("a pair of sockets");
        let ((mut client, a), (mut origin, b)) = (pair(), pair());
        for inner in [&a, &b] {
            inner.set_nonblocking(true).expect("a non-blocking socket");
        }
        let relaying = thread::spawn(move || {
            runtime().block_on(async {
                let (mut a, mut b) = (Inner::unix(form, a.into()), Inner::unix(form, b.into()));
                relay(a.end(), b.end(), RelayOptions::new()).await
            })
        });
        client.write_all(b"question").expect("a write");
        client.shutdown(Shutdown::Write).expect("a shutdown");
        let mut received = Vec::new();
        origin.read_to_end(&mut received).expect("an end");
        assert_eq!(received, b"question");
        origin.write_all(b"the answer").expect("a write");
        drop(origin);
        received.clear();
        client.read_to_end(&mut received).expect("an end");
        assert_eq!(received, b"the answer");
        let result = relaying.join().expect("a result");
        assert!(result.error.is_none(), "{form:?}: {:?}", result.error);
    }
}

#[test]
fn bulk_passes_through_pipes_without_loss() {
    for (form, workers) in FORMS.into_iter().flat_map(|form| [(form, 1), (form, 2)]) {
        let forms = [form; 2];
        let ((mut client, a), (mut origin, b)) = (connected(), connected());
        let runtime = if workers == 1 {
            runtime()
        } else {
            two_workers()
        };
        let relaying = start_on(runtime, forms, [a, b], RelayOptions::new());
        let bytes = (0..251).collect::<Vec<u8>>().repeat(24 * MIB / 251);
        let sent = bytes.clone();
        let writer = thread::spawn(move || {
            client.write_all(&sent).expect("a write");
            client.shutdown(Shutdown::Write).expect("a shutdown");
            client
        });
        let mut received = Vec::new();
        origin.read_to_end(&mut received).expect("a read");
        assert!(received == bytes, "{forms:?}: {}", received.len());
        drop(origin);
        writer.join().expect("no panic");
        let result = relaying.join().expect("a result");
        assert!(result.error.is_none(), "{:?}", result.error);
        assert!(result.zero_copy * 10 >= result.tx * 9, "{result:?}");
    }
}

#[test]
fn an_out_of_band_byte_does_not_stop_bulk() {
    for forms in FORMS.map(|form| [form; 2]) {
        let ((mut client, a), (mut origin, b)) = (connected(), connected());
        let relaying = start(forms, [a, b], RelayOptions::new());
        let writer = thread::spawn(move || {
            let block = vec![1; MIB];
            for _ in 0..8 {
                client.write_all(&block).expect("a write");
            }
            send(&client, b"!", SendFlags::OOB).expect("an out-of-band byte");
            for _ in 0..8 {
                client.write_all(&block).expect("a write");
            }
            client.shutdown(Shutdown::Write).expect("a shutdown");
            client
        });
        let mut received = Vec::new();
        origin.read_to_end(&mut received).expect("a read");
        assert_eq!(received.len(), 16 * MIB, "{forms:?}");
        drop(origin);
        writer.join().expect("no panic");
        let result = relaying.join().expect("a result");
        assert!(result.error.is_none(), "{:?}", result.error);
    }
}

#[test]
fn a_reset_of_a_side_that_waits_resets_the_other() {
    for_each_pair(|forms| {
        for side in [Side::A, Side::B] {
            let ((client, a), (origin, b)) = (connected(), connected());
            let relaying = start(forms, [a, b], RelayOptions::new());
            thread::sleep(Duration::from_millis(5));
            let (failing, mut other) = match side {
                Side::B => (origin, client),
                _ => (client, origin),
            };
            reset(failing);
            assert_is_reset(&mut other);
            let error = relaying.join().expect("a result").error.expect("a failure");
            assert_eq!(error.side, Some(side));
            let is_reset =
                matches!(error.reason, Reason::System { errno, .. } if errno == Errno::CONNRESET);
            assert!(is_reset, "{error}");
        }
    });
}

#[test]
fn a_reset_of_a_side_that_is_not_read_resets_the_other() {
    for_each_pair(|forms| {
        let ((mut client, a), (mut origin, b)) = (connected(), connected());
        let relaying = start(forms, [a, b], RelayOptions::new());
        // The relay holds bytes for the origin, which does not read, and leaves the others unread.
        client.set_nonblocking(true).expect("a non-blocking socket");
        let block = vec![1; MIB];
        let mut refused = 0;
        while refused < 20 {
            match client.write(&block) {
                Ok(_) => refused = 0,
                Err(_) => refused += 1,
            }
            thread::sleep(Duration::from_millis(1));
        }
        reset(client);
        let error = relaying.join().expect("a result").error.expect("a failure");
        assert_eq!(error.side, Some(Side::A));
        assert_is_reset(&mut origin);
    });
}

#[test]
fn a_reset_after_the_end_of_input_resets_the_other() {
    for_each_pair(|forms| {
        let ((client, a), (mut origin, b)) = (connected(), connected());
        let relaying = start(forms, [a, b], RelayOptions::new());
        client.shutdown(Shutdown::Write).expect("a shutdown");
        assert_eq!(origin.read(&mut [0]).expect("an end"), 0);
        reset(client);
        let error = relaying.join().expect("a result").error.expect("a failure");
        assert_eq!((error.side, error.after_end), (Some(Side::A), true));
        assert_is_reset_on_write(&mut origin);
    });
}

/// After an end of input only a write shows the reset.
fn assert_is_reset_on_write(peer: &mut TcpStream) {
    for _ in 0..1000 {
        if peer.write_all(b"more").is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("the peer was not reset");
}

#[test]
fn an_abort_keeps_the_counts_and_resets_both_peers() {
    for_each_pair(|forms| {
        let ((mut client, a), (mut origin, b)) = (connected(), connected());
        let control = Control::new();
        let relaying = start(forms, [a, b], RelayOptions::new().control(control.clone()));
        client.write_all(b"hello").expect("a write");
        origin.read_exact(&mut [0; 5]).expect("a read");
        control.abort();
        let result = relaying.join().expect("a result");
        assert_eq!(result.tx, 5);
        assert_eq!(result.error.expect("a failure").reason, Reason::Aborted);
        assert_is_reset(&mut client);
        assert_is_reset(&mut origin);
    });
}

#[test]
fn a_dropped_relay_of_sockets_by_value_resets_them() {
    let ((mut client, a), (mut origin, b)) = (connected(), connected());
    runtime().block_on(async {
        let (mut a, mut b) = (Inner::tcp(Form::Owned, a), Inner::tcp(Form::Only, b));
        let mut relaying = Box::pin(relay(a.end(), b.end(), RelayOptions::new()));
        let started = tokio::time::timeout(Duration::from_millis(20), relaying.as_mut()).await;
        assert!(started.is_err(), "it ended");
        drop(relaying);
    });
    assert_is_reset(&mut client);
    assert_is_reset(&mut origin);
}

async fn pass_message(from: &mut TokioStream, to: &mut TokioStream) {
    let mut message = [0; 4];
    from.read_exact(&mut message).await.expect("a message");
    to.write_all(&message).await.expect("a write");
}

/// The relay reads the descriptor itself. It must not lose a report of the reactor that the owner of
/// the socket needs afterwards.
#[test]
fn borrowed_sockets_serve_their_owner_after_an_aborted_relay() {
    let ((mut client, a), (mut origin, b)) = (connected(), connected());
    let (aborted, is_aborted) = std::sync::mpsc::channel();
    let (resume, resumed) = oneshot::channel();
    let relaying = thread::spawn(move || {
        runtime().block_on(async {
            let socket = |fd: OwnedFd| TokioStream::from_std(fd.into()).expect("a registration");
            let (mut a, mut b) = (socket(a), socket(b));
            let control = Control::new();
            let options = RelayOptions::new().control(control.clone());
            let result = tokio::join!(relay(&mut a, &mut b, options), async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                control.abort();
            });
            aborted.send(()).expect("the test");
            resumed.await.expect("the test");
            pass_message(&mut a, &mut b).await;
            pass_message(&mut b, &mut a).await;
            result.0
        })
    });
    client.write_all(b"one ").expect("a write");
    origin.read_exact(&mut [0; 4]).expect("a read");
    is_aborted.recv_timeout(PATIENCE).expect("an abort");
    client.write_all(b"two ").expect("a write");
    origin.write_all(b"tri ").expect("a write");
    // Both are there before the owner reads.
    thread::sleep(Duration::from_millis(20));
    resume.send(()).expect("the relay");
    let mut message = [0; 4];
    origin.read_exact(&mut message).expect("a message");
    assert_eq!(&message, b"two ");
    client.read_exact(&mut message).expect("a message");
    assert_eq!(&message, b"tri ");
    let result = relaying.join().expect("no panic");
    assert_eq!((result.tx, result.rx), (4, 0));
}

#[test]
fn borrowed_sockets_stay_open_and_are_not_reset_by_a_failed_relay() {
    let ((client, a), (mut origin, b)) = (connected(), connected());
    runtime().block_on(async {
        let socket = |fd: OwnedFd| TokioStream::from_std(fd.into()).expect("a registration");
        let (mut a, mut b) = (socket(a), socket(b));
        let control = Control::new();
        control.abort();
        let result = relay(&mut a, &mut b, RelayOptions::new().control(control)).await;
        assert_eq!(result.error.expect("a failure").reason, Reason::Aborted);
        b.write_all(b"still here").await.expect("a write");
    });
    let mut received = Vec::new();
    origin.read_to_end(&mut received).expect("an end, no reset");
    assert_eq!(received, b"still here");
    drop(client);
}

#[test]
fn a_relay_without_nodelay_leaves_the_option_alone() {
    for (set, expected) in [(true, true), (false, false)] {
        let ((client, a), (origin, b)) = (connected(), connected());
        let copy = a.try_clone().expect("a duplicate");
        sockopt::set_tcp_nodelay(&copy, false).expect("TCP_NODELAY");
        let relaying = start(
            [Form::Inspected; 2],
            [a, b],
            RelayOptions::new().set_nodelay(set),
        );
        thread::sleep(Duration::from_millis(50));
        assert_eq!(sockopt::tcp_nodelay(&copy), Ok(expected));
        drop((client, origin));
        relaying.join().expect("a result");
    }
}

/// A relay waits for as long as its connection is idle, so its memory decides how many fit.
#[test]
fn the_future_of_a_relay_is_at_most_640_bytes() {
    let ((_client, a), (_origin, b)) = (connected(), connected());
    runtime().block_on(async {
        let (mut a, mut b) = (Inner::tcp(Form::Owned, a), Inner::tcp(Form::Owned, b));
        let future = relay(a.end(), b.end(), RelayOptions::new());
        let size = size_of_val(&future);
        println!("{size} bytes");
        assert!(size <= 640, "{size} bytes");
    });
}
