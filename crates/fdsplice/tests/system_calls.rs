//! System calls of a relay in Rust, counted by strace: per short connection and per GiB. They do not
//! depend on the speed of the machine. Only those of `epoll_wait` depend on which events coincide: they
//! are printed and have no bound.

mod system_calls_support;

use system_calls_support::{Calls, Ending, Ends, counted_bulk, counted_connections};

/// The calls of one connection. A call without a bound must not occur.
type Bounds = [(&'static str, f64)];

/// The runtime's part: accept and connect, one registration and one close for each socket, and the
/// result of the connect (`getsockopt`). An `accept4` may find no connection before it finds one.
const RUNTIME: &Bounds = &[
    ("accept4", 2.0),
    ("socket", 1.0),
    ("connect", 1.0),
    ("getsockopt", 1.0),
    ("epoll_ctl", 4.0),
    ("close", 2.0),
];

/// A message and an end of input in each direction.
const MESSAGES: &Bounds = &[("recvfrom", 4.0), ("sendto", 2.0)];

/// A descriptor leaves the runtime's registration, and the relay makes another one.
const REGISTRATION: &Bounds = &[("epoll_ctl", 4.0)];

/// Both ends are inspected, and get `TCP_NODELAY`.
const INSPECTION: &Bounds = &[
    ("fcntl", 2.0),
    ("statx", 2.0),
    ("getsockopt", 6.0),
    ("setsockopt", 2.0),
];

/// By the test, on the connected socket. The accepted one inherits it.
const NODELAY: &Bounds = &[("setsockopt", 1.0)];

/// One direction ends by the close of both sockets.
const ONE_SHUTDOWN: &Bounds = &[("shutdown", 1.0)];
const TWO_SHUTDOWNS: &Bounds = &[("shutdown", 2.0)];

/// The additional calls for a client that resets: the error is read, the peer's name tells TCP from other
/// sockets, the send queue is empty, and both sockets get a linger time of 0.
const RESET: &Bounds = &[
    ("getsockopt", 1.0),
    ("getpeername", 1.0),
    ("ioctl", 1.0),
    ("setsockopt", 2.0),
];

/// Asserts that each call occurs at most as often as all of `bounds` together allow.
#[track_caller]
fn check(calls: &Calls, bounds: &[&Bounds]) {
    for (name, count) in calls.iter().filter(|one| one.0 != "epoll_wait") {
        let parts = bounds.iter().copied().flatten();
        let bound: f64 = parts.filter(|one| one.0 == name).map(|one| one.1).sum();
        // A debug build checks with `fcntl` that a descriptor is open before it closes it.
        let checks = match calls.get("close") {
            Some(closes) if cfg!(debug_assertions) && name == "fcntl" => *closes,
            _ => 0.0,
        };
        // One connection in a few may be read once more, after a wake-up for nothing.
        let most = bound + checks + if bound > 0.0 { 0.4 } else { 0.05 };
        assert!(
            *count <= most,
            "{count:.2} × {name}, at most {most:.2}: {calls:?}"
        );
    }
}

#[test]
fn a_short_connection_of_borrowed_sockets_is_only_moved_and_shut_down() {
    let name = "a_short_connection_of_borrowed_sockets_is_only_moved_and_shut_down";
    if let Some(calls) = counted_connections(name, Ends::Borrowed, Ending::Clean) {
        check(&calls, &[RUNTIME, MESSAGES, TWO_SHUTDOWNS]);
    }
}

#[test]
fn a_short_connection_of_sockets_by_value_is_shut_down_once() {
    let name = "a_short_connection_of_sockets_by_value_is_shut_down_once";
    if let Some(calls) = counted_connections(name, Ends::ByValue, Ending::Clean) {
        check(&calls, &[RUNTIME, MESSAGES, NODELAY, ONE_SHUTDOWN]);
    }
}

#[test]
fn a_short_connection_of_descriptors_as_made_is_not_inspected() {
    let name = "a_short_connection_of_descriptors_as_made_is_not_inspected";
    if let Some(calls) = counted_connections(name, Ends::AsMade, Ending::Clean) {
        let made = [RUNTIME, MESSAGES, NODELAY, ONE_SHUTDOWN, REGISTRATION];
        check(&calls, &made);
    }
}

#[test]
fn a_short_connection_of_owned_descriptors_is_inspected_once() {
    let name = "a_short_connection_of_owned_descriptors_is_inspected_once";
    if let Some(calls) = counted_connections(name, Ends::Owned, Ending::Clean) {
        let inspected = [RUNTIME, MESSAGES, TWO_SHUTDOWNS, REGISTRATION, INSPECTION];
        check(&calls, &inspected);
    }
}

#[test]
fn a_reset_connection_needs_no_shutdown() {
    let name = "a_reset_connection_needs_no_shutdown";
    if let Some(calls) = counted_connections(name, Ends::ByValue, Ending::Reset) {
        check(&calls, &[RUNTIME, MESSAGES, NODELAY, RESET]);
    }
}

#[test]
fn bulk_is_spliced_in_large_pieces_through_one_pipe() {
    let name = "bulk_is_spliced_in_large_pieces_through_one_pipe";
    for ends in [Ends::Borrowed, Ends::ByValue, Ends::Owned] {
        let Some(calls) = counted_bulk(name, ends) else {
            return;
        };
        let of = |name| calls.get(name).copied().unwrap_or_default();
        // 2,048 calls fill and empty pipes of 1 MiB, 32,768 those of 64 KiB. A busy machine fills them in
        // part only: 3,048 calls were seen.
        assert!(of("splice") < 8_192.0, "{calls:?}");
        assert!(of("recvfrom") + of("sendto") < 1_000.0, "{calls:?}");
        assert!(of("pipe2") <= 4.0, "one pipe for a quarter: {calls:?}");
    }
}
