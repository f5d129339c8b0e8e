//! Measures the time of parts of the core: `cargo bench -p fdsplice-micro --bench times`.

use divan::Bencher;
use divan::counter::BytesCount;
use fdsplice::RateLimiter;
use fdsplice::bench::{call_on_a_thread, lease_and_return};
use fdsplice_micro::{Hop, SIZES, runtime};
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

/// Calls on other threads that are submitted at once.
const BURST: usize = 16;

fn main() {
    divan::main();
}

/// A pipe from the pool, leased and returned.
#[divan::bench]
fn pipe_from_the_pool(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let _guard = runtime.enter();
    lease_and_return();
    bencher.bench_local(lease_and_return);
}

/// A pipe that is made, sized and closed, because the pool has none.
#[divan::bench]
fn pipe_made(bencher: Bencher<'_, '_>) {
    let pipe = || fdsplice::bench::lease_of(64 * 1024);
    pipe();
    bencher.bench_local(pipe);
}

/// Submits empty calls at once and waits for all of them.
fn burst<C: Future<Output: Send> + Send + 'static>(call: fn() -> C) {
    thread_local! {
        static RUNTIME: Runtime = runtime();
    }
    let all = async {
        let calls: Vec<_> = (0..BURST).map(|_| tokio::spawn(call())).collect();
        for call in calls {
            call.await.expect("no panic");
        }
    };
    RUNTIME.with(|runtime| runtime.block_on(all));
}

/// A burst of calls that may block, from several threads at once.
#[divan::bench(threads = [1, 2, 8])]
fn blocking_calls(bencher: Bencher<'_, '_>) {
    bencher.bench(|| burst(|| call_on_a_thread(|| ())));
}

/// The same on tokio's threads, of which each runtime has its own.
#[divan::bench(threads = [1, 2, 8])]
fn blocking_calls_of_tokio(bencher: Bencher<'_, '_>) {
    bencher.bench(|| burst(|| spawn_blocking(|| ())));
}

/// One quantum requested and used, under a limit that is never reached.
#[divan::bench(args = [1, 4])]
fn limiter_quantum(bencher: Bencher<'_, '_>, sharing: usize) {
    let limiter = RateLimiter::new(1e15).burst(1e15);
    let mut throttles: Vec<_> = (0..sharing).map(|_| limiter.throttle()).collect();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn = (turn + 1) % sharing;
        let quantum = throttles[turn].try_quantum(0);
        throttles[turn].used(0, 64);
        quantum
    });
}

/// A message through one direction: write, one turn of the runtime, read.
#[divan::bench(args = SIZES)]
fn direction_hop(bencher: Bencher<'_, '_>, size: usize) {
    let mut hop = Hop::warm(size);
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| hop.once());
}
