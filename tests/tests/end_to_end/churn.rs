//! Many short connections: what each of them took is given back.

use std::collections::BTreeMap;
use tidegate_tests::appliance::Status;
use tidegate_tests::both_drivers;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::{CLIENT_ADDRESSES, Family};
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;

/// Connections of the test: more than descriptors or slots that could hide a leak of one in ten.
const CONNECTIONS: u32 = 4_000;

/// Slots of each worker: a leak of slots would fill them.
const SLOTS: u32 = 256;

/// Asks once on each of `count` connections, one after the other. They come from all client addresses, because a closed
/// connection keeps its port for a minute.
fn ask_once_each(scene: &Scene, count: u32) {
    let plan = scene.plan();
    let to = plan.pool(ServerKind::Redis, Family::V4);
    scene.on_client(|| {
        for number in 0..count {
            let from = (number % u32::from(CLIENT_ADDRESSES)) as u8;
            let connection = plan.connect_from(from, to).unwrap();
            let mut client = Redis { connection };
            let reply = client.words(&format!("SET churn-{} x", number % 100));
            assert_eq!(reply.unwrap(), Value::ok(), "connection {number}");
        }
    });
}

/// Open files of each worker, of those that may be looked at.
fn descriptors(status: &Status) -> BTreeMap<i32, usize> {
    let workers = status.workers().into_iter();
    workers
        .filter_map(|worker| {
            let files = std::fs::read_dir(format!("/proc/{}/fd", worker.pid)).ok()?;
            Some((worker.pid, files.count()))
        })
        .collect()
}

/// Whether `accepted` connections were accepted in all, and none is left.
fn all_ended(status: &Status, accepted: u32) -> bool {
    let sum = |counter| -> u64 { (0..2).map(|worker| status.stack(worker, counter)).sum() };
    sum("accepted") == u64::from(accepted) && sum("clients_open") == 0
}

both_drivers!(
    short_connections_give_everything_back,
    LabOptions {
        memcached: 0,
        ..LabOptions::default()
    },
    |stage| LabConfig::new(stage, Family::V4).worker(&format!("clients_max = {SLOTS}")),
    short_connections_give_everything_back
);

fn short_connections_give_everything_back(scene: &mut Scene) {
    const FIRST: u32 = CONNECTIONS / 10;
    // Each worker has its connections to all servers before anything is counted.
    ask_once_each(scene, FIRST);
    let before = scene.wait_for_status("rest", |status| all_ended(status, FIRST));
    let files = descriptors(&before);
    // Root may look at everybody's; a worker without privileges hides its files from its own user as well.
    let looks = nix::unistd::geteuid().is_root();
    let processes = if scene.driver().pmd().is_some() { 1 } else { 2 };
    assert_eq!(files.len(), if looks { processes } else { 0 });
    ask_once_each(scene, CONNECTIONS);
    let after = scene.wait_for_status("rest after the churn", |status| {
        all_ended(status, FIRST + CONNECTIONS) && descriptors(status) == files
    });
    assert_eq!(
        after.workers(),
        before.workers(),
        "a worker was started again"
    );
}
