//! A relay in a process of its own under strace, and the traffic for it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use fdsplice::{Endpoint, RelayOptions, TrafficResult, relay};
use rustix::net::sockopt;

/// Bytes of a bulk transfer: a quarter of a GiB.
const BULK: u64 = 256 << 20;
const PARTS_OF_A_GIB: f64 = 4.0;

/// The calls that may depend on the number of bytes.
const MOVING: [&str; 6] = [
    "epoll_wait",
    "fcntl",
    "pipe2",
    "recvfrom",
    "sendto",
    "splice",
];

/// Sent and received in large parts, so that the relay finds much at a time.
static PART: [u8; 1 << 20] = [7; 1 << 20];

/// Bytes each way of a short connection.
const MESSAGE: usize = 100;

/// The target, the number of connections and the kind of ends, for the process that relays.
const CHILD: &str = "FDSPLICE_SYSTEM_CALLS";

/// Longest wait for a byte, and for all connections of a process.
const PATIENCE: Duration = Duration::from_secs(60);

/// System calls by name: their number per connection or per GiB.
pub(crate) type Calls = BTreeMap<String, f64>;

/// What the relay gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// `&mut TcpStream`.
    Borrowed,
    /// `TcpStream`, with `TCP_NODELAY` inherited from the listener and set on the connected socket.
    ByValue,
    /// An `Endpoint` of a descriptor as accept and connect have made it.
    AsMade,
    /// An `Endpoint` of an inspected descriptor.
    Owned,
}

/// How the client ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Clean,
    Reset,
}

/// The calls per short connection. `None` if they cannot be counted, and in the process that relays.
///
/// The calls that start and end a process are in two counts of different numbers of connections, and so
/// cancel out.
pub(crate) fn counted_connections(test: &str, ends: Ends, ending: Ending) -> Option<Calls> {
    const FEW: u32 = 20;
    const MORE: u32 = 120;
    let visits = |count: u32| {
        under_strace(test, ends, count, move |relay, origin| {
            for _ in 0..count {
                visit(relay, origin, ending);
            }
        })
    };
    let (few, more) = (visits(FEW)?, visits(MORE)?);
    let connections = f64::from(MORE - FEW);
    let each = more.into_iter().map(|(name, count)| {
        let before = few.get(&name).copied().unwrap_or_default();
        (name, (count - before) / connections)
    });
    // A call that both processes made as often belongs to no connection.
    let calls: Calls = each.filter(|one| one.1.abs() > 0.05).collect();
    print(
        &format!("a connection of {ends:?} ends, {ending:?}"),
        &calls,
    );
    Some(calls)
}

/// The calls per GiB of one bulk transfer, as [`counted_connections`].
pub(crate) fn counted_bulk(test: &str, ends: Ends) -> Option<Calls> {
    let calls = under_strace(test, ends, 1, |relay, origin| {
        let client = connect(relay);
        let (server, _) = origin.accept().expect("a connection of the relay");
        let sending = thread::spawn(move || {
            for _ in 0..BULK / PART.len() as u64 {
                (&client).write_all(&PART).expect("all bytes sent");
            }
            client.shutdown(Shutdown::Write).expect("an end");
            assert_eq!(read_to_end(&client), 0);
        });
        assert_eq!(read_to_end(&server), BULK);
        drop(server);
        sending.join().expect("a sender that has not failed");
    })?;
    // Without the calls that start and end a process.
    let moving = |name: &str| MOVING.contains(&name);
    let calls = calls.into_iter().filter(|one| moving(&one.0));
    let calls = calls
        .map(|(name, count)| (name, count * PARTS_OF_A_GIB))
        .collect();
    print(&format!("a GiB with {ends:?} ends"), &calls);
    Some(calls)
}

/// Connect, a message each way, and the end.
fn visit(relay: SocketAddr, origin: &TcpListener, ending: Ending) {
    let client = connect(relay);
    let (server, _) = origin.accept().expect("a connection of the relay");
    pass(&client, &server);
    pass(&server, &client);
    match ending {
        Ending::Clean => {
            client.shutdown(Shutdown::Write).expect("an end");
            assert_eq!(read_to_end(&server), 0);
            server.shutdown(Shutdown::Write).expect("an end");
            assert_eq!(read_to_end(&client), 0);
        }
        Ending::Reset => {
            sockopt::set_socket_linger(&client, Some(Duration::ZERO)).expect("a linger time");
            drop(client);
            let error = (&server).read(&mut [0]).expect_err("a reset");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}

fn connect(relay: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(relay).expect("a connection to the relay");
    client
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit");
    client
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    from.write_all(&[7; MESSAGE]).expect("a write");
    let mut message = [0; MESSAGE];
    to.read_exact(&mut message).expect("the message");
    assert_eq!(message, [7; MESSAGE]);
}

fn read_to_end(mut socket: &TcpStream) -> u64 {
    let mut part = vec![0; PART.len()];
    let mut total = 0;
    loop {
        match socket.read(&mut part).expect("an end of input") {
            0 => return total,
            count => total += count as u64,
        }
    }
}

/// Runs this test again under strace as a relay of `connections` connections, one after the other.
fn under_strace(
    test: &str,
    ends: Ends,
    connections: u32,
    traffic: impl FnOnce(SocketAddr, &TcpListener),
) -> Option<Calls> {
    if let Ok(task) = std::env::var(CHILD) {
        serve(&task);
        return None;
    }
    if let Some(reason) = obstacle() {
        eprintln!("skipped: {reason}");
        let required = std::env::var("FDSPLICE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "{reason}, although FDSPLICE_REQUIRE_TOOLS is set"
        );
        return None;
    }
    let origin = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let target = origin.local_addr().expect("an address");
    let file = std::env::temp_dir().join(format!("fdsplice-calls-{}-{test}", std::process::id()));
    let mut child = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o"])
        .arg(&file)
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{target} {connections} {ends:?}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("strace");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    traffic(listening(output.by_ref()), &origin);
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("its output");
    let status = child.wait().expect("a status");
    assert!(status.success(), "{status}: {rest}");
    let counts = fs::read_to_string(&file).expect("the counts");
    fs::remove_file(&file).expect("a file of this test");
    let count = |line: &str| {
        let (name, calls) = line.trim().split_once(char::is_whitespace)?;
        (name != "total").then_some(())?;
        Some((name.to_owned(), calls.trim().parse().ok()?))
    };
    Some(counts.lines().filter_map(count).collect())
}

/// The reason why nothing can be traced here.
fn obstacle() -> Option<String> {
    let probe = Command::new("strace")
        .args(["-f", "-c", "-U", "name,calls", "-o", "/dev/null", "true"])
        .output();
    match probe {
        Err(error) => Some(format!("strace: {error}")),
        Ok(probe) if probe.status.success() => None,
        Ok(probe) => Some(String::from_utf8_lossy(&probe.stderr).into_owned()),
    }
}

/// The address that the relay prints, on a line that the test harness may have begun.
fn listening(output: impl BufRead) -> SocketAddr {
    let printed = output.lines().find_map(|line| {
        let line = line.expect("a line");
        Some(line.split_once("listening ")?.1.to_owned())
    });
    let address = printed.expect("a relay that has not ended before it listened");
    address.parse().expect("an address")
}

/// The process under strace.
fn serve(task: &str) {
    let mut task = task.split(' ');
    let mut next = || task.next().expect("an argument");
    let target: SocketAddr = next().parse().expect("an address");
    let connections: u32 = next().parse().expect("a number");
    let ends = next();
    let ends = [Ends::Borrowed, Ends::ByValue, Ends::AsMade, Ends::Owned]
        .into_iter()
        .find(|one| format!("{one:?}") == ends)
        .expect("a kind of ends");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let serving = async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a listener");
        sockopt::set_tcp_nodelay(&listener, true).expect("an option");
        println!("listening {}", listener.local_addr().expect("an address"));
        for _ in 0..connections {
            let (client, _) = listener.accept().await.expect("a connection");
            let upstream = tokio::net::TcpStream::connect(target).await;
            relayed(ends, client, upstream.expect("a connection")).await;
        }
    };
    // The test fails before this process ends by itself.
    let limited = async { tokio::time::timeout(PATIENCE, serving).await };
    runtime
        .block_on(limited)
        .expect("the end of all connections");
}

/// The verdict is left to the traffic: a reset is a failure here, and expected there.
async fn relayed(
    ends: Ends,
    mut client: tokio::net::TcpStream,
    mut upstream: tokio::net::TcpStream,
) -> TrafficResult {
    match ends {
        Ends::Borrowed => relay(&mut client, &mut upstream, RelayOptions::new()).await,
        Ends::ByValue => {
            upstream.set_nodelay(true).expect("an option");
            let options = RelayOptions::new().set_nodelay(false);
            relay(client, upstream, options).await
        }
        Ends::AsMade => {
            upstream.set_nodelay(true).expect("an option");
            let as_made = |socket| Endpoint::sole_nonblocking_tcp(descriptor(socket));
            let options = RelayOptions::new().set_nodelay(false);
            relay(as_made(client), as_made(upstream), options).await
        }
        Ends::Owned => {
            let owned = |socket| Endpoint::try_from(descriptor(socket)).expect("an endpoint");
            relay(owned(client), owned(upstream), RelayOptions::new()).await
        }
    }
}

fn descriptor(socket: tokio::net::TcpStream) -> OwnedFd {
    OwnedFd::from(socket.into_std().expect("a socket"))
}

fn print(what: &str, calls: &Calls) {
    let list = calls
        .iter()
        .map(|(name, count)| format!("{name} {count:.2}"));
    println!("{what}: {}", list.collect::<Vec<_>>().join(", "));
}
