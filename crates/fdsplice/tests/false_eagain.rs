//! Calls that return `EAGAIN` although the end is ready, injected by strace. A transfer makes progress
//! by another call, or returns to its runtime. It never relies on tokio's cooperative budget, which is
//! switched off here.

mod copy_support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use copy_support::{
    MIB, PROMPT, Scratch, contents, data, duplicate, pair_of_files, runtime, skipped,
};
use fdsplice::{CopyOptions, Reason, TrafficResult, copy};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::task::unconstrained;

const CHILD: &str = "FDSPLICE_FALSE_EAGAIN";

/// Runs a test again in a process whose calls fail, and expects its success within a time limit.
/// Returns whether this is that process.
fn is_under(name: &str, fault: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let call = fault.split(':').next().expect("a call");
    let spawned = Command::new("strace")
        .args(["-D", "-f", "-qq", "-o", "/dev/null"])
        .args([
            "-e",
            &format!("trace={call}"),
            "-e",
            &format!("inject={fault}"),
        ])
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .spawn();
    let Ok(mut child) = spawned else {
        skipped("strace is not installed");
        return false;
    };
    let deadline = Instant::now() + PROMPT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("a status") {
            assert!(status.success(), "{status}");
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("an end");
    panic!("the copy does not return to its runtime");
}

fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outer =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (inner, _) = listener.accept().expect("an accepted connection");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    (outer, inner)
}

fn copied(source: impl AsFd, destination: impl AsFd, options: CopyOptions) -> TrafficResult {
    let (source, destination) = (duplicate(source), duplicate(destination));
    runtime().block_on(unconstrained(copy(source, destination, options)))
}

#[test]
fn a_socket_is_copied_to_a_pipe_without_a_splice_that_works() {
    let name = "a_socket_is_copied_to_a_pipe_without_a_splice_that_works";
    if !is_under(name, "splice:error=EAGAIN") {
        return;
    }
    let (mut peer, source) = connected();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
    rustix::io::ioctl_fionbio(&reader, false).expect("a blocking reader");
    let writing = thread::spawn(move || {
        peer.write_all(data(MIB)).expect("a write");
    });
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        std::fs::File::from(reader)
            .read_to_end(&mut read)
            .expect("a read");
        read
    });
    let result = copied(&source, &writer, CopyOptions::new());
    drop(writer);
    assert_eq!((result.tx, result.error), (MIB as u64, None));
    assert!(reading.join().expect("the bytes") == data(MIB));
    writing.join().expect("a writer");
}

#[test]
fn a_pipe_is_copied_to_a_socket_without_a_splice_that_works() {
    let name = "a_pipe_is_copied_to_a_socket_without_a_splice_that_works";
    if !is_under(name, "splice:error=EAGAIN") {
        return;
    }
    let (mut peer, destination) = connected();
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
    rustix::io::ioctl_fionbio(&writer, false).expect("a blocking writer");
    let writing = thread::spawn(move || {
        let mut writer = std::fs::File::from(writer);
        writer.write_all(data(MIB)).expect("a write");
    });
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        peer.read_to_end(&mut read).expect("a read");
        read
    });
    let result = copied(
        &reader,
        &destination,
        CopyOptions::new().end_destination(true),
    );
    assert_eq!((result.tx, result.error), (MIB as u64, None));
    assert!(reading.join().expect("the bytes") == data(MIB));
    writing.join().expect("a writer");
}

#[test]
fn a_socket_is_copied_to_a_file_without_a_splice_that_works() {
    let name = "a_socket_is_copied_to_a_file_without_a_splice_that_works";
    if !is_under(name, "splice:error=EAGAIN") {
        return;
    }
    let (mut peer, source) = connected();
    let destination = Scratch::new().file();
    let writing = thread::spawn(move || {
        peer.write_all(data(MIB)).expect("a write");
    });
    let result = copied(&source, &destination, CopyOptions::new());
    assert_eq!((result.tx, result.error), (MIB as u64, None));
    assert!(contents(&destination) == data(MIB));
    writing.join().expect("a writer");
}

#[test]
fn a_file_is_copied_to_a_socket_without_a_sendfile_that_works() {
    let name = "a_file_is_copied_to_a_socket_without_a_sendfile_that_works";
    if !is_under(name, "sendfile:error=EAGAIN") {
        return;
    }
    let (mut peer, destination) = connected();
    let (source, _) = pair_of_files(&Scratch::new(), data(MIB));
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        peer.read_to_end(&mut read).expect("a read");
        read
    });
    let options = CopyOptions::new().end_destination(true);
    let result = copied(&source, &destination, options);
    assert_eq!((result.tx, result.error), (MIB as u64, None));
    assert!(reading.join().expect("the bytes") == data(MIB));
}

/// The end of the peer keeps a socket readable for ever.
#[test]
fn an_ended_source_that_cannot_be_read_is_idle() {
    let name = "an_ended_source_that_cannot_be_read_is_idle";
    if !is_under(name, "recvfrom:error=EAGAIN") {
        return;
    }
    let (peer, source) = connected();
    let (_reader, destination) = connected();
    peer.shutdown(Shutdown::Write).expect("a shutdown");
    let options = CopyOptions::new().idle_timeout(Duration::from_millis(300));
    let error = copied(&source, &destination, options).error;
    assert_eq!(error.map(|error| error.reason), Some(Reason::IdleTimeout));
}

/// The end of both directions keeps a Unix socket writable for ever.
#[test]
fn an_ended_destination_that_cannot_be_written_is_idle() {
    let name = "an_ended_destination_that_cannot_be_written_is_idle";
    if !is_under(name, "sendto:error=EAGAIN") {
        return;
    }
    let (_peer, source) = connected();
    let (other, destination) = std::os::unix::net::UnixStream::pair().expect("a pair");
    destination.set_nonblocking(true).expect("a flag");
    other.shutdown(Shutdown::Both).expect("a shutdown");
    let options = CopyOptions::new()
        .head(b"head".as_slice())
        .idle_timeout(Duration::from_millis(300));
    let error = copied(&source, &destination, options).error;
    assert_eq!(error.map(|error| error.reason), Some(Reason::IdleTimeout));
}
