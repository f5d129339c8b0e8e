//! Random successive copies between descriptors of every kind, with limits and aborts, against a
//! simple model. Every byte of the source is delivered, returned in the error, or still in the source,
//! in order and exactly once.

mod copy_support;
mod random_support;

use std::time::Duration;

use fdsplice::{
    Control, CopyOptions, Endpoint, RateLimiter, Reason, TrafficResult, copy, pipe_stats,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use copy_support::{DESTINATIONS, Destination, Kind, MIB, SOURCES, Scratch, Source, data, runtime};
use random_support::{check, descriptors};

/// The time limit of one copy. Only a copy that hangs reaches it.
const LIMIT: Duration = Duration::from_secs(30);

/// One copy.
#[derive(Clone, Debug)]
struct Part {
    head: usize,
    length: Option<usize>,
    /// For a file: where to read, instead of at its position.
    start: Option<usize>,
    /// In microseconds.
    abort_after: Option<u64>,
    rate: Option<f64>,
    zero_copy: bool,
    pipe_size: Option<usize>,
}

#[derive(Clone, Debug)]
struct Schedule {
    source: Kind,
    destination: Kind,
    blocking: [bool; 2],
    bytes: usize,
    parts: Vec<Part>,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 4 => 1..5000_usize, 3 => 5000..150_000_usize, 1 => 150_000..400_000_usize]
}

fn part() -> impl Strategy<Value = Part> {
    let pipe_size = prop_oneof![3 => Just(None), 1 => Just(Some(4096)), 1 => Just(Some(65_536))];
    (
        prop_oneof![3 => Just(0), 1 => 1..100_000_usize],
        prop::option::of(size()),
        prop::option::weighted(0.2, size()),
        prop::option::weighted(0.3, 0..3000_u64),
        prop::option::weighted(0.2, 2e7..1e9_f64),
        prop::bool::weighted(0.8),
        pipe_size,
    )
        .prop_map(
            |(head, length, start, abort_after, rate, zero_copy, pipe_size)| Part {
                head,
                length,
                start,
                abort_after,
                rate,
                zero_copy,
                pipe_size,
            },
        )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    (
        prop::sample::select(SOURCES.to_vec()),
        prop::sample::select(DESTINATIONS.to_vec()),
        [prop::bool::weighted(0.2), prop::bool::weighted(0.2)],
        size(),
        vec(part(), 1..4),
    )
        .prop_map(|(source, destination, blocking, bytes, parts)| Schedule {
            source,
            destination,
            blocking,
            bytes,
            parts,
        })
}

async fn run(
    source: &Source,
    destination: &Destination,
    part: &Part,
    head: &[u8],
) -> TrafficResult {
    let control = Control::new();
    let mut options = CopyOptions::new()
        .head(head)
        .zero_copy(part.zero_copy)
        .control(control.clone());
    if let Some(length) = part.length {
        options = options.length(length as u64);
    }
    if let Some(start) = part.start {
        options = options.start(copy_support::FILE_START + start as u64);
    }
    if let Some(rate) = part.rate {
        options = options.rate_limit(RateLimiter::new(rate));
    }
    if let Some(bytes) = part.pipe_size {
        options = options.pipe_size(bytes);
    }
    let [from, to] =
        [&source.fd, &destination.fd].map(|fd| Endpoint::duplicate(fd).expect("an endpoint"));
    let copying = tokio::spawn(copy(from, to, options));
    if let Some(micros) = part.abort_after {
        tokio::time::sleep(Duration::from_micros(micros)).await;
        control.abort();
    }
    copying.await.expect("no panic")
}

#[test]
fn a_copy_behaves_like_a_queue() {
    let runtime = runtime();
    let strategy = schedule();
    check(
        400,
        "tests/regressions/random_copy.txt",
        &strategy,
        |schedule| {
            let before = descriptors();
            verify(&runtime, &schedule)?;
            prop_assert_eq!(pipe_stats().leased, 0, "a pipe is still on loan");
            prop_assert_eq!(descriptors(), before, "a descriptor is left");
            Ok(())
        },
    );
}

fn verify(runtime: &tokio::runtime::Runtime, schedule: &Schedule) -> Result<(), TestCaseError> {
    let scratch = Scratch::new();
    let [blocking_source, blocking_destination] = schedule.blocking;
    let stream = data(schedule.bytes);
    let source = Source::new(schedule.source, stream, blocking_source, &scratch);
    let destination = Destination::new(schedule.destination, blocking_destination, &scratch);
    let mut arrives = Vec::new();
    // The position of the source.
    let mut position = 0;
    for (index, part) in schedule.parts.iter().enumerate() {
        let mut part = part.clone();
        part.start = part.start.filter(|_| schedule.source.is_file());
        let head = &data(10 * MIB)[7 * MIB + index * 200_000..][..part.head];
        let from = part.start.unwrap_or(position).min(stream.len());
        let rest = &stream[from..];
        let wanted = &rest[..part.length.unwrap_or(usize::MAX).min(rest.len())];
        let all = [head, wanted].concat();
        let result = runtime
            .block_on(async {
                let run = run(&source, &destination, &part, head);
                tokio::time::timeout(LIMIT, run).await
            })
            .map_err(|_| TestCaseError::fail("it hangs"))?;
        let count = usize::try_from(result.tx).expect("a count");
        prop_assert!(count <= all.len(), "{count} of {} counted", all.len());
        arrives.extend_from_slice(&all[..count]);
        let mut taken = count;
        match &result.error {
            None => prop_assert_eq!(count, all.len(), "a clean end before all bytes"),
            Some(error) => {
                prop_assert_eq!(error.reason, Reason::Aborted);
                prop_assert!(part.abort_after.is_some(), "aborted without a request");
                let back = &error.undelivered;
                prop_assert!(all[count..].starts_with(back), "other bytes come back");
                taken += back.len();
            }
        }
        if part.start.is_none() {
            position += taken.saturating_sub(head.len());
        }
        if let Some(at) = source.position() {
            prop_assert_eq!(at, copy_support::FILE_START + position as u64);
        }
    }
    let left = source.rest();
    prop_assert!(
        left == stream[position..],
        "the source lost or kept too much"
    );
    if let Some(arrived) = destination.arrived() {
        prop_assert!(arrived == arrives, "altered bytes");
    }
    Ok(())
}
