//! The pipes that copies lease. This test has its own process, because the counts are per process.

mod copy_support;

use std::thread;
use std::time::{Duration, Instant};

use copy_support::{Kind, MIB, PROMPT, Scratch, Wire, copying, data, set_blocking};
use fdsplice::{CopyOptions, RateLimiter, pipe_stats};

#[test]
fn a_copy_that_waits_for_its_limiter_holds_no_pipe() {
    const SAMPLES: usize = 100;
    let scratch = Scratch::new();
    let destination = scratch.file();
    let (reader, feeder) = Wire::new(Kind::Tcp, &scratch).fed(data(10 * MIB));
    set_blocking(&reader, false);
    let options = CopyOptions::new().rate_limit(RateLimiter::new(1e6));
    let running = copying(&reader, &destination, options);
    let deadline = Instant::now() + PROMPT;
    while running.tx() == 0 {
        assert!(Instant::now() < deadline, "nothing moves");
        thread::sleep(Duration::from_millis(1));
    }
    let mut held = 0;
    for _ in 0..SAMPLES {
        held += usize::from(pipe_stats().leased > 0);
        thread::sleep(Duration::from_millis(3));
    }
    assert!(pipe_stats().created > 0, "no pipe was used at all");
    assert!(
        held < SAMPLES / 2,
        "a pipe was held in {held} of {SAMPLES} samples"
    );
    running.abort();
    running.result();
    drop(reader);
    // The feeder fails when the reader is closed, which does not matter here.
    let _ = feeder.join();
}
