//! The load against its own origin: directly, and through a relay that alters bytes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    thread,
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fdsplice-load");

struct Origin {
    child: Child,
    address: SocketAddr,
}

impl Origin {
    fn start() -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("origin")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line
            .trim()
            .strip_prefix("listening ")
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            address: ([127, 0, 0, 1], port).into(),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn run(target: SocketAddr, args: &str) -> Output {
    Command::new(PROGRAM)
        .args(["run", "--timeout", "60", "--target", &target.to_string()])
        .args(args.split(' '))
        .output()
        .unwrap()
}

fn succeed(target: SocketAddr, args: &str) -> Value {
    let Output {
        status,
        stdout,
        stderr,
    } = run(target, args);
    let complaint = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{args}: {complaint}");
    serde_json::from_slice(&stdout).unwrap()
}

#[test]
fn every_byte_of_bulk_is_counted_in_each_direction() {
    let origin = Origin::start();
    for (direction, bytes) in [("up", 3_000_003), ("down", 3_000_003), ("both", 6_000_006)] {
        let args = format!(
            "--work bulk --streams 3 --threads 2 --bytes-per-stream 1000001 --direction {direction}"
        );
        assert_eq!(
            succeed(origin.address, &args)["bytes"],
            bytes,
            "{direction}"
        );
    }
}

#[test]
fn the_requested_number_of_round_trips_and_connections_is_made() {
    let origin = Origin::start();
    for args in [
        "--work pingpong --connections 5 --size 1 --round-trips 77",
        "--work pingpong --connections 3 --threads 2 --size 300000 --round-trips 77",
        "--work churn --connections-at-once 5 --count 77 --size 100",
        "--work churn --connections-at-once 1 --count 77 --size 16",
        "--work churn --connections-at-once 5 --threads 2 --count 77 --size 100 --reset",
    ] {
        let result = succeed(origin.address, args);
        assert_eq!(result["count"], 77, "{args}");
        assert!(
            result["microseconds"]["p999"].as_f64() >= result["microseconds"]["p50"].as_f64(),
            "{result}"
        );
    }
}

#[test]
fn the_active_connection_among_idle_ones_makes_round_trips() {
    let origin = Origin::start();
    let result = succeed(
        origin.address,
        "--work idle --connections 100 --threads 2 --active --seconds 0.1",
    );
    assert_eq!(result["connections"], 100);
    assert!(result["active"]["count"].as_u64() > Some(0), "{result}");
}

#[test]
fn a_mixed_work_counts_messages_and_bulk() {
    let origin = Origin::start();
    let result = succeed(
        origin.address,
        "--work mixed --connections 100 --seconds 0.2 --bytes-per-stream 1000000",
    );
    assert_eq!(result["count"], 95 * 20);
    // Up, down, both, up; and an eighth for the slow reader.
    assert_eq!(result["bytes"], 5_000_000 + 125_000);
}

type Spoil = fn(&mut Vec<u8>);

/// A relay that applies `spoil` to the bytes on their way to the client.
fn unfaithful_relay(target: SocketAddr, spoil: Spoil) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut upstream) = (client.unwrap(), TcpStream::connect(target).unwrap());
            let (mut up_from, mut up_to) =
                (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || {
                std::io::copy(&mut up_from, &mut up_to).unwrap();
                up_to.shutdown(Shutdown::Write).unwrap();
            });
            thread::spawn(move || {
                let mut everything = Vec::new();
                // The client waits for the origin's first answer before it requests the rest.
                let mut answer = [0];
                upstream.read_exact(&mut answer).unwrap();
                client.write_all(&answer).unwrap();
                upstream.read_to_end(&mut everything).unwrap();
                spoil(&mut everything);
                client.write_all(&everything).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
        }
    });
    address
}

#[test]
fn a_relay_that_loses_or_adds_a_byte_fails_the_run() {
    let origin = Origin::start();
    let cases: [(&str, Spoil, Option<&str>); 4] = [
        ("down", |_| (), None),
        (
            "down",
            |bytes| bytes.truncate(999),
            Some("ended after 999 of 1000 bytes"),
        ),
        ("down", |bytes| bytes.push(0), Some("after the last one")),
        ("up", |bytes| bytes[0] ^= 1, Some("of 1000 bytes")),
    ];
    for (direction, spoil, complaint) in cases {
        let relay = unfaithful_relay(origin.address, spoil);
        let Output { status, stderr, .. } = run(
            relay,
            &format!("--work bulk --bytes-per-stream 1000 --direction {direction}"),
        );
        let message = String::from_utf8_lossy(&stderr);
        assert_eq!(status.success(), complaint.is_none(), "{message}");
        assert!(message.contains(complaint.unwrap_or_default()), "{message}");
    }
}

/// A relay that never ends the origin's side.
fn relay_that_keeps_the_origin(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for client in listener.incoming() {
            let (mut client, mut upstream) = (client.unwrap(), TcpStream::connect(target).unwrap());
            kept.push(upstream.try_clone().unwrap());
            let (mut down_from, mut down_to) =
                (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            // Both directions fail or end when the client has reset.
            thread::spawn(move || std::io::copy(&mut client, &mut upstream));
            thread::spawn(move || std::io::copy(&mut down_from, &mut down_to));
        }
    });
    address
}

#[test]
fn a_relay_that_keeps_a_connection_after_a_reset_fails_the_run() {
    let origin = Origin::start();
    let relay = relay_that_keeps_the_origin(origin.address);
    let Output { status, stderr, .. } = run(relay, "--work churn --count 3 --size 100 --reset");
    let message = String::from_utf8_lossy(&stderr);
    assert!(!status.success(), "{message}");
    assert!(
        message.contains("resets do not reach the origin"),
        "{message}"
    );
}
