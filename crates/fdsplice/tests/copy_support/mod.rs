//! Helpers of the tests of copies.

#![allow(dead_code, reason = "every test binary uses a part of it")]
#![allow(unused_imports, reason = "every test binary uses a part of it")]

mod bytes;
mod ends;
pub(crate) mod pty;
mod scratch;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fdsplice::{Control, CopyOptions, Endpoint, Reason, Side, TrafficResult, copy};
use rustix::io::Errno;

pub(crate) use bytes::{
    MIB, contents, data, go_to, on_disk, position, read_exactly, read_to_end, slurp, write_all,
};
pub(crate) use ends::{
    DESTINATIONS, Destination, FILE_START, Kind, SOURCES, Source, WIRES, Wire, device, open_null,
    set_blocking,
};
pub(crate) use scratch::Scratch;

/// A time limit that suffices on a machine that is ten times slower than usual.
pub(crate) const PROMPT: Duration = Duration::from_secs(30);

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) fn duplicate(fd: impl AsFd) -> Endpoint {
    Endpoint::duplicate(fd).expect("an endpoint")
}

/// Whether the tests that take minutes run as well.
pub(crate) fn full() -> bool {
    std::env::var("FDSPLICE_FULL").is_ok_and(|value| value == "1")
}

/// Copies between duplicates, and fails when the copy does not end.
pub(crate) fn copied(
    source: impl AsFd,
    destination: impl AsFd,
    options: CopyOptions,
) -> TrafficResult {
    copied_within(PROMPT, source, destination, options)
}

pub(crate) fn copied_within(
    limit: Duration,
    source: impl AsFd,
    destination: impl AsFd,
    options: CopyOptions,
) -> TrafficResult {
    let ends = (duplicate(source), duplicate(destination));
    let runtime = runtime();
    let result = runtime
        .block_on(async { tokio::time::timeout(limit, copy(ends.0, ends.1, options)).await });
    // Do not wait for the runtime, because a copy that hangs would block this thread too.
    runtime.shutdown_background();
    result.expect("the copy ends")
}

/// Starts a copy on a thread of its own, so that the test can observe it.
pub(crate) fn copying(source: impl AsFd, destination: impl AsFd, options: CopyOptions) -> Copying {
    let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().expect("a duplicate");
    let (source, destination) = (own(source.as_fd()), own(destination.as_fd()));
    let control = Control::new();
    let options = options.control(control.clone());
    Copying {
        control,
        thread: thread::spawn(move || copied(source, destination, options)),
    }
}

pub(crate) struct Copying {
    control: Control,
    thread: JoinHandle<TrafficResult>,
}

impl Copying {
    pub(crate) fn tx(&self) -> u64 {
        self.control.traffic().tx
    }

    pub(crate) fn abort(&self) {
        self.control.abort();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    pub(crate) fn result(self) -> TrafficResult {
        self.thread.join().expect("a result")
    }

    /// Waits until the copy moves no more bytes, because its destination is full. Returns the count of
    /// bytes moved.
    pub(crate) fn stalled(&self) -> u64 {
        let deadline = Instant::now() + PROMPT;
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let now = self.tx();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if now > 0 && since.elapsed() > Duration::from_millis(300) {
                return now;
            }
            assert!(Instant::now() < deadline, "moves on and on: {now} bytes");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

pub(crate) fn pair_of_files(scratch: &Scratch, bytes: &[u8]) -> (File, File) {
    let mut source = scratch.file();
    source.write_all(bytes).expect("a write");
    go_to(&source, 0);
    (source, scratch.file())
}

/// The error number of a copy that a system call has failed.
pub(crate) fn errno(result: &TrafficResult) -> Option<Errno> {
    match result.error.as_ref()?.reason {
        Reason::System { errno, .. } => Some(errno),
        _ => None,
    }
}

/// The side at which a copy failed, and the error number.
pub(crate) fn failure(result: &TrafficResult) -> (Option<Side>, Option<Errno>) {
    let side = result.error.as_ref().and_then(|error| error.side);
    (side, errno(result))
}

/// Reports that a test is skipped on this machine. Fails when all tools are required.
pub(crate) fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    let required = std::env::var("FDSPLICE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(!required, "{why}, although FDSPLICE_REQUIRE_TOOLS is set");
}
