//! The pool of pipes over time: how many pipes transfers make, and when idle pipes are closed. The
//! counts belong to the whole process, so the tests of this file run one after the other.

mod copy_support;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use fdsplice::{CopyOptions, Endpoint, PipeStats, copy, pipe_stats};
use tokio::runtime::{Builder, Runtime};

use copy_support::{MIB, Scratch, data, duplicate, read_to_end, runtime, write_all};

static SERIAL: Mutex<()> = Mutex::new(());

fn serial() -> MutexGuard<'static, ()> {
    SERIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An idle pipe is closed after 10 to 15 s.
const CLOSED: Duration = Duration::from_secs(90);

fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

fn multi_threaded() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Threads of this process that close old pipes.
fn sweepers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("the threads");
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name == "fdsplice-pipes\n")
        .count()
}

fn until(limit: Duration, is_reached: impl Fn() -> bool) {
    let end = Instant::now() + limit;
    while !is_reached() {
        assert!(Instant::now() < end, "{:?}", pipe_stats());
        thread::sleep(Duration::from_millis(50));
    }
}

fn all_closed() {
    until(CLOSED, || pipe_stats().idle + pipe_stats().leased == 0);
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

#[test]
fn pipes_that_blocking_threads_used_are_closed_when_idle() {
    let _serial = serial();
    let scratch = Scratch::new();
    runtime().block_on(async {
        tokio::join!(
            store(&scratch, 4 * MIB, CopyOptions::new()),
            store(&scratch, 4 * MIB, CopyOptions::new()),
            store(&scratch, 4 * MIB, CopyOptions::new())
        );
        assert!(pipe_stats().created > 0, "{:?}", pipe_stats());
        // A small copy now and then needs one pipe. The others have to go.
        let end = Instant::now() + CLOSED;
        while pipe_stats().idle > 1 {
            assert!(Instant::now() < end, "{:?}", pipe_stats());
            tokio::time::sleep(Duration::from_millis(500)).await;
            store(&scratch, 100_000, CopyOptions::new()).await;
        }
        assert_eq!(pipe_stats().leased, 0, "{:?}", pipe_stats());
    });
}

#[test]
fn idle_pipes_are_closed_whatever_runtimes_exist() {
    let _serial = serial();
    // In turn: a runtime that is not driven any more and whose clock is paused, one that ends, one that
    // is driven by its own threads, and a second one with one thread.
    let (still, ended, many, one) = (paused(), runtime(), multi_threaded(), runtime());
    for runtime in [&still, &ended, &one] {
        runtime.block_on(async {
            let copy = || forward(4 * MIB, CopyOptions::new());
            tokio::join!(copy(), copy());
        });
    }
    drop(ended);
    let copies: Vec<_> = (0..4)
        .map(|_| many.spawn(forward(4 * MIB, CopyOptions::new())))
        .collect();
    for copy in copies {
        many.block_on(copy).expect("no panic");
    }
    assert!(pipe_stats().idle > 0, "{:?}", pipe_stats());
    all_closed();
}

#[test]
fn idle_pipes_leave_no_task_in_the_runtime_and_one_thread_that_ends() {
    let _serial = serial();
    let runtime = runtime();
    let tasks = || runtime.metrics().num_alive_tasks();
    runtime.block_on(forward(4 * MIB, CopyOptions::new()));
    assert!(pipe_stats().idle > 0, "{:?}", pipe_stats());
    assert_eq!(tasks(), 0);
    // A thread takes its name after it has started.
    until(CLOSED, || sweepers() == 1);
    all_closed();
    until(CLOSED, || sweepers() == 0);
    // The next idle pipe starts it again.
    runtime.block_on(forward(4 * MIB, CopyOptions::new()));
    assert_eq!(tasks(), 0);
    until(CLOSED, || sweepers() == 1);
}

#[test]
fn the_pipes_of_a_runtime_that_ended_are_leased_by_the_next_one() {
    let _serial = serial();
    runtime().block_on(forward(4 * MIB, CopyOptions::new()));
    let before = pipe_stats();
    assert!(before.idle > 0, "{before:?}");
    runtime().block_on(forward(4 * MIB, CopyOptions::new()));
    assert_eq!(created_since(before), 0);
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
    all_closed();
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
