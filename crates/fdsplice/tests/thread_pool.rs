//! The threads for blocking calls over time. Their count belongs to the whole process.

mod copy_support;

use std::time::{Duration, Instant};

use fdsplice::{CopyOptions, Endpoint, copy, thread_stats};

use copy_support::{MIB, device, runtime};

/// A thread without work ends after 10 s.
const ENDED: Duration = Duration::from_secs(90);

/// Copies between two devices, on a thread for blocking calls.
async fn move_zeros(bytes: usize) {
    let end = |path| Endpoint::try_from(device(path)).expect("an endpoint");
    let options = CopyOptions::new().length(bytes as u64);
    let result = copy(end("/dev/zero"), end("/dev/null"), options).await;
    assert!(result.error.is_none(), "{:?}", result.error);
    assert_eq!(result.tx, bytes as u64);
}

#[test]
fn threads_of_a_burst_end_while_a_few_calls_go_on() {
    runtime().block_on(async {
        let burst: Vec<_> = (0..16)
            .map(|_| tokio::spawn(move_zeros(64 * MIB)))
            .collect();
        for copy in burst {
            copy.await.expect("no panic");
        }
        let before = thread_stats();
        assert!(before.threads > 4, "{before:?}");
        let end = Instant::now() + ENDED;
        while thread_stats().threads > 2 {
            assert!(
                Instant::now() < end,
                "{before:?}, then {:?}",
                thread_stats()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
            move_zeros(1).await;
        }
    });
}
