//! Helpers of the tests with random schedules: the number of runs, the seed, and the count of open
//! descriptors.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::hash_map::RandomState;
use std::env;
use std::fs;
use std::hash::{BuildHasher, Hasher};

use fdsplice::pipe_stats;
use proptest::test_runner::{
    Config, FileFailurePersistence, RngAlgorithm, TestError, TestRng, TestRunner,
};

/// Runs `few` schedules, or ten times as many in the full run. The seed of the whole run is that of
/// `FDSPLICE_SEED` or a new one, and is printed. The smallest schedule that fails is printed and
/// added to `regressions`, whose schedules run first.
pub(crate) fn check<S: proptest::strategy::Strategy>(
    few: u32,
    regressions: &'static str,
    strategy: &S,
    run: impl Fn(S::Value) -> Result<(), proptest::test_runner::TestCaseError>,
) {
    let full = env::var("FDSPLICE_FULL").is_ok_and(|full| full == "1");
    let seed = env::var("FDSPLICE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let cases = if full { few * 10 } else { few };
    eprintln!("{cases} schedules, FDSPLICE_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        max_shrink_iters: 2000,
        source_file: Some(file!()),
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, run);
    if let Err(failure) = outcome {
        match failure {
            TestError::Fail(why, schedule) => {
                panic!("FDSPLICE_SEED={seed}: {why}\nsmallest schedule: {schedule:#?}")
            }
            TestError::Abort(why) => panic!("FDSPLICE_SEED={seed}: {why}"),
        }
    }
}

/// The count of open descriptors, without those of pipes.
pub(crate) fn descriptors() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("descriptors").count();
    let pipes = pipe_stats();
    open - 2 * (pipes.idle + pipes.leased)
}
