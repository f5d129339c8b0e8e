//! Bulk streams that share a thread: each leaves it to the others after a quantum.

mod copy_support;

use std::future::Future;
use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fdsplice::{Control, Endpoint, Reason, RelayOptions, TrafficResult, relay};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::timeout;

use copy_support::{MIB, PROMPT, data, read_to_end, write_all};

const STREAMS: usize = 8;
/// A pass begins while any of the quantum of 8 MiB is unused, and takes at most a pipe of 1 MiB.
const MOST_SPLICED: u64 = 9 * MIB as u64;
/// The quantum is 1 MiB, and a pass takes at most a buffer of 64 KiB.
const MOST_COPIED: u64 = (MIB + 64 * 1024) as u64;

fn current_thread() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn multi_thread() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

/// A connection: the end outside the transfer, and the endpoint inside it.
fn connected() -> (TcpStream, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outer =
        TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (inner, _) = listener.accept().expect("an accepted connection");
    inner.set_nonblocking(true).expect("a non-blocking socket");
    for limit in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        limit(&outer, Some(2 * PROMPT)).expect("a time limit");
    }
    (outer, OwnedFd::from(inner).try_into().expect("an endpoint"))
}

/// A relay on `runtime`, and its ends outside.
struct Running {
    client: TcpStream,
    origin: TcpStream,
    control: Control,
    relay: JoinHandle<TrafficResult>,
}

fn start(runtime: &Runtime, options: RelayOptions) -> Running {
    let (client, a) = connected();
    let (origin, b) = connected();
    let control = Control::new();
    let options = options.control(control.clone());
    Running {
        client,
        origin,
        control,
        relay: runtime.spawn(relay(a, b, options)),
    }
}

fn in_time<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    runtime
        .block_on(async { timeout(2 * PROMPT, future).await })
        .expect("in time")
}

/// Sends until `stop`, and then ends. Both return how many bytes passed.
fn flood(socket: TcpStream, stop: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            write_all(&socket, data(MIB));
            sent += MIB as u64;
        }
        socket.shutdown(Shutdown::Write).expect("a shutdown");
        sent
    })
}

fn discard(mut socket: TcpStream) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut buffer = vec![0; MIB];
        let mut received = 0;
        loop {
            match socket.read(&mut buffer).expect("a read") {
                0 => return received,
                bytes => received += bytes as u64,
            }
        }
    })
}

/// Floods a relay for each of the runtimes in turn. Returns when `until` does, which runs on the first
/// of them, after all bytes have arrived.
fn flood_streams<F>(
    runtimes: &[Runtime],
    options: impl Fn() -> RelayOptions,
    until: impl FnOnce(Vec<Control>) -> F,
) where
    F: Future<Output = ()>,
{
    let stop = Arc::new(AtomicBool::new(false));
    let mut controls = Vec::new();
    let mut running = Vec::new();
    for index in 0..STREAMS {
        let stream = start(&runtimes[index % runtimes.len()], options());
        controls.push(stream.control);
        let back = stream.origin.try_clone().expect("a duplicate");
        running.push((
            stream.relay,
            flood(stream.client, stop.clone()),
            discard(stream.origin),
            back,
        ));
    }
    // A current-thread runtime runs only while it is blocked on.
    let (finish, rest) = runtimes.split_first().expect("a runtime");
    thread::scope(|scope| {
        let ends: Vec<_> = rest
            .iter()
            .map(|runtime| {
                let (end, ended) = tokio::sync::oneshot::channel::<()>();
                scope.spawn(move || runtime.block_on(ended));
                end
            })
            .collect();
        in_time(finish, until(controls));
        stop.store(true, Ordering::Relaxed);
        for (relay, flood, discard, back) in running {
            let result = in_time(finish, async {
                // The relay ends when the origin does. It reads to the end first.
                let discarded = tokio::task::spawn_blocking(move || {
                    let received = discard.join().expect("a reader");
                    drop(back);
                    received
                });
                (relay.await.expect("no panic"), discarded.await)
            });
            let sent = flood.join().expect("a writer");
            let (result, received) = (result.0, result.1.expect("a reader"));
            assert!(result.error.is_none(), "{:?}", result.error);
            assert_eq!((result.tx, result.rx, received), (sent, 0, sent));
        }
        drop(ends);
    });
}

async fn all_have_moved(controls: Vec<Control>, bytes: u64) {
    while controls.iter().any(|control| control.traffic().tx < bytes) {
        yield_now().await;
    }
}

fn check_bytes_per_poll(options: impl Fn() -> RelayOptions, most: u64) {
    flood_streams(&[current_thread()], options, |controls| async move {
        let moved = || -> Vec<u64> { controls.iter().map(|it| it.traffic().tx).collect() };
        let mut before = moved();
        // This task and each relay run once in every turn of the runtime.
        while before.iter().sum::<u64>() < 256 * MIB as u64 {
            yield_now().await;
            let after = moved();
            for (before, after) in before.iter().zip(&after) {
                assert!(after - before < most, "{before} to {after}");
            }
            before = after;
        }
    });
}

#[test]
fn a_poll_of_a_spliced_stream_moves_a_bounded_number_of_bytes() {
    check_bytes_per_poll(RelayOptions::new, MOST_SPLICED);
}

#[test]
fn a_poll_of_a_copied_stream_moves_a_bounded_number_of_bytes() {
    check_bytes_per_poll(|| RelayOptions::new().zero_copy(false), MOST_COPIED);
}

#[test]
fn every_bulk_stream_of_a_thread_goes_on() {
    flood_streams(&[current_thread()], RelayOptions::new, |controls| {
        all_have_moved(controls, 8 * MIB as u64)
    });
}

#[test]
fn every_bulk_stream_of_a_multi_thread_runtime_goes_on() {
    flood_streams(&[multi_thread()], RelayOptions::new, |controls| {
        all_have_moved(controls, 8 * MIB as u64)
    });
}

#[test]
fn every_bulk_stream_of_two_current_thread_runtimes_goes_on() {
    flood_streams(
        &[current_thread(), current_thread()],
        RelayOptions::new,
        |controls| all_have_moved(controls, 8 * MIB as u64),
    );
}

#[test]
fn messages_pass_beside_bulk_streams_of_their_thread() {
    let runtime = current_thread();
    let messages = start(&runtime, RelayOptions::new());
    flood_streams(&[runtime], RelayOptions::new, |controls| async move {
        all_have_moved(controls, MIB as u64).await;
        let (client, origin) = (messages.client, messages.origin);
        let rally = tokio::task::spawn_blocking(move || {
            for round in 0..100_u8 {
                for (from, to) in [(&client, &origin), (&origin, &client)] {
                    write_all(from, &[round; 64]);
                    let mut message = [0; 64];
                    (&mut &*to).read_exact(&mut message).expect("a message");
                    assert_eq!(message, [round; 64]);
                }
            }
        });
        rally.await.expect("all messages");
        let result = messages.relay.await.expect("no panic");
        assert!(result.error.is_none(), "{:?}", result.error);
        assert_eq!((result.tx, result.rx), (6400, 6400));
    });
}

#[test]
fn a_stalled_an_aborted_and_a_dropped_stream_do_not_stop_the_others() {
    let runtime = current_thread();
    let bulk = data(10 * MIB);
    let stalled = start(&runtime, RelayOptions::new());
    let [aborted, dropped, other] = [
        start(&runtime, RelayOptions::new()),
        start(&runtime, RelayOptions::new()),
        start(&runtime, RelayOptions::new()),
    ];
    let stop = Arc::new(AtomicBool::new(false));
    let discards = [&aborted, &dropped].map(|stream| {
        let origin = stream.origin.try_clone().expect("a duplicate");
        thread::spawn(move || std::io::copy(&mut &origin, &mut std::io::sink()))
    });
    let floods = [&stalled, &aborted, &dropped].map(|stream| {
        let (client, stop) = (
            stream.client.try_clone().expect("a duplicate"),
            stop.clone(),
        );
        thread::spawn(move || {
            use std::io::Write;
            // Fails when the relay is reset, or when this test shuts the socket down.
            while !stop.load(Ordering::Relaxed) && (&mut &client).write_all(data(MIB)).is_ok() {}
        })
    });
    in_time(&runtime, async {
        let controls = vec![aborted.control.clone(), dropped.control.clone()];
        all_have_moved(controls, 2 * MIB as u64).await;
        aborted.control.abort();
        dropped.relay.abort();
    });
    let client = other.client;
    let sending = thread::spawn(move || {
        write_all(&client, bulk);
        client.shutdown(Shutdown::Write).expect("a shutdown");
        client
    });
    let origin = other.origin;
    let receiving = thread::spawn(move || read_to_end(&origin));
    let result = in_time(&runtime, other.relay).expect("no panic");
    assert_eq!(result.tx, bulk.len() as u64);
    assert!(result.error.is_none(), "{:?}", result.error);
    assert!(receiving.join().expect("a reader") == bulk);
    drop(sending.join().expect("a writer"));
    let result = in_time(&runtime, aborted.relay).expect("no panic");
    assert_eq!(result.error.expect("a failure").reason, Reason::Aborted);
    assert!(
        in_time(&runtime, dropped.relay)
            .expect_err("dropped")
            .is_cancelled()
    );
    stop.store(true, Ordering::Relaxed);
    stalled.client.shutdown(Shutdown::Both).expect("a shutdown");
    for flood in floods {
        flood.join().expect("a writer");
    }
    for discard in discards {
        // A reset is no failure of this reader.
        let _ = discard.join().expect("a reader");
    }
}
