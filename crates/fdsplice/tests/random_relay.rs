//! Random schedules of the actions of two peers of a relay, against a simple model. A direction is a
//! queue that loses no byte and keeps their order, and a peer that sees the end has received every
//! byte.

mod copy_support;
mod ends_support;
mod random_support;
mod random_wire;

use std::cell::Cell;
use std::time::Duration;

use fdsplice::{
    Control, RateLimiter, Reason, RelayOptions, Side, TrafficResult, pipe_stats, relay,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;

use copy_support::{MIB, data, runtime};
use ends_support::{FORMS, Form, Inner};
use random_support::{check, descriptors};
use random_wire::{Ending, Peer, Transport};

/// The time limit of one schedule. Only a relay that hangs reaches it.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Origin,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(Role, usize),
    Read(Role, usize),
    /// In tenths of a millisecond.
    Pause(u64),
    HalfClose(Role),
    /// A reset; a Unix peer closes instead.
    Reset(Role),
    Abort,
}

#[derive(Clone, Debug)]
struct Schedule {
    transports: [Transport; 2],
    forms: [Form; 2],
    blocking: [bool; 2],
    heads: [usize; 2],
    zero_copy: bool,
    pipe_size: Option<usize>,
    rate: Option<f64>,
    timeouts: bool,
    steps: Vec<Step>,
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Origin)]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![5 => 1..2000_usize, 3 => 2000..70_000_usize, 1 => 70_000..400_000_usize]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (role(), size()).prop_map(|(role, bytes)| Step::Send(role, bytes)),
        8 => (role(), size()).prop_map(|(role, bytes)| Step::Read(role, bytes)),
        6 => (0..12_u64).prop_map(Step::Pause),
        2 => role().prop_map(Step::HalfClose),
        1 => role().prop_map(Step::Reset),
        1 => Just(Step::Abort),
    ]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let transport = || {
        prop_oneof![
            3 => Just(Transport::Tcp),
            1 => Just(Transport::Tcp6),
            2 => Just(Transport::Unix),
        ]
    };
    let head = || prop_oneof![3 => Just(0), 1 => size()];
    let pipe_size = prop_oneof![
        4 => Just(None),
        1 => prop_oneof![Just(1), Just(4096), Just(65_536)].prop_map(Some)
    ];
    let rate = prop_oneof![4 => Just(None), 1 => (2e7..1e9_f64).prop_map(Some)];
    (
        [transport(), transport()],
        [select(&FORMS[..]), select(&FORMS[..])],
        [prop::bool::weighted(0.1), prop::bool::weighted(0.1)],
        [head(), head()],
        prop::bool::weighted(0.8),
        pipe_size,
        rate,
        any::<bool>(),
        vec(step(), 0..24),
    )
        .prop_map(
            |(transports, forms, blocking, heads, zero_copy, pipe_size, rate, timeouts, steps)| {
                Schedule {
                    transports,
                    forms,
                    blocking,
                    heads,
                    zero_copy,
                    pipe_size,
                    rate,
                    timeouts,
                    steps,
                }
            },
        )
}

impl Schedule {
    fn options(&self, streams: [&'static [u8]; 2], control: Control) -> RelayOptions {
        let [client, origin] = self.heads;
        let mut options = RelayOptions::new()
            .head_from_a(&streams[0][..client])
            .head_from_b(&streams[1][..origin])
            .zero_copy(self.zero_copy)
            .control(control);
        if let Some(bytes) = self.pipe_size {
            options = options.pipe_size(bytes);
        }
        if let Some(rate) = self.rate {
            options = options.rate_limit(RateLimiter::new(rate));
        }
        if self.timeouts {
            options = options.idle_timeout(LIMIT).half_close_timeout(LIMIT);
        }
        options
    }
}

/// The events that the model takes into account.
struct Observed {
    result: TrafficResult,
    aborted: bool,
    peers: [Ending; 2],
}

async fn play(schedule: &Schedule, streams: [&'static [u8]; 2]) -> Observed {
    let [(client, mut a), (origin, mut b)] = [0, 1].map(|end| {
        let (outer, inner) = schedule.transports[end].connected();
        let form = schedule.forms[end];
        let inner = if schedule.blocking[end] {
            Inner::inspected(inner)
        } else {
            copy_support::set_blocking(&inner, false);
            match schedule.transports[end] {
                Transport::Unix => Inner::unix(form, inner),
                _ => Inner::tcp(form, inner),
            }
        };
        let stream = &streams[end][schedule.heads[end]..];
        (Peer::start(outer, schedule.transports[end], stream), inner)
    });
    let mut peers = [client, origin];
    let control = Control::new();
    let options = schedule.options(streams, control.clone());
    let relaying = tokio::spawn(async move {
        let (a, b) = (a.end().handed_over(true), b.end().handed_over(true));
        relay(a, b, options).await
    });
    let mut aborted = false;
    for step in &schedule.steps {
        match *step {
            Step::Send(role, bytes) => peers[role as usize].send(bytes),
            Step::Read(role, bytes) => peers[role as usize].read(bytes),
            Step::Pause(tenths) => tokio::time::sleep(Duration::from_micros(100 * tenths)).await,
            Step::HalfClose(role) => peers[role as usize].half_close(),
            Step::Reset(role) => peers[role as usize].reset().await,
            Step::Abort => {
                aborted = true;
                control.abort();
            }
        }
    }
    // Each peer that is still connected sends the rest, ends, and reads to the end.
    for peer in &mut peers {
        peer.half_close();
        peer.read_to_end();
    }
    let result = relaying.await.expect("no panic");
    let [client, origin] = peers;
    let peers = [client.ended().await, origin.ended().await];
    Observed {
        result,
        aborted,
        peers,
    }
}

fn verify(
    schedule: &Schedule,
    streams: [&'static [u8]; 2],
    observed: &Observed,
) -> Result<(), TestCaseError> {
    let Observed {
        result,
        aborted,
        peers,
    } = observed;
    let counts = [result.tx, result.rx];
    prop_assert!(result.zero_copy <= result.tx + result.rx);
    for from in [0, 1] {
        let (source, sink) = (&peers[from], &peers[1 - from]);
        let stream = &streams[from][..schedule.heads[from] + source.sent];
        // Unix sockets have no reset: a close is an end.
        let ended =
            source.half_closed || (source.reset && schedule.transports[from] == Transport::Unix);
        let count = usize::try_from(counts[from]).expect("a count");
        prop_assert!(count <= stream.len(), "{count} of {} counted", stream.len());
        prop_assert!(sink.received.len() <= count, "more received than counted");
        prop_assert!(stream.starts_with(&sink.received), "altered bytes");
        // A truncated stream never looks complete, except on Unix sockets, which have no reset.
        let is_reliable =
            schedule.transports[1 - from] != Transport::Unix || result.error.is_none();
        if sink.saw_end && is_reliable {
            prop_assert!(ended, "an end that the peer did not send");
            prop_assert_eq!(sink.received.len(), stream.len(), "an end before all bytes");
        }
        if result.error.is_none() {
            prop_assert_eq!(count, stream.len(), "a clean end before all bytes");
            prop_assert!(ended, "a clean end that the peer did not send");
            if !sink.reset {
                prop_assert!(sink.saw_end, "the end was not passed on");
            }
        }
    }
    let resets = [peers[0].reset, peers[1].reset];
    match &result.error {
        None => {}
        Some(error) => match error.reason {
            Reason::Aborted => prop_assert!(*aborted, "aborted without a request"),
            Reason::System { .. } => {
                let side = usize::from(error.side == Some(Side::B));
                prop_assert!(resets[side], "{} although the peer sent no reset", error);
            }
            _ => prop_assert!(false, "{}", error),
        },
    }
    Ok(())
}

#[test]
fn a_relay_behaves_like_two_queues() {
    let runtime = runtime();
    // Each schedule has different streams, so that bytes left in a pooled pipe are detected.
    let round = Cell::new(0_usize);
    let strategy = schedule();
    check(
        600,
        "tests/regressions/random_relay.txt",
        &strategy,
        |schedule| {
            round.set(round.get() + 1);
            let all = data(10 * MIB);
            let at = (round.get() * 4099) % MIB;
            let streams = [&all[at..], &all[at + 2053..]];
            let before = descriptors();
            let observed = runtime
                .block_on(async { tokio::time::timeout(LIMIT, play(&schedule, streams)).await })
                .map_err(|_| TestCaseError::fail("it hangs"))?;
            verify(&schedule, streams, &observed)?;
            prop_assert_eq!(pipe_stats().leased, 0, "a pipe is still on loan");
            prop_assert_eq!(descriptors(), before, "a descriptor is left");
            Ok(())
        },
    );
}
