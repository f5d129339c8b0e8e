//! Tests of the peer on real sockets, through its command line.

mod driver;

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
};

use rustix::net::{RecvFlags, recv};
use serde_json::{Value, json};

use crate::driver::{Driver, number};

/// A connection of the peer, and the other end of it in this process.
fn outside(peer: &mut Driver) -> (u64, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    let port = listener
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let connected = peer.request(json!({ "op": "connect", "port": port }));
    let (stream, address) = listener.accept().expect("the peer connects");
    assert_eq!(number(&connected, "localPort"), u64::from(address.port()));
    (number(&connected, "conn"), stream)
}

fn hash(peer: &mut Driver, seed: u64, bytes: u64) -> Value {
    peer.request(json!({ "op": "hash", "seed": seed, "bytes": bytes }))["sha256"].take()
}

#[test]
fn writes_of_one_seed_continue_one_stream() {
    let mut peer = Driver::start();
    let (client, server) = peer.pair();
    let expected = hash(&mut peer, 9, 1_000_003);
    let reading = peer.send(json!({ "op": "readToEnd", "conn": server }));
    for (bytes, pace) in [
        (3, json!({})),
        (500_000, json!({ "chunk": { "min": 1, "max": 9000 } })),
        (500_000, json!({ "chunk": 65_536, "pauseMs": 2 })),
    ] {
        let written = peer.request(
            json!({ "op": "write", "conn": client, "bytes": bytes, "seed": 9, "pace": pace }),
        );
        assert_eq!(number(&written, "bytes"), bytes);
    }
    peer.request(json!({ "op": "shutdown", "conn": client, "how": "write" }));
    let read = peer.answer(reading);
    assert_eq!(number(&read, "bytes"), 1_000_003);
    assert_eq!(read["sha256"], expected);
    assert_eq!(read["end"], "eof");
    let counts = peer.request(json!({ "op": "counts", "conn": server }));
    assert_eq!(
        (number(&counts, "sent"), number(&counts, "received")),
        (0, 1_000_003)
    );
}

#[test]
fn single_bytes_are_single_sends() {
    let mut peer = Driver::start();
    let (client, server) = peer.pair();
    let reading = peer.send(json!({ "op": "read", "conn": server, "bytes": 10_000 }));
    let written = peer.request(json!({
        "op": "write", "conn": client, "bytes": 10_000, "seed": 1, "pace": { "chunk": 1 }
    }));
    assert_eq!(peer.answer(reading)["sha256"], written["sha256"]);
}

#[test]
fn a_short_read_shows_its_bytes() {
    let mut peer = Driver::start();
    let (conn, mut stream) = outside(&mut peer);
    peer.request(json!({ "op": "writeHex", "conn": conn, "data": "00ff61" }));
    let mut received = [0; 3];
    stream.read_exact(&mut received).expect("three bytes come");
    assert_eq!(received, [0, 255, b'a']);
    stream
        .write_all(b"hello")
        .expect("the peer takes five bytes");
    let read = peer.request(json!({ "op": "read", "conn": conn, "bytes": 4 }));
    assert_eq!(read["data"], "68656c6c");
    // The fifth byte is still in the socket.
    assert_eq!(
        peer.request(json!({ "op": "read", "conn": conn, "bytes": 1 }))["data"],
        "6f"
    );
}

#[test]
fn a_read_beyond_the_end_reports_the_bytes_before_it() {
    let mut peer = Driver::start();
    let (conn, mut stream) = outside(&mut peer);
    stream
        .write_all(b"abc")
        .expect("the peer takes three bytes");
    drop(stream);
    let read = peer.request(json!({ "op": "read", "conn": conn, "bytes": 10 }));
    assert_eq!(read["error"], "EOF");
    assert_eq!(number(&read, "bytes"), 3);
}

#[test]
fn a_reset_reaches_the_other_side_as_a_reset() {
    let mut peer = Driver::start();
    let (conn, mut stream) = outside(&mut peer);
    assert_eq!(
        peer.request(json!({ "op": "reset", "conn": conn }))["ok"],
        true
    );
    let error = stream
        .read(&mut [0])
        .expect_err("a reset is no end of input");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // The connection was also removed from the table.
    assert_eq!(
        peer.request(json!({ "op": "counts", "conn": conn }))["error"],
        "EBADF"
    );
}

#[test]
fn a_reset_interrupts_blocked_reads_and_writes() {
    let mut peer = Driver::start();
    let (client, server) = peer.pair();
    let reading = peer.send(json!({ "op": "read", "conn": client, "bytes": 1 }));
    let writing =
        peer.send(json!({ "op": "write", "conn": client, "bytes": 1_u64 << 30, "seed": 1 }));
    let queued = peer.send(json!({ "op": "write", "conn": client, "bytes": 1, "seed": 1 }));
    // The other side does not read, so the writer blocks once both socket buffers are full.
    let mut before = 0;
    loop {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let sent = number(
            &peer.request(json!({ "op": "counts", "conn": client })),
            "sent",
        );
        if sent == before && sent > 0 {
            break;
        }
        before = sent;
    }
    assert_eq!(
        peer.request(json!({ "op": "reset", "conn": client }))["ok"],
        true
    );
    let written = peer.answer(writing);
    assert_eq!(written["error"], "ECANCELED");
    assert!(number(&written, "bytes") >= before);
    assert_eq!(peer.answer(queued)["error"], "ECANCELED");
    assert_eq!(peer.answer(reading)["error"], "ECANCELED");
    assert_eq!(
        peer.request(json!({ "op": "readToEnd", "conn": server }))["end"],
        "reset"
    );
    let late = peer.request(json!({ "op": "write", "conn": server, "bytes": 1, "seed": 1 }));
    assert_eq!(late["error"], "EPIPE");
}

#[test]
fn a_close_ends_the_input_of_the_other_side() {
    let mut peer = Driver::start();
    let (client, server) = peer.pair();
    let reading = peer.send(json!({ "op": "readToEnd", "conn": server }));
    assert_eq!(
        peer.request(json!({ "op": "close", "conn": client }))["ok"],
        true
    );
    assert_eq!(peer.answer(reading)["end"], "eof");
}

#[test]
fn either_side_may_half_close_first() {
    for client_first in [true, false] {
        let mut peer = Driver::start();
        let (client, server) = peer.pair();
        let (first, second) = if client_first {
            (client, server)
        } else {
            (server, client)
        };
        let expected = hash(&mut peer, 3, 2 << 20);
        peer.request(json!({ "op": "shutdown", "conn": first, "how": "write" }));
        assert_eq!(
            peer.request(json!({ "op": "readToEnd", "conn": second }))["end"],
            "eof"
        );
        let reading = peer.send(json!({ "op": "readToEnd", "conn": first }));
        peer.send(json!({ "op": "write", "conn": second, "bytes": 2 << 20, "seed": 3 }));
        peer.request(json!({ "op": "shutdown", "conn": second, "how": "write" }));
        let read = peer.answer(reading);
        assert_eq!((&read["end"], &read["sha256"]), (&json!("eof"), &expected));
    }
}

#[test]
fn an_out_of_band_byte_is_sent_out_of_band() {
    let mut peer = Driver::start();
    let (conn, mut stream) = outside(&mut peer);
    peer.request(json!({ "op": "writeHex", "conn": conn, "data": "6162" }));
    peer.request(json!({ "op": "oob", "conn": conn, "byte": 33 }));
    peer.request(json!({ "op": "writeHex", "conn": conn, "data": "6364" }));
    let mut received = [0; 4];
    stream
        .read_exact(&mut received)
        .expect("the bytes around it come");
    assert_eq!(&received, b"abcd");
    let (conn, stream) = outside(&mut peer);
    peer.request(json!({ "op": "oob", "conn": conn, "byte": 33 }));
    let mut urgent = [0; 1];
    recv(&stream, &mut urgent, RecvFlags::OOB).expect("the byte is urgent data");
    assert_eq!(urgent, [33]);
}

#[test]
fn an_out_of_band_byte_does_not_stop_a_reader() {
    let mut peer = Driver::start();
    let (client, server) = peer.pair();
    let reading = peer.send(json!({ "op": "read", "conn": server, "bytes": 4 }));
    peer.request(json!({ "op": "writeHex", "conn": client, "data": "6162" }));
    peer.request(json!({ "op": "oob", "conn": client, "byte": 33 }));
    peer.request(json!({ "op": "writeHex", "conn": client, "data": "6364" }));
    assert_eq!(peer.answer(reading)["data"], "61626364");
}

#[test]
fn a_pause_delays_the_reads_after_it() {
    let mut peer = Driver::start();
    let (conn, mut stream) = outside(&mut peer);
    let pause = peer.send(json!({ "op": "pause", "conn": conn, "ms": 60_000 }));
    let reading = peer.send(json!({ "op": "read", "conn": conn, "bytes": 1 }));
    stream.write_all(b"x").expect("the socket takes a byte");
    let counts = peer.request(json!({ "op": "counts", "conn": conn }));
    assert_eq!(number(&counts, "received"), 0);
    // A close also interrupts a pause.
    peer.request(json!({ "op": "close", "conn": conn }));
    assert_eq!(peer.answer(pause)["error"], "ECANCELED");
    assert_eq!(peer.answer(reading)["error"], "ECANCELED");
}

#[test]
fn unix_sockets_are_accepted_and_connected() {
    let path = std::env::temp_dir().join(format!("fdsplice-testpeer-{}.sock", std::process::id()));
    let mut peer = Driver::start();
    let listening = peer.request(json!({ "op": "listen", "path": path }));
    let mut stream = UnixStream::connect(&path).expect("the peer listens");
    let accepted = peer.request(json!({ "op": "accept", "listener": listening["listener"] }));
    stream
        .write_all(b"abc")
        .expect("the peer takes three bytes");
    let read = peer.request(json!({ "op": "read", "conn": accepted["conn"], "bytes": 3 }));
    assert_eq!(read["data"], "616263");
    let connected = peer.request(json!({ "op": "connect", "path": path }));
    assert_eq!(connected["ok"], true);
    std::fs::remove_file(path).expect("the socket file is there");
}

#[test]
fn receive_buffers_can_be_made_small() {
    let mut peer = Driver::start();
    let listening =
        peer.request(json!({ "op": "listen", "port": 0, "tuning": { "rcvbuf": 4096 } }));
    let port = u16::try_from(number(&listening, "port")).expect("a port");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the peer listens");
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, 4096)
        .expect("a size that is allowed");
    let accepted = peer.request(json!({ "op": "accept", "listener": listening["listener"] }));
    stream
        .set_nonblocking(true)
        .expect("a socket can be non-blocking");
    let mut taken = 0;
    loop {
        match stream.write(&[0; 1024]) {
            Ok(count) => taken += count,
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(
        taken < 64 << 10,
        "{taken} bytes fit into buffers of 4 KiB each"
    );
    assert_eq!(
        peer.request(json!({ "op": "setRcvBuf", "conn": accepted["conn"], "bytes": 65_536 }))["ok"],
        true
    );
}

#[test]
fn failures_have_the_name_of_the_error() {
    let mut peer = Driver::start();
    let listening = peer.request(json!({ "op": "listen", "port": 0 }));
    let accepting = peer.send(json!({ "op": "accept", "listener": listening["listener"] }));
    assert_eq!(
        peer.request(json!({ "op": "closeListener", "listener": listening["listener"] }))["ok"],
        true
    );
    assert_eq!(peer.answer(accepting)["error"], "ECANCELED");
    assert_eq!(
        peer.request(json!({ "op": "connect", "port": listening["port"] }))["error"],
        "ECONNREFUSED"
    );
    assert_eq!(
        peer.request(json!({ "op": "read", "conn": 77, "bytes": 1 }))["error"],
        "EBADF"
    );
    let unknown = peer.request(json!({ "op": "nonsense" }));
    assert!(
        unknown["error"]
            .as_str()
            .is_some_and(|message| message.contains("nonsense")),
        "{unknown}"
    );
}
