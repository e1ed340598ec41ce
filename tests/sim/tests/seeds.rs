//! A fixed set of seeds, and the same world twice.

use tidegate_sim::runner::{Run, Verdict, run, try_out};
use tidegate_sim::scenario::Scenario;

/// Requests of a seed, about.
const REQUESTS: u32 = 1_000;

#[test]
fn every_promise_is_kept() {
    let report = run(Run {
        first: 1,
        seeds: 400,
        time: None,
        requests: REQUESTS,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        keep_going: false,
    });
    assert_eq!(report.broken, None, "scripts/sim --seed N shrinks it");
    assert!(report.tally.answered > 10_000, "{:?}", report.tally);
}

#[test]
fn a_seed_replays_byte_for_byte() {
    for seed in 1..=20 {
        let hash = || match try_out(&Scenario::of(seed, REQUESTS), false) {
            Verdict::Kept { hash, .. } => hash,
            Verdict::Broken { how, .. } => panic!("seed {seed}: {how}"),
        };
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}
