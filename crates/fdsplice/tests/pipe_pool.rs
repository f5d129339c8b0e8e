//! The pool of pipes over time: how many pipes transfers make, and when idle pipes are closed. The
//! counts belong to the whole process, so the tests of this file run one after the other. Most run on
//! the paused clock of tokio, where minutes pass at once.

mod copy_support;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fdsplice::{CopyOptions, Endpoint, PipeStats, copy, pipe_stats};
use tokio::runtime::{Builder, Runtime};

use copy_support::{MIB, PROMPT, Scratch, data, duplicate, read_to_end, runtime, write_all};

static SERIAL: Mutex<()> = Mutex::new(());

fn serial() -> MutexGuard<'static, ()> {
    SERIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// A connection: the end outside the copy, and the endpoint inside it.
fn pair() -> (UnixStream, Endpoint) {
    let (outer, inner) = UnixStream::pair().expect("a pair of sockets");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    (outer, OwnedFd::from(inner).try_into().expect("an endpoint"))
}

/// Copies `bytes` from a socket to a file, which uses a pipe on a thread for blocking work.
async fn store(scratch: &Scratch, bytes: usize, options: CopyOptions) {
    let (writer, source) = pair();
    let file = scratch.file();
    let feeder = thread::spawn(move || write_all(&writer, data(bytes)));
    let result = copy(source, duplicate(&file), options).await;
    feeder.join().expect("a feeder");
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(result.tx, bytes as u64);
}

/// Copies `bytes` between two sockets and compares them.
async fn forward(bytes: usize, options: CopyOptions) -> u64 {
    let (writer, source) = pair();
    let (reader, destination) = pair();
    let expected = data(bytes);
    let feeder = thread::spawn(move || write_all(&writer, expected));
    let collector = thread::spawn(move || read_to_end(&reader));
    let result = copy(source, destination, options).await;
    feeder.join().expect("a feeder");
    assert!(result.error.is_none(), "{:?}", result.error);
    assert!(collector.join().expect("a collector") == expected);
    result.zero_copy
}

fn created_since(before: PipeStats) -> usize {
    pipe_stats().created - before.created
}

/// Waits until no pipe is left. Advances the paused clock.
async fn all_closed() {
    let end = Instant::now() + PROMPT;
    while pipe_stats().idle + pipe_stats().leased > 0 {
        assert!(Instant::now() < end, "{:?}", pipe_stats());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[test]
fn pipes_that_blocking_threads_used_are_closed_when_idle() {
    let _serial = serial();
    let scratch = Scratch::new();
    paused().block_on(async {
        tokio::join!(
            store(&scratch, 4 * MIB, CopyOptions::new()),
            store(&scratch, 4 * MIB, CopyOptions::new()),
            store(&scratch, 4 * MIB, CopyOptions::new())
        );
        assert!(pipe_stats().created > 0, "{:?}", pipe_stats());
        // A small copy a second needs one pipe. The others have to go.
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            store(&scratch, 100_000, CopyOptions::new()).await;
        }
        let kept = pipe_stats();
        assert!(kept.leased == 0 && kept.idle <= 1, "{kept:?}");
        all_closed().await;
    });
}

#[test]
fn pipes_of_a_multi_threaded_runtime_are_closed_when_idle() {
    let _serial = serial();
    let other = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    // The first idle pipe of the process starts the task that closes old ones, here on the paused clock.
    let paused = paused();
    paused.block_on(forward(4 * MIB, CopyOptions::new()));
    let copies: Vec<_> = (0..4)
        .map(|_| other.spawn(forward(4 * MIB, CopyOptions::new())))
        .collect();
    for copy in copies {
        other.block_on(copy).expect("no panic");
    }
    paused.block_on(all_closed());
    // In a process with one runtime, the task runs there and ends with it.
    drop(paused);
    other.block_on(forward(4 * MIB, CopyOptions::new()));
    assert!(pipe_stats().idle > 0, "{:?}", pipe_stats());
    drop(other);
    assert_eq!(pipe_stats().idle, 0, "{:?}", pipe_stats());
}

#[test]
fn a_runtime_that_ends_closes_its_idle_pipes() {
    let _serial = serial();
    let runtime = paused();
    runtime.block_on(forward(4 * MIB, CopyOptions::new()));
    assert!(pipe_stats().idle > 0, "{:?}", pipe_stats());
    drop(runtime);
    assert_eq!(pipe_stats().idle, 0, "{:?}", pipe_stats());
}

#[test]
fn old_pipes_are_closed_although_the_runtime_of_the_sweep_stands_still() {
    let _serial = serial();
    let (still, other) = (paused(), paused());
    still.block_on(async {
        let copy = || forward(4 * MIB, CopyOptions::new());
        tokio::join!(copy(), copy(), copy());
    });
    other.block_on(async {
        // The clock of the first runtime was advanced whenever a copy waited.
        tokio::time::sleep(Duration::from_secs(100_000)).await;
        for _ in 0..2 {
            forward(4 * MIB, CopyOptions::new()).await;
        }
    });
    assert!(pipe_stats().idle <= 1, "{:?}", pipe_stats());
}

#[test]
fn a_copy_that_is_dropped_amid_a_step_leaves_no_pipe_behind() {
    let _serial = serial();
    let scratch = Scratch::new();
    let runtime = runtime();
    runtime.block_on(async {
        for _ in 0..8 {
            let copy = store(&scratch, 8 * MIB, CopyOptions::new());
            let _ = tokio::time::timeout(Duration::from_millis(2), copy).await;
        }
    });
    // The steps that still run return their pipes after their runtime has ended.
    drop(runtime);
    let end = Instant::now() + PROMPT;
    while pipe_stats().idle + pipe_stats().leased > 0 {
        assert!(Instant::now() < end, "{:?}", pipe_stats());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn transfers_with_a_pipe_size_share_their_pipes() {
    let _serial = serial();
    runtime().block_on(async {
        for size in [64 * 1024, 100_000, 1, 4096, MIB, usize::MAX] {
            let before = pipe_stats();
            for _ in 0..3 {
                let spliced = forward(8 * MIB, CopyOptions::new().pipe_size(size)).await;
                // Smaller pipes are no better than a buffer, so only a part goes through them.
                assert!(
                    size < 64 * 1024 || spliced > 7 * MIB as u64,
                    "{size}: {spliced}"
                );
            }
            assert!(created_since(before) <= 1, "{size}: {:?}", pipe_stats());
        }
    });
}

#[test]
fn copies_of_different_pipe_sizes_at_once_keep_their_own_pipes() {
    let _serial = serial();
    runtime().block_on(async {
        let before = pipe_stats();
        for _ in 0..3 {
            tokio::join!(
                forward(8 * MIB, CopyOptions::new()),
                forward(8 * MIB, CopyOptions::new().pipe_size(50_000)),
                forward(8 * MIB, CopyOptions::new().pipe_size(65_536)),
                forward(8 * MIB, CopyOptions::new().pipe_size(512 * 1024)),
            );
        }
        // 50,000 and 65,536 bytes are one size for the kernel.
        assert!(created_since(before) <= 4, "{:?}", pipe_stats());
    });
}

#[test]
fn copies_to_files_with_a_pipe_size_share_a_pipe() {
    let _serial = serial();
    let scratch = Scratch::new();
    runtime().block_on(async {
        let before = pipe_stats();
        for _ in 0..4 {
            store(&scratch, 8 * MIB, CopyOptions::new().pipe_size(200_000)).await;
        }
        assert!(created_since(before) <= 1, "{:?}", pipe_stats());
    });
}
