//! Descriptors that cannot be an end of a copy: a typed error refuses them, and no byte is consumed.

mod copy_support;

use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use copy_support::{
    Kind, Scratch, Wire, copied, data, duplicate, failure, position, read_exactly, runtime,
    write_all,
};
use fdsplice::{CopyOptions, Endpoint, EndpointError, Role, SendFileOptions, Side, send_file};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

fn found(fd: impl AsFd) -> &'static str {
    match Endpoint::duplicate(fd) {
        Err(EndpointError::Unsupported { found, .. }) => found,
        other => panic!("{other:?}"),
    }
}

fn opened(path: &str, flags: OFlags) -> OwnedFd {
    open(path, flags, Mode::empty()).expect("a descriptor")
}

#[test]
fn descriptors_without_a_stream_of_bytes_are_refused_with_their_kind() {
    let scratch = Scratch::new();
    assert_eq!(found(opened("/", OFlags::RDONLY)), "a directory");
    assert_eq!(found(opened("/", OFlags::PATH)), "opened with O_PATH");
    assert_eq!(
        found(opened("/dev/null", OFlags::PATH)),
        "opened with O_PATH"
    );
    assert_eq!(
        found(eventfd(7, EventfdFlags::empty()).expect("an eventfd")),
        "not a stream of bytes"
    );
    assert_eq!(
        found(epoll::create(epoll::CreateFlags::empty()).expect("an epoll")),
        "not a stream of bytes"
    );
    assert_eq!(
        found(UdpSocket::bind("127.0.0.1:0").expect("a socket")),
        "a datagram socket"
    );
    assert_eq!(
        found(UnixDatagram::unbound().expect("a socket")),
        "a datagram socket"
    );
    assert_eq!(
        found(TcpListener::bind("127.0.0.1:0").expect("a socket")),
        "a listening socket"
    );
    assert_eq!(
        found(UnixListener::bind(scratch.path()).expect("a socket")),
        "a listening socket"
    );
    let (one, _other) = seqpacket();
    assert_eq!(found(one), "a sequenced-packet socket");
}

#[test]
fn a_refusal_is_one_sentence_that_names_what_was_expected_and_what_was_found() {
    let file = Endpoint::duplicate(opened("/dev/null", OFlags::WRONLY)).expect("an endpoint");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let refusals = [
        (
            file.require(Role::Source).expect_err("a refusal"),
            "expected a readable descriptor: the descriptor is open for writing only",
        ),
        (
            file.require(Role::Relay).expect_err("a refusal"),
            "expected a connected stream socket: the descriptor is a character device",
        ),
        (
            Endpoint::duplicate(socket).expect_err("a refusal"),
            "expected a connected stream socket: the descriptor is a datagram socket",
        ),
        (
            Endpoint::duplicate(opened("/", OFlags::RDONLY)).expect_err("a refusal"),
            "expected a stream of bytes (a connected socket, a pipe, a file, a terminal or a device): \
             the descriptor is a directory",
        ),
    ];
    for (refusal, sentence) in refusals {
        assert_eq!(refusal.to_string(), sentence);
    }
}

fn seqpacket() -> (OwnedFd, OwnedFd) {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::empty(),
        None,
    )
    .expect("a pair")
}

#[test]
fn a_refusal_consumes_no_byte() {
    let counter = eventfd(7, EventfdFlags::empty()).expect("an eventfd");
    found(&counter);
    assert_eq!(read_exactly(&counter, 8), 7u64.to_ne_bytes());
    let (one, other) = seqpacket();
    write_all(&other, b"a packet");
    found(&one);
    assert_eq!(read_exactly(&one, 8), b"a packet");
}

#[test]
fn a_write_only_source_and_a_read_only_destination_are_bad_descriptors() {
    let scratch = Scratch::new();
    for kind in [Kind::Pipe, Kind::Fifo] {
        let (one, other) = (Wire::new(kind, &scratch), Wire::new(kind, &scratch));
        write_all(&one.writer, b"bytes");
        let result = copied(&one.reader, &other.reader, CopyOptions::new());
        let refused = (Some(Side::Destination), Some(Errno::BADF));
        assert_eq!((result.tx, failure(&result)), (0, refused));
        assert_eq!(read_exactly(&one.reader, 5), b"bytes");
        let result = copied(&one.writer, &other.writer, CopyOptions::new());
        let refused = (Some(Side::Source), Some(Errno::BADF));
        assert_eq!((result.tx, failure(&result)), (0, refused));
    }
    let path = scratch.path();
    std::fs::write(&path, data(100)).expect("a file");
    let open = |flags| open(&path, flags, Mode::empty()).expect("a file");
    let (only_reads, only_writes, both) =
        (open(OFlags::RDONLY), open(OFlags::WRONLY), scratch.file());
    let result = copied(&only_writes, &both, CopyOptions::new());
    assert_eq!(failure(&result), (Some(Side::Source), Some(Errno::BADF)));
    let result = copied(&both, &only_reads, CopyOptions::new());
    let refused = (Some(Side::Destination), Some(Errno::BADF));
    assert_eq!(failure(&result), refused);
    assert!(std::fs::read(&path).expect("a file") == data(100));
    assert_eq!(
        (
            position(&only_reads),
            position(&only_writes),
            position(&both)
        ),
        (0, 0, 0)
    );
}

#[test]
fn the_same_pipe_or_socket_on_both_ends_is_refused() {
    let scratch = Scratch::new();
    for kind in [Kind::Pipe, Kind::Fifo] {
        let wire = Wire::new(kind, &scratch);
        write_all(&wire.writer, b"bytes");
        let result = copied(&wire.reader, &wire.writer, CopyOptions::new().length(5));
        assert!(result.error.is_some(), "{kind:?}: {result:?}");
        assert_eq!(result.tx, 0, "{kind:?}");
        assert_eq!(read_exactly(&wire.reader, 5), b"bytes");
    }
    for kind in [Kind::Tcp, Kind::Unix] {
        let wire = Wire::new(kind, &scratch);
        write_all(&wire.writer, b"bytes");
        let result = copied(&wire.reader, &wire.reader, CopyOptions::new().length(5));
        assert!(result.error.is_some(), "{kind:?}: {result:?}");
        assert_eq!(result.tx, 0, "{kind:?}");
        assert_eq!(read_exactly(&wire.reader, 5), b"bytes");
    }
}

#[test]
fn send_file_refuses_a_source_that_is_not_a_file() {
    let scratch = Scratch::new();
    for kind in [Kind::Pipe, Kind::Tcp] {
        let (one, other) = (Wire::new(kind, &scratch), Wire::new(kind, &scratch));
        write_all(&one.writer, b"bytes");
        let sent = send_file(
            duplicate(&one.reader),
            duplicate(&other.writer),
            SendFileOptions::new(),
        );
        let result = runtime().block_on(sent);
        let error = result.error.expect("a refusal");
        assert_eq!((result.tx, error.side), (0, Some(Side::Source)));
        assert_eq!(read_exactly(&one.reader, 5), b"bytes");
    }
}

#[test]
fn a_full_device_fails_at_the_destination() {
    let scratch = Scratch::new();
    let source = scratch.file();
    write_all(&source, data(100_000));
    let full = copy_support::device("/dev/full");
    rustix::fs::seek(&source, rustix::fs::SeekFrom::Start(10)).expect("a position");
    let result = copied(&source, &full, CopyOptions::new());
    let full = (Some(Side::Destination), Some(Errno::NOSPC));
    assert_eq!((result.tx, failure(&result)), (0, full));
    assert_eq!(position(&source), 10);
    assert!(
        result
            .error
            .is_some_and(|error| error.undelivered.is_empty())
    );
}
