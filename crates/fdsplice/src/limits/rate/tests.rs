//! Tests of the rate limit, most of them with tokio's clock paused.

use std::future::poll_fn;

use super::*;

const MIB: f64 = 1024.0 * 1024.0;

async fn spend(limiter: RateLimiter, seconds: u64) -> u64 {
    let mut throttle = Throttle::new(limiter);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut spent = 0;
    while Instant::now() < end {
        let quantum = poll_fn(|cx| throttle.poll_quantum(cx, 0)).await;
        throttle.used(0, quantum);
        spent += quantum;
    }
    spent
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn rates_from_16_kib_to_1_gib_are_kept() {
    for rate in [16.0 * 1024.0, MIB, 100.0 * MIB, 1024.0 * MIB] {
        let spent = runtime().block_on(spend(RateLimiter::new(rate), 4)) as f64;
        assert!((spent / (rate * 4.0) - 1.0).abs() < 0.03, "{rate}: {spent}");
    }
}

#[test]
fn busy_transfers_get_equal_shares() {
    runtime().block_on(async {
        let limiter = RateLimiter::new(MIB);
        let shares = [(); 4].map(|()| tokio::spawn(spend(limiter.clone(), 4)));
        for share in shares {
            let spent = share.await.expect("a share");
            assert!(spent.abs_diff(1 << 20) < (1 << 20) / 10, "{spent}");
        }
    });
}

#[test]
fn a_source_with_small_reads_gets_an_equal_share() {
    runtime().block_on(async {
        let limiter = RateLimiter::new(MIB);
        let shared = limiter.clone();
        let little = tokio::spawn(async move {
            let mut throttle = Throttle::new(shared);
            let end = Instant::now() + Duration::from_secs(4);
            let mut spent = 0;
            while Instant::now() < end {
                let quantum = poll_fn(|cx| throttle.poll_quantum(cx, 0)).await;
                let part = quantum.min(1000);
                throttle.used_part(0, part);
                spent += part;
            }
            spent
        });
        for spent in [spend(limiter, 4).await, little.await.expect("its share")] {
            assert!(spent.abs_diff(2 << 20) < (2 << 20) / 50, "{spent}");
        }
    });
}

#[test]
fn unused_bytes_go_to_other_transfers() {
    runtime().block_on(async {
        let limiter = RateLimiter::new(MIB);
        let idle = limiter.clone();
        let idler = tokio::spawn(async move {
            let mut throttle = Throttle::new(idle);
            for _ in 0..1000 {
                poll_fn(|cx| throttle.poll_quantum(cx, 0)).await;
                throttle.used(0, 0);
            }
        });
        let spent = spend(limiter, 4).await;
        assert!(spent.abs_diff(4 << 20) < (4 << 20) * 3 / 100, "{spent}");
        idler.abort();
    });
}

#[test]
#[allow(clippy::cast_precision_loss)]
fn a_rate_that_falls_far_is_kept_without_a_pause() {
    runtime().block_on(async {
        let limiter = RateLimiter::new(50.0 * MIB);
        let shares = [(); 4].map(|()| tokio::spawn(spend(limiter.clone(), 1)));
        sleep(Duration::from_millis(1)).await;
        limiter.set_bytes_per_second(32.0 * 1024.0);
        sleep(Duration::from_millis(100)).await;
        let spent = spend(limiter, 4).await as f64;
        for share in shares {
            share.await.expect("a share");
        }
        // During the first of the four seconds, four other transfers take their shares.
        let expected = 32.0 * 1024.0 * (0.9 / 5.0 + 3.1);
        assert!(
            (spent / expected - 1.0).abs() < 0.1,
            "{spent} of {expected}"
        );
    });
}

#[test]
fn a_waiting_direction_is_woken_when_the_other_has_used_the_quantum_and_ended() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut throttle = Throttle::new(RateLimiter::new(MIB));
    // Direction 0 had the first turn, so direction 1 has the next.
    throttle.used(0, 0);
    let mut other_was_served = false;
    let quantum = poll_fn(|cx| {
        let waits = throttle.poll_quantum(cx, 0);
        if other_was_served {
            return waits;
        }
        assert!(waits.is_pending());
        // The quantum becomes due during one poll of the task.
        std::thread::sleep(Duration::from_millis(30));
        assert!(throttle.poll_quantum(cx, 1).is_ready());
        throttle.used(1, 0);
        throttle.leave(1);
        other_was_served = true;
        Poll::Pending
    });
    let before = Instant::now();
    let limit = Duration::from_secs(20);
    let served = runtime.block_on(async { tokio::time::timeout(limit, quantum).await });
    assert!(served.is_ok());
    assert!(
        before.elapsed() < limit / 2,
        "only the end of the test woke it"
    );
}

#[test]
fn a_new_rate_reaches_a_waiting_transfer() {
    runtime().block_on(async {
        let limiter = RateLimiter::new(1.0);
        let waiting = tokio::spawn(spend(limiter.clone(), 1));
        sleep(Duration::from_millis(500)).await;
        limiter.set_bytes_per_second(MIB);
        let before = Instant::now();
        assert!(waiting.await.expect("a share") > 64);
        assert!(before.elapsed() < Duration::from_millis(600));
    });
}
