//! A few disturbances of each sort on both drivers; `scripts/chaos` does more of them, for as long as one wants.

use std::time::Duration;
use tidegate_tests::chaos::{self, Kind, Options, Until};
use tidegate_tests::scene::turn_or_skip;
use tidegate_tests::stage::Driver;

/// What takes seconds by its nature is left to the script.
const KINDS: [Kind; 5] = [
    Kind::WorkerKill,
    Kind::ManagerKill,
    Kind::RedisKill,
    Kind::ServerLink,
    Kind::Loss,
];

fn disturb(driver: Driver) {
    let Some(_turn) = turn_or_skip() else { return };
    let options = Options {
        driver,
        seed: 1,
        until: Until::Events(KINDS.len() as u64),
        kinds: KINDS.to_vec(),
        clients: 8,
        pause: Duration::from_millis(50),
        evidence: std::env::temp_dir().join(format!("tidegate-chaos-{driver:?}")),
    };
    let verdict = chaos::run(&options).unwrap();
    assert!(verdict.faults.is_empty(), "{:#?}", verdict.faults);
    let total = verdict.table.total();
    assert_eq!(
        (total.times, total.wrong, total.lost),
        (options.kinds.len() as u64, 0, 0)
    );
    assert!(
        total.counts.errors + total.ended > 0,
        "nobody was disturbed: nothing is proved"
    );
}

#[test]
fn promises_are_kept_on_afxdp() {
    disturb(Driver::Afxdp);
}

#[test]
fn promises_are_kept_on_kernel_sockets() {
    disturb(Driver::Kernel);
}
