//! The budget of memory for held bytes: readers that stop never make the process hold more, and every
//! byte arrives once they read again. The budget belongs to the whole process, so the tests of this
//! file run one after the other.

mod copy_support;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fdsplice::{
    Control, CopyOptions, Endpoint, PreopenedFile, RateLimiter, RelayOptions, SendFileOptions,
    TrafficResult, copy, held_stats, pipe_stats, relay,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use copy_support::{MIB, PROMPT, Scratch, data, read_to_end, runtime};

/// Bytes by which a direction may exceed the budget.
const EXCESS: usize = 32 * 1024;
const BYTES: usize = MIB;

fn serial() -> MutexGuard<'static, ()> {
    static SERIAL: Mutex<()> = Mutex::new(());
    let guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let most = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: most.map(|most| most.min(16 * 1024)),
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).expect("a limit of descriptors");
    guard
}

fn pair() -> (UnixStream, Endpoint) {
    let (outer, inner) = UnixStream::pair().expect("a pair of sockets");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    outer.set_nonblocking(true).expect("a non-blocking socket");
    (outer, OwnedFd::from(inner).try_into().expect("an endpoint"))
}

/// Runs the copies for a while.
fn turn(runtime: &Runtime, milliseconds: u64) {
    runtime.block_on(async { tokio::time::sleep(Duration::from_millis(milliseconds)).await });
}

/// A copy of [`BYTES`] bytes to a reader that does not read yet.
struct Stalled {
    writer: Option<UnixStream>,
    written: usize,
    reader: UnixStream,
    received: Vec<u8>,
    control: Control,
    copy: JoinHandle<TrafficResult>,
}

impl Stalled {
    fn start(runtime: &Runtime, options: CopyOptions) -> Self {
        let (writer, source) = pair();
        let (reader, destination) = pair();
        let control = Control::new();
        let options = options.control(control.clone());
        Self {
            writer: Some(writer),
            written: 0,
            reader,
            received: Vec::new(),
            control,
            copy: runtime.spawn(copy(source, destination, options)),
        }
    }

    /// Writes what the source accepts, and ends it after the last byte.
    fn feed(&mut self) {
        while let Some(writer) = &mut self.writer {
            match writer.write(&data(BYTES)[self.written..]) {
                Ok(written) => self.written += written,
                Err(_) => return,
            }
            if self.written == BYTES {
                self.writer = None;
            }
        }
    }

    /// Reads what has arrived.
    fn take(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = self.reader.read(&mut buffer) {
            self.received.extend_from_slice(&buffer[..read]);
        }
    }
}

/// Runs the copies, and feeds them until they have moved nothing for a while.
fn stall(runtime: &Runtime, count: usize, options: impl Fn() -> CopyOptions) -> Vec<Stalled> {
    let mut copies: Vec<_> = (0..count)
        .map(|_| Stalled::start(runtime, options()))
        .collect();
    let end = Instant::now() + PROMPT;
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(700) {
        assert!(Instant::now() < end, "the copies do not stall");
        for copy in &mut copies {
            copy.feed();
        }
        turn(runtime, 5);
        assert_bounded(count);
        let written = copies.iter().map(|copy| copy.written).sum();
        if written != last {
            (last, since) = (written, Instant::now());
        }
    }
    copies
}

#[track_caller]
fn assert_bounded(count: usize) {
    let held = held_stats();
    assert!(held.bytes <= held.limit + count * EXCESS, "{held:?}");
}

/// Lets all readers read, and checks every byte.
fn finish(runtime: &Runtime, mut copies: Vec<Stalled>) {
    let end = Instant::now() + PROMPT;
    while copies.iter().any(|copy| copy.received.len() < BYTES) {
        assert!(Instant::now() < end, "{:?}", held_stats());
        for copy in &mut copies {
            copy.feed();
            copy.take();
        }
        turn(runtime, 1);
    }
    for copy in copies {
        assert!(copy.received == data(BYTES), "other bytes");
        let result = runtime.block_on(copy.copy).expect("no panic");
        assert!(result.error.is_none(), "{:?}", result.error);
    }
    assert_eq!((held_stats().bytes, pipe_stats().leased), (0, 0));
}

#[test]
fn stalled_readers_share_one_budget_and_lose_no_byte() {
    let _serial = serial();
    let runtime = runtime();
    let copies = stall(&runtime, 400, CopyOptions::new);
    let held = held_stats();
    assert!(held.bytes > held.limit / 2, "nothing stalls: {held:?}");
    assert!(held.bytes <= held.limit, "{held:?}");
    assert!(pipe_stats().leased > 0, "bytes stay in pipes: {held:?}");

    // Another transfer goes on meanwhile.
    let mut other = Stalled::start(&runtime, CopyOptions::new());
    let end = Instant::now() + PROMPT;
    while other.received.len() < BYTES {
        assert!(Instant::now() < end, "{:?}", held_stats());
        other.feed();
        other.take();
        turn(&runtime, 1);
    }
    assert!(other.received == data(BYTES));
    finish(&runtime, copies);
}

#[test]
fn stalled_readers_without_pipes_exceed_the_budget_by_little() {
    let _serial = serial();
    let runtime = runtime();
    let copies = stall(&runtime, 700, || CopyOptions::new().zero_copy(false));
    let held = held_stats();
    assert!(held.bytes > held.limit / 2, "nothing stalls: {held:?}");
    finish(&runtime, copies);
}

#[test]
fn every_ending_releases_the_budget() {
    let _serial = serial();
    let runtime = runtime();
    let mut copies = stall(&runtime, 60, CopyOptions::new);
    assert!(held_stats().bytes > 0, "{:?}", held_stats());
    for (index, stalled) in copies.drain(..).enumerate() {
        match index % 3 {
            0 => {
                stalled.control.abort();
                let result = runtime.block_on(stalled.copy).expect("no panic");
                let error = result.error.expect("an aborted copy");
                let known = result.tx + error.undelivered.len() as u64;
                assert!(known > 0 && known <= stalled.written as u64);
            }
            // The reader closes its socket.
            1 => {
                drop(stalled.reader);
                let result = runtime.block_on(stalled.copy).expect("no panic");
                assert!(result.error.is_some());
            }
            // The future is dropped.
            _ => stalled.copy.abort(),
        }
    }
    turn(&runtime, 10);
    assert_eq!((held_stats().bytes, pipe_stats().leased), (0, 0));
}

#[test]
fn a_relay_releases_the_budget_however_it_ends() {
    let _serial = serial();
    let runtime = runtime();
    for ending in ["abort", "close", "idle", "drop"] {
        let (mut client, a) = pair();
        let (mut origin, b) = pair();
        let control = Control::new();
        let mut options = RelayOptions::new().control(control.clone());
        if ending == "idle" {
            options = options.idle_timeout(Duration::from_millis(600));
        }
        let relay = runtime.spawn(relay(a, b, options));
        // Neither peer reads, so both directions stall.
        let end = Instant::now() + PROMPT;
        while held_stats().bytes < 100_000 {
            assert!(Instant::now() < end, "{ending}: {:?}", held_stats());
            for end in [&mut client, &mut origin] {
                while end.write(data(BYTES)).is_ok() {}
            }
            turn(&runtime, 5);
        }
        match ending {
            "abort" => control.abort(),
            "close" => drop((client, origin)),
            "idle" => {}
            _ => relay.abort(),
        }
        let result = runtime.block_on(relay);
        assert!(
            result.map_or(true, |result| result.error.is_some()),
            "{ending}"
        );
        assert_eq!(
            (held_stats().bytes, pipe_stats().leased),
            (0, 0),
            "{ending}"
        );
    }
}

#[test]
fn a_copy_that_waits_for_its_limiter_holds_nothing() {
    let _serial = serial();
    let runtime = runtime();
    let mut limited = Stalled::start(
        &runtime,
        CopyOptions::new().rate_limit(RateLimiter::new(1000.0)),
    );
    let end = Instant::now() + PROMPT;
    while limited.received.is_empty() {
        assert!(Instant::now() < end, "no byte arrives");
        limited.feed();
        limited.take();
        turn(&runtime, 5);
    }
    assert_eq!((held_stats().bytes, pipe_stats().leased), (0, 0));
    limited.control.abort();
    runtime.block_on(limited.copy).expect("no panic");
}

/// A file whose bytes are read when it is opened, with its contents.
fn small_file(scratch: &Scratch) -> (PathBuf, &'static [u8]) {
    let path = scratch.path();
    let content = data(64 * 1024);
    std::fs::write(&path, content).expect("a file");
    (path, content)
}

/// Reads to the end, so that the file arrives and nothing is held any more.
fn assert_delivered(
    runtime: &Runtime,
    sending: JoinHandle<TrafficResult>,
    reader: UnixStream,
    content: &[u8],
) {
    reader.set_nonblocking(false).expect("a blocking socket");
    let collector = thread::spawn(move || read_to_end(&reader));
    let result = runtime.block_on(sending).expect("no panic");
    assert!(result.error.is_none(), "{:?}", result.error);
    assert!(collector.join().expect("a collector") == content);
    assert_eq!(held_stats().bytes, 0);
}

#[test]
fn small_files_that_were_read_ahead_share_the_budget() {
    let _serial = serial();
    let runtime = runtime();
    let scratch = Scratch::new();
    let (path, content) = small_file(&scratch);
    let opened: Vec<_> = (0..600)
        .map(|_| PreopenedFile::open(&path, 0, None, true).expect("an open file"))
        .collect();
    let held = held_stats();
    assert!(held.bytes >= held.limit, "{held:?}");
    assert!(held.bytes < held.limit + content.len(), "{held:?}");
    // The others stay open, and are sent all the same.
    let last = opened.into_iter().next_back().expect("a file");
    assert!(last.endpoint().is_some(), "it was read");
    let (reader, destination) = pair();
    let sending = runtime.spawn(last.send(destination, SendFileOptions::new()));
    assert_delivered(&runtime, sending, reader, content);
}

#[test]
fn the_rest_of_a_small_file_is_held_until_its_reader_reads() {
    let _serial = serial();
    let runtime = runtime();
    let scratch = Scratch::new();
    let (path, content) = small_file(&scratch);
    let (reader, destination) = pair();
    // Bytes in front of the file fill the socket.
    let rest = {
        rustix::net::sockopt::set_socket_send_buffer_size(&destination, 8 * 1024)
            .expect("a buffer size");
        let file = PreopenedFile::open(&path, 0, None, true).expect("an open file");
        assert_eq!(held_stats().bytes, content.len());
        runtime.spawn(file.send(destination, SendFileOptions::new()))
    };
    turn(&runtime, 50);
    assert!(held_stats().bytes > 0);
    assert_delivered(&runtime, rest, reader, content);
}
