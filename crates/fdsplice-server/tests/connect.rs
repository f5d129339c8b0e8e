//! Connections to real listeners.

mod connect_support;

use std::net::{IpAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use connect_support::Silent;
use fdsplice_server::{Address, ConnectError, Connection, Target, connect};
use rustix::io::Errno;

fn target(address: &impl ToString) -> Target {
    address.to_string().parse().expect("a target")
}

/// A path that no other test uses.
fn path(name: &str) -> PathBuf {
    let name = format!("fdsplice-{}-{name}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    path
}

fn failure(result: Result<Connection, ConnectError>, syscall: &str) -> Errno {
    match result {
        Err(ConnectError::System {
            errno,
            syscall: failed,
        }) if failed == syscall => errno,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_knows_both_addresses() {
    for ip in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((ip, 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let connection = connect(&target(&address)).await.expect("a connection");
        let (_, client) = listener.accept().expect("the same connection");
        assert_eq!(connection.remote_address(), Some(Address::Ip(address)));
        assert_eq!(connection.local_address(), Some(Address::Ip(client)));
    }
}

#[tokio::test]
async fn a_socket_is_nonblocking_and_sends_without_delay() {
    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::io::{FdFlags, fcntl_getfd};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let socket = connect(&target(&address)).await.expect("a connection");
    let socket = socket.into_socket();
    let flags = fcntl_getfl(&socket).expect("its flags");
    assert!(flags.contains(OFlags::NONBLOCK));
    assert!(fcntl_getfd(&socket).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC)));
    assert_eq!(rustix::net::sockopt::tcp_nodelay(&socket), Ok(true));
}

#[tokio::test]
async fn a_target_without_a_listener_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    drop(listener);
    let result = connect(&target(&address)).await;
    assert_eq!(failure(result, "connect"), Errno::CONNREFUSED);
}

#[tokio::test]
async fn a_target_that_does_not_answer_ends_at_the_time_limit() {
    let silent = Silent::new("127.0.0.1");
    let limit = Duration::from_millis(100);
    let target = target(&silent.address()).connect_timeout(limit);
    let start = Instant::now();
    let error = connect(&target).await.expect_err("nobody answers");
    assert_eq!(error, ConnectError::TimedOut);
    assert!(start.elapsed() >= limit);
}

#[tokio::test]
async fn a_connect_waits_for_a_target_that_answers_late() {
    let silent = Silent::new("127.0.0.1");
    let target = target(&silent.address());
    let connecting = tokio::spawn(async move { connect(&target).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!connecting.is_finished());
    let _ = silent.listener.accept().expect("the queued connection");
    connecting.await.expect("no panic").expect("a connection");
}

#[tokio::test]
async fn a_name_connects_to_the_family_that_listens() {
    for ip in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((ip, 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        // A machine without IPv6 has one address of this name.
        for name in ["localhost", "LocalHost"] {
            let found = dns_lookup::lookup_host(name).expect("an address");
            if !found.into_iter().any(|found| found == address.ip()) {
                println!("not tested: {name} does not stand for {ip} here");
                continue;
            }
            let target = target(&format!("{name}:{}", address.port()));
            let connection = connect(&target).await.expect("a connection");
            assert_eq!(connection.remote_address(), Some(Address::Ip(address)));
        }
    }
}

#[tokio::test]
async fn a_name_without_an_address_fails_in_the_resolver() {
    // A resolver whose name servers do not answer takes its time.
    let target = target(&"no-such-name.invalid:80").connect_timeout(Duration::from_secs(120));
    for _ in 0..3 {
        let error = connect(&target).await;
        let error = error.expect_err("no address");
        let ConnectError::Resolve { code } = error else {
            panic!("{error:?}");
        };
        // Without a name server the resolver cannot tell.
        assert!(["ENOTFOUND", "EAI_AGAIN"].contains(&code), "{code}");
    }
}

#[tokio::test]
async fn a_connection_comes_from_the_local_address() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let local: IpAddr = "127.0.0.7".parse().expect("an address");
    let target = target(&address).local_address(local);
    let connection = connect(&target).await.expect("a connection");
    let (_, client) = listener.accept().expect("the same connection");
    assert_eq!(client.ip(), local);
    assert_eq!(connection.local_address(), Some(Address::Ip(client)));
}

#[tokio::test]
async fn a_local_address_of_another_machine_fails_to_bind() {
    let target = target(&"127.0.0.1:9").local_address("192.0.2.1".parse().expect("an address"));
    assert_eq!(failure(connect(&target).await, "bind"), Errno::ADDRNOTAVAIL);
}

#[tokio::test]
async fn a_unix_target_connects_or_says_why_not() {
    let path = path("plain");
    let unix = target(&format!("unix:{}", path.display()));
    assert_eq!(failure(connect(&unix).await, "connect"), Errno::NOENT);
    let listener = UnixListener::bind(&path).expect("a listener");
    let connection = connect(&unix).await.expect("a connection");
    let remote = connection.remote_address();
    assert_eq!(remote, Some(Address::Unix(Some(path.clone()))));
    assert_eq!(connection.local_address(), Some(Address::Unix(None)));
    drop(listener);
    assert_eq!(failure(connect(&unix).await, "connect"), Errno::CONNREFUSED);
    std::fs::remove_file(path).expect("the path");
}

#[tokio::test]
async fn a_full_queue_of_a_unix_listener_is_waited_for() {
    use rustix::net::listen;
    let path = path("full");
    let listener = UnixListener::bind(&path).expect("a listener");
    listen(&listener, 0).expect("a short queue");
    let unix = target(&format!("unix:{}", path.display()));
    let first = connect(&unix).await.expect("the queued connection");
    let short = unix.clone().connect_timeout(Duration::from_millis(50));
    let error = connect(&short).await.expect_err("the queue is full");
    assert_eq!(error, ConnectError::TimedOut);
    let waiting = tokio::spawn(async move { connect(&unix).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    let _ = listener.accept().expect("the queued connection");
    waiting.await.expect("no panic").expect("a connection");
    drop(first);
    std::fs::remove_file(path).expect("the path");
}
