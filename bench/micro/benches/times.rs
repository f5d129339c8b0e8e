//! Measures the time of parts of the core: `cargo bench -p fdsplice-micro --bench times`.

use divan::Bencher;
use divan::counter::BytesCount;
use fdsplice::RateLimiter;
use fdsplice::bench::lease_and_return;
use fdsplice_micro::{Hop, SIZES, runtime};

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
