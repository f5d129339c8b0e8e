//! Counts the instructions of parts of the core in user space with Callgrind, and fails above a
//! bound. The counts are the same on a busy machine; they do not include the kernel.

#![allow(missing_docs, reason = "the macros write public items")]

use fdsplice::bench::lease_and_return;
use fdsplice::{RateLimiter, Throttle};
use fdsplice_micro::{Hop, runtime};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use tokio::runtime::Runtime;

/// Calls per measurement.
const CALLS: u64 = 100;

/// The maximum of instructions per call: the measured number and a tenth, for differences between
/// compilers and C libraries.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, CALLS * instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

fn pool_with_a_pipe() -> Runtime {
    let runtime = runtime();
    {
        let _guard = runtime.enter();
        lease_and_return();
    }
    runtime
}

#[library_benchmark(config = at_most(185))]
#[bench::pooled(pool_with_a_pipe())]
fn pipe(runtime: Runtime) -> Runtime {
    {
        let _guard = runtime.enter();
        for _ in 0..CALLS {
            lease_and_return();
        }
    }
    runtime
}

fn throttle() -> Throttle {
    RateLimiter::new(1e15).burst(1e15).throttle()
}

#[library_benchmark(config = at_most(310))]
#[bench::piece(throttle())]
fn limiter(mut throttle: Throttle) -> Throttle {
    for _ in 0..CALLS {
        assert!(throttle.try_quantum(0).is_ok());
        throttle.used(0, 64);
    }
    throttle
}

#[library_benchmark]
// On Unix sockets, where only a further recv shows that no more bytes are there.
#[bench::message_64(args = (64), setup = Hop::warm, config = at_most(3430))]
// Half as many again, because the kernel decides in how many reads the bytes arrive.
#[bench::bulk_128_kib(args = (128 * 1024), setup = Hop::warm, config = at_most(4800))]
fn direction(mut hop: Hop) -> Hop {
    for _ in 0..CALLS {
        hop.once();
    }
    hop
}

library_benchmark_group!(name = core, benchmarks = [pipe, limiter, direction]);

main!(library_benchmark_groups = core);
