//! Relays of peers that end their input and then reset or close: `after_end`, and the cases in which the
//! relay has succeeded. A reset without an end before it stays a plain failure.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fdsplice::{
    Control, Endpoint, Reason, RelayOptions, Side, TrafficResult, TransferError, relay,
};
use rustix::io::Errno;
use rustix::net::sockopt;

/// How long a peer waits for an end before its test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP connection: the end of the peer, and the end that the relay gets.
fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outer =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    outer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (inner, _) = listener.accept().expect("an accepted connection");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    (outer, inner)
}

fn unix() -> (UnixStream, UnixStream) {
    let (outer, inner) = UnixStream::pair().expect("a pair of sockets");
    outer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    (outer, inner)
}

fn endpoint(fd: impl Into<OwnedFd>) -> Endpoint {
    Endpoint::try_from(fd.into()).expect("an endpoint")
}

/// Relays `failing` and `other`, with `failing` as the given side.
fn start(
    failing: Endpoint,
    other: Endpoint,
    side: Side,
    options: RelayOptions,
) -> JoinHandle<TrafficResult> {
    let (a, b) = match side {
        Side::B => (other, failing),
        _ => (failing, other),
    };
    thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(relay(a, b, options))
    })
}

fn reset(peer: TcpStream) {
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).expect("SO_LINGER");
    drop(peer);
}

/// Writes until nothing is accepted for a while, so that the relay holds bytes. Returns how many were
/// accepted.
fn fill(peer: &mut TcpStream) -> u64 {
    peer.set_nonblocking(true).expect("a non-blocking socket");
    let block = vec![1; 1 << 20];
    let (mut sent, mut refused) = (0, 0);
    while refused < 20 {
        match peer.write(&block) {
            Ok(bytes) => (sent, refused) = (sent + bytes as u64, 0),
            Err(_) => refused += 1,
        }
        thread::sleep(Duration::from_millis(5));
    }
    sent
}

fn ended(relay: JoinHandle<TrafficResult>) -> TrafficResult {
    relay.join().expect("a result")
}

#[track_caller]
fn failure(result: TrafficResult) -> TransferError {
    result.error.expect("a failure")
}

/// The result of a relay of two ends without options.
fn relayed(a: impl Into<OwnedFd>, b: impl Into<OwnedFd>) -> TrafficResult {
    ended(start(
        endpoint(a),
        endpoint(b),
        Side::A,
        RelayOptions::new(),
    ))
}

#[track_caller]
fn assert_failed(
    result: TrafficResult,
    expected: Errno,
    side: Side,
    after_end: bool,
) -> TransferError {
    let error = failure(result);
    let Reason::System { errno, .. } = error.reason else {
        panic!("{error}");
    };
    assert_eq!(
        (errno, error.side, error.after_end),
        (expected, Some(side), after_end)
    );
    error
}

/// Reads to the end, or to the reset that must come instead.
#[track_caller]
fn assert_reset(mut peer: impl Read) {
    let failure = peer.read_to_end(&mut Vec::new()).expect_err("a reset");
    assert_eq!(failure.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_after_the_end_of_input_is_told_apart_and_resets_the_other_side() {
    for side in [Side::A, Side::B] {
        let ((mut leaver, inner), (mut stayer, other)) = (tcp(), tcp());
        let relay = start(endpoint(inner), endpoint(other), side, RelayOptions::new());
        leaver.write_all(b"question").expect("a write");
        leaver.shutdown(Shutdown::Write).expect("a shutdown");
        let mut question = Vec::new();
        stayer.read_to_end(&mut question).expect("an end of input");
        stayer.write_all(b"part").expect("a write");
        leaver.read_exact(&mut [0; 4]).expect("a read");
        reset(leaver);
        let result = ended(relay);
        assert_eq!(result.tx + result.rx, 12);
        assert_eq!(
            [result.a_ended, result.b_ended]
                .map(usize::from)
                .iter()
                .sum::<usize>(),
            1
        );
        let error = assert_failed(result, Errno::CONNRESET, side, true);
        let text = format!("(side {}, after the end of its input)", side.as_str());
        assert!(error.to_string().ends_with(&text), "{error}");
        // After its own end of input, a socket reports a reset as EPIPE, and to its writes only.
        let failure = stayer.write_all(b"more").expect_err("a reset");
        assert_eq!(failure.kind(), std::io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn an_end_that_is_read_only_after_the_reset_counts() {
    let ((mut leaver, inner), (stayer, other)) = (tcp(), tcp());
    leaver.write_all(b"question").expect("a write");
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    reset(leaver);
    let result = relayed(inner, other);
    assert_eq!((result.tx, result.a_ended), (8, true));
    assert_failed(result, Errno::CONNRESET, Side::A, true);
    assert_reset(stayer);
}

#[test]
fn a_reset_without_an_end_before_it_is_a_plain_failure() {
    for bytes in [0, 1, 100_000] {
        let ((mut leaver, inner), (stayer, other)) = (tcp(), tcp());
        leaver.write_all(&vec![1; bytes]).expect("a write");
        reset(leaver);
        let result = relayed(inner, other);
        assert_eq!((result.tx, result.a_ended), (bytes as u64, false));
        assert_failed(result, Errno::CONNRESET, Side::A, false);
        assert_reset(stayer);
    }
}

#[test]
fn a_reset_after_both_ends_of_input_is_no_failure_and_passes_the_end_on() {
    for side in [Side::A, Side::B] {
        for bytes in [0, 8] {
            let ((mut leaver, inner), (mut stayer, other)) = (tcp(), tcp());
            // Its caller keeps this socket, so that only a shutdown passes an end on to its peer.
            let kept = Endpoint::duplicate(other.as_fd()).expect("an endpoint");
            leaver.write_all(&vec![1; bytes]).expect("a write");
            leaver.shutdown(Shutdown::Write).expect("a shutdown");
            stayer.shutdown(Shutdown::Write).expect("a shutdown");
            reset(leaver);
            let result = ended(start(endpoint(inner), kept, side, RelayOptions::new()));
            assert!(result.error.is_none(), "{:?}", result.error);
            assert!(result.a_ended && result.b_ended);
            let mut received = Vec::new();
            stayer.read_to_end(&mut received).expect("an end of input");
            assert_eq!(received.len(), bytes);
            drop(other);
        }
    }
}

#[test]
fn an_end_that_a_closed_peer_can_no_longer_get_is_no_failure() {
    for side in [Side::A, Side::B] {
        let ((leaver, inner), (mut stayer, other)) = (tcp(), tcp());
        drop(leaver);
        // The kernel accepts these bytes and gets a reset for them, before their end is passed on.
        stayer.write_all(b"answer").expect("a write");
        stayer.shutdown(Shutdown::Write).expect("a shutdown");
        let options = RelayOptions::new();
        let result = ended(start(endpoint(inner), endpoint(other), side, options));
        assert!(result.error.is_none(), "{:?}", result.error);
        assert_eq!(result.tx + result.rx, 6);
        let received = stayer.read_to_end(&mut Vec::new());
        assert_eq!(received.expect("an end of input"), 0);
    }
}

#[test]
fn bytes_that_the_other_side_sent_before_its_end_and_that_nobody_takes_are_a_failure() {
    let ((leaver, inner), (mut stayer, other)) = (tcp(), tcp());
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    stayer.write_all(b"answer").expect("a write");
    stayer.shutdown(Shutdown::Write).expect("a shutdown");
    reset(leaver);
    let result = relayed(inner, other);
    assert_eq!((result.tx, result.rx), (0, 0));
    assert_failed(result, Errno::CONNRESET, Side::A, true);
    assert_reset(stayer);
}

#[test]
fn bytes_that_are_held_for_the_peer_that_left_are_a_failure() {
    let ((leaver, inner), (mut stayer, other)) = (tcp(), tcp());
    let control = Control::new();
    let relay = start(
        endpoint(inner),
        endpoint(other),
        Side::A,
        RelayOptions::new().control(control.clone()),
    );
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    assert!(fill(&mut stayer) > control.traffic().rx);
    reset(leaver);
    assert_failed(ended(relay), Errno::CONNRESET, Side::A, true);
}

#[test]
fn bytes_that_the_peer_sent_and_the_other_side_does_not_accept_make_a_plain_failure() {
    let ((mut leaver, inner), (stayer, other)) = (tcp(), tcp());
    let control = Control::new();
    let relay = start(
        endpoint(inner),
        endpoint(other),
        Side::A,
        RelayOptions::new().control(control.clone()),
    );
    assert!(fill(&mut leaver) > control.traffic().tx);
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    reset(leaver);
    assert_failed(ended(relay), Errno::CONNRESET, Side::A, false);
    drop(stayer);
}

#[test]
fn a_unix_peer_that_closed_after_its_end_reports_epipe_after_the_end() {
    for side in [Side::A, Side::B] {
        let ((leaver, inner), (mut stayer, other)) = (unix(), unix());
        let relay = start(endpoint(inner), endpoint(other), side, RelayOptions::new());
        leaver.shutdown(Shutdown::Write).expect("a shutdown");
        stayer
            .read_to_end(&mut Vec::new())
            .expect("an end of input");
        drop(leaver);
        // The relay may have ended by the second write.
        let _ = stayer
            .write_all(b"more")
            .and_then(|()| stayer.write_all(b"more"));
        assert_failed(ended(relay), Errno::PIPE, side, true);
    }
}

#[test]
fn a_unix_peer_that_closed_with_unread_bytes_and_without_an_end_is_a_plain_failure() {
    for written_before in [false, true] {
        let ((leaver, mut inner), (mut stayer, other)) = (unix(), unix());
        let control = Control::new();
        let options = RelayOptions::new().control(control.clone());
        let relay = if written_before {
            inner.write_all(b"unread").expect("a write");
            drop(leaver);
            start(endpoint(inner), endpoint(other), Side::A, options)
        } else {
            let relay = start(endpoint(inner), endpoint(other), Side::A, options);
            stayer.write_all(b"unread").expect("a write");
            while control.traffic().rx < 6 {
                thread::yield_now();
            }
            drop(leaver);
            relay
        };
        assert_failed(ended(relay), Errno::CONNRESET, Side::A, false);
    }
}

#[test]
fn an_end_by_the_caller_is_no_departure_of_the_peer() {
    let ((leaver, inner), (mut stayer, other)) = (unix(), unix());
    let control = Control::new();
    let options = RelayOptions::new().control(control.clone());
    let relay = start(endpoint(inner), endpoint(other), Side::A, options);
    control.end(Side::A);
    (&leaver)
        .read_to_end(&mut Vec::new())
        .expect("an end of input");
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    stayer
        .read_to_end(&mut Vec::new())
        .expect("an end of input");
    stayer.write_all(b"more").expect("a write");
    assert_failed(ended(relay), Errno::PIPE, Side::A, false);
    drop(leaver);
}

#[test]
fn bytes_for_a_tcp_side_that_the_caller_and_its_peer_have_ended_fail_with_epipe() {
    let ((leaver, inner), (mut stayer, other)) = (tcp(), tcp());
    let control = Control::new();
    let options = RelayOptions::new().control(control.clone());
    let relay = start(endpoint(inner), endpoint(other), Side::A, options);
    control.end(Side::A);
    (&leaver)
        .read_to_end(&mut Vec::new())
        .expect("an end of input");
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    stayer
        .read_to_end(&mut Vec::new())
        .expect("an end of input");
    stayer.write_all(b"more").expect("a write");
    assert_failed(ended(relay), Errno::PIPE, Side::A, false);
    drop(leaver);
}

#[test]
fn an_abort_and_a_timeout_after_the_end_are_not_marked() {
    let ((leaver, inner), (mut stayer, other)) = (tcp(), tcp());
    let control = Control::new();
    let options = RelayOptions::new().control(control.clone());
    let relay = start(endpoint(inner), endpoint(other), Side::A, options);
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    stayer
        .read_to_end(&mut Vec::new())
        .expect("an end of input");
    control.abort();
    let error = failure(ended(relay));
    assert_eq!((error.reason, error.after_end), (Reason::Aborted, false));

    let ((leaver, inner), (stayer, other)) = (tcp(), tcp());
    let options = RelayOptions::new().half_close_timeout(Duration::from_millis(1));
    let relay = start(endpoint(inner), endpoint(other), Side::A, options);
    leaver.shutdown(Shutdown::Write).expect("a shutdown");
    let error = failure(ended(relay));
    let expected = (Reason::HalfCloseTimeout, Some(Side::B), false);
    assert_eq!((error.reason, error.side, error.after_end), expected);
    drop(stayer);
}

/// Relays in one thread with `others`, so that the relay finds at once all that they do in one step.
fn relay_beside(a: Endpoint, b: Endpoint, others: impl Future<Output = ()>) -> TrafficResult {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { tokio::join!(relay(a, b, RelayOptions::new()), others).0 })
}

#[test]
fn a_reset_of_the_other_side_together_with_that_of_a_side_that_had_ended_is_no_end() {
    for side in [Side::A, Side::B] {
        let ((leaver, inner), (mut stayer, other)) = (tcp(), tcp());
        leaver.shutdown(Shutdown::Write).expect("a shutdown");
        stayer.set_nonblocking(true).expect("a non-blocking socket");
        let (a, b) = match side {
            Side::B => (endpoint(other), endpoint(inner)),
            _ => (endpoint(inner), endpoint(other)),
        };
        let result = relay_beside(a, b, async {
            while stayer.read(&mut [0]).is_err() {
                tokio::task::yield_now().await;
            }
            reset(leaver);
            reset(stayer);
        });
        assert!(!(result.a_ended && result.b_ended), "{result:?}");
        failure(result);
    }
}
