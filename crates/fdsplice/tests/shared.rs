//! The state that several threads share: the counts of pipes, a limiter, a control. `ThreadSanitizer`
//! also runs this test (`npm run test:memory`) and checks each access.

mod copy_support;

use std::thread;

use fdsplice::{Control, CopyOptions, RateLimiter, copy, pipe_stats};

use copy_support::{Kind, MIB, Scratch, Wire, data, duplicate, read_to_end, runtime, write_all};

#[test]
fn threads_can_share_a_limiter_and_the_counts_of_pipes() {
    let limiter = RateLimiter::new(400.0 * 1024.0 * 1024.0);
    let copies: Vec<_> = (0..4)
        .map(|_| {
            let limiter = limiter.clone();
            thread::spawn(move || {
                let scratch = Scratch::new();
                for round in 0..4_u8 {
                    let source = Wire::new(Kind::Unix, &scratch);
                    let destination = Wire::new(Kind::Unix, &scratch);
                    for end in [&source.reader, &destination.writer] {
                        copy_support::set_blocking(end, false);
                    }
                    let control = Control::new();
                    let options = CopyOptions::new()
                        .rate_limit(limiter.clone())
                        .control(control.clone());
                    let Wire { reader, writer } = source;
                    let feeder = thread::spawn(move || write_all(&writer, data(2 * MIB)));
                    let Wire {
                        reader: arrival,
                        writer: departure,
                    } = destination;
                    let collector = thread::spawn(move || read_to_end(&arrival));
                    // A thread that reads the counts, and changes the rate or aborts.
                    let observer = thread::spawn({
                        let limiter = limiter.clone();
                        move || {
                            for _ in 0..50 {
                                let seen = control.traffic().total();
                                assert!(seen <= 2 * MIB as u64);
                                assert!(pipe_stats().leased <= 4);
                                limiter.set_bytes_per_second(limiter.bytes_per_second());
                                thread::yield_now();
                            }
                            if round == 3 {
                                control.abort();
                            }
                        }
                    });
                    let ends = (duplicate(&reader), duplicate(&departure));
                    let result = runtime().block_on(copy(ends.0, ends.1, options));
                    drop(departure);
                    let arrived = collector.join().expect("a collector");
                    assert_eq!(arrived.len() as u64, result.tx);
                    let rest = read_to_end(&reader);
                    feeder.join().expect("a feeder");
                    observer.join().expect("an observer");
                    let back = result.error.map_or(Vec::new(), |error| error.undelivered);
                    assert!([arrived, back, rest].concat() == data(2 * MIB));
                }
            })
        })
        .collect();
    for copy in copies {
        copy.join().expect("no panic");
    }
    assert_eq!(pipe_stats().leased, 0);
}
