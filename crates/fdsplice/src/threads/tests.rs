//! Tests of the threads for calls that may block: lanes, calls that are given up, panics.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use super::call::Running;
use super::pool::{Lane, MOST_OF_FOLDER, reserve, thread_stats};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn run<T: Send + 'static>(
    lane: Lane,
    work: impl FnOnce(&AtomicBool) -> T + Send + 'static,
) -> Running<T> {
    reserve(lane).expect("a thread").run(work)
}

/// A call that does not return before something is sent, and then returns a value of its own.
fn hanging(lane: Lane) -> (Sender<()>, Running<Arc<()>>, Arc<()>) {
    let (sender, receiver) = channel();
    let (starts, started) = channel();
    let value = Arc::new(());
    let result = Arc::clone(&value);
    let running = run(lane, move |_| {
        let _ = starts.send(());
        let _ = receiver.recv();
        result
    });
    let _ = started.recv_timeout(Duration::from_secs(20));
    (sender, running, value)
}

fn is_dropped(value: &Arc<()>) -> bool {
    (0..20_000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        Arc::strong_count(value) == 1
    })
}

#[test]
fn each_call_gets_a_thread_of_its_own() {
    let lane = Lane::Files(1, 0);
    let (sender, receiver) = channel();
    let waits = run(lane, move |_| receiver.recv().ok());
    let sends = run(lane, move |_| sender.send(7).is_ok());
    assert!(block_on(sends));
    assert_eq!(block_on(waits), Some(7));
}

#[test]
fn a_panic_reaches_the_task_that_waits_and_leaves_the_thread() {
    let lane = Lane::Files(2, 0);
    let panics = run(lane, |_| {
        // Like a panic, but without a message on stderr.
        resume_unwind(Box::new("on purpose"));
    });
    let result = catch_unwind(AssertUnwindSafe(|| block_on(panics)));
    assert_eq!(
        result.expect_err("a panic").downcast_ref(),
        Some(&"on purpose")
    );
    assert_eq!(block_on(run(lane, |_| 1)), 1);
}

#[test]
fn the_result_of_a_call_that_was_given_up_is_dropped_when_it_returns() {
    let (sender, mut running, value) = hanging(Lane::Files(3, 0));
    assert!(running.give_up().is_none());
    assert!(thread_stats().stuck > 0);
    assert_eq!(Arc::strong_count(&value), 2);
    sender.send(()).expect("the call hangs");
    assert!(is_dropped(&value));
}

#[test]
fn calls_that_hang_take_only_the_threads_of_their_lane() {
    let full = Lane::Folder(4);
    let hang: Vec<_> = (0..MOST_OF_FOLDER).map(|_| hanging(full)).collect();
    let mut queued = run(full, |is_abandoned| is_abandoned.load(Ordering::Relaxed));
    assert_eq!(block_on(run(Lane::Folder(5), |_| 1)), 1);
    // Nothing has begun it, so its result is known at once.
    assert_eq!(queued.give_up(), Some(true));
    let last = run(full, |_| 2);
    for (sender, _, value) in &hang {
        assert_eq!(Arc::strong_count(value), 2);
        sender.send(()).expect("the call hangs");
    }
    assert_eq!(block_on(last), 2);
}
