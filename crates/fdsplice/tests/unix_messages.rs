//! Unix sockets whose messages carry descriptors, credentials or an out-of-band byte. A read stops
//! behind such a message, although more bytes are there, and no event is due for them.

mod copy_support;

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use copy_support::{PROMPT, Scratch, contents, copying, runtime};
use fdsplice::{CopyOptions, Endpoint, RelayOptions, TrafficResult, relay};
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg, sockopt};
use rustix::pipe::pipe;

/// A connection: the end of the peer, and the end that the transfer gets.
fn connected() -> (UnixStream, UnixStream) {
    let (outer, inner) = UnixStream::pair().expect("a pair of sockets");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    outer.set_read_timeout(Some(PROMPT)).expect("a timeout");
    (outer, inner)
}

fn endpoint(fd: impl Into<OwnedFd>) -> Endpoint {
    Endpoint::try_from(fd.into()).expect("an endpoint")
}

/// Sends bytes with a descriptor.
fn send_with(socket: &UnixStream, bytes: &[u8], descriptor: impl AsFd) {
    let descriptors = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let parts = [IoSlice::new(bytes)];
    let sent = sendmsg(socket, &parts, &mut control, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}

/// Writes a byte from another process.
fn write_elsewhere(socket: &UnixStream, byte: &str) {
    let end = OwnedFd::from(socket.try_clone().expect("a duplicate"));
    let written = Command::new("printf")
        .arg(byte)
        .stdout(Stdio::from(end))
        .status();
    assert!(written.expect("a process").success());
}

fn relaying(a: UnixStream, b: UnixStream) -> JoinHandle<TrafficResult> {
    let (a, b) = (endpoint(a), endpoint(b));
    thread::spawn(move || runtime().block_on(relay(a, b, RelayOptions::new())))
}

fn read(mut from: impl Read, bytes: usize) -> String {
    let mut read = vec![0; bytes];
    from.read_exact(&mut read).expect("all the bytes");
    String::from_utf8(read).expect("text")
}

/// The messages that a peer sends, and the bytes that arrive.
type Messages = (&'static str, fn(&UnixStream), &'static str);

const MESSAGES: [Messages; 6] = [
    (
        "a descriptor, then plain bytes",
        |peer| {
            send_with(peer, b"with", File::open("/dev/null").expect("a file"));
            (&*peer).write_all(b" and without").expect("a write");
        },
        "with and without",
    ),
    (
        "several descriptors, a message each",
        |peer| {
            for part in ["one ", "two ", "three"] {
                send_with(
                    peer,
                    part.as_bytes(),
                    File::open("/dev/null").expect("a file"),
                );
            }
        },
        "one two three",
    ),
    (
        "plain bytes around a descriptor",
        |peer| {
            (&*peer).write_all(b"before ").expect("a write");
            send_with(peer, b"with", File::open("/dev/null").expect("a file"));
            (&*peer).write_all(b" after").expect("a write");
        },
        "before with after",
    ),
    (
        "a descriptor, then the end of input",
        |peer| {
            send_with(peer, b"with", File::open("/dev/null").expect("a file"));
            (&*peer).write_all(b" the end").expect("a write");
            peer.shutdown(Shutdown::Write).expect("a shutdown");
        },
        "with the end",
    ),
    (
        "bytes of several processes",
        |peer| {
            (&*peer).write_all(b"1").expect("a write");
            write_elsewhere(peer, "2");
            (&*peer).write_all(b"3").expect("a write");
        },
        "123",
    ),
    (
        "an out-of-band byte, which is not passed on",
        |peer| {
            (&*peer).write_all(b"before").expect("a write");
            assert_eq!(send(peer, b"!", SendFlags::OOB), Ok(1));
            (&*peer).write_all(b" after").expect("a write");
        },
        "before after",
    ),
];

/// The peer waits for an answer, so nothing that it sends later can wake the relay.
#[test]
fn a_relay_passes_on_what_is_behind_a_message_with_a_descriptor() {
    for (name, say, arrives) in MESSAGES {
        for back in [false, true] {
            eprintln!("{name}, {}", if back { "from b" } else { "from a" });
            let ((near, a), (far, b)) = (connected(), connected());
            for end in [&a, &b] {
                sockopt::set_socket_passcred(end, true).expect("an option");
            }
            let (peer, mut other) = if back { (far, near) } else { (near, far) };
            say(&peer);
            let relay = relaying(a, b);
            assert_eq!(read(&other, arrives.len()), arrives);
            // The same once more while the relay runs, unless the peer has ended.
            if !name.contains("end of input") {
                say(&peer);
                assert_eq!(read(&other, arrives.len()), arrives);
            }
            other.write_all(b"answer").expect("a write");
            assert_eq!(read(&peer, 6), "answer");
            drop((peer, other));
            assert_eq!(relay.join().expect("a result").error, None);
        }
    }
}

#[test]
fn a_copy_passes_on_what_is_behind_a_message_with_a_descriptor() {
    for (name, say, arrives) in MESSAGES {
        eprintln!("{name}");
        let (peer, source) = connected();
        sockopt::set_socket_passcred(&source, true).expect("an option");
        let (reader, writer) = pipe().expect("a pipe");
        say(&peer);
        let copy = copying(&source, &writer, CopyOptions::new());
        let reader = File::from(reader);
        for part in arrives.bytes() {
            let readable = &mut [PollFd::new(&reader, PollFlags::IN)];
            let limit = Timespec::try_from(PROMPT).expect("a time");
            assert_eq!(poll(readable, Some(&limit)), Ok(1), "the next byte");
            assert_eq!(read(&reader, 1).as_bytes(), [part]);
        }
        drop(peer);
        assert_eq!(copy.result().error, None);
    }
}

#[test]
fn a_copy_to_a_file_passes_on_what_is_behind_a_message_with_a_descriptor() {
    for (name, say, arrives) in MESSAGES {
        eprintln!("{name}");
        let (peer, source) = connected();
        sockopt::set_socket_passcred(&source, true).expect("an option");
        let destination = Scratch::new().file();
        say(&peer);
        let options = CopyOptions::new().length(arrives.len() as u64);
        assert_eq!(copying(&source, &destination, options).result().error, None);
        assert_eq!(contents(&destination), arrives.as_bytes());
    }
}

#[test]
fn descriptors_are_closed_and_not_passed_on() {
    let ((peer, a), (mut other, b)) = (connected(), connected());
    let (reader, writer) = pipe().expect("a pipe");
    let relay = relaying(a, b);
    send_with(&peer, b"with", &writer);
    assert_eq!(read(&other, 4), "with");
    drop(writer);
    // The end of input: no process has the writer any more.
    assert_eq!(File::from(reader).read(&mut [0; 1]).expect("a read"), 0);
    drop(peer);
    assert_eq!(other.read(&mut [0; 1]).expect("a read"), 0);
    drop(other);
    assert_eq!(relay.join().expect("a result").error, None);
}
