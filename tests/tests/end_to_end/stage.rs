//! The stage on this machine: it needs no privileges, shares nothing with others, and leaves nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::host::Host;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::lab::state::process_started;
use tidegate_tests::local::{Local, Permit};
use tidegate_tests::stage::Stage;

const KINDS: [ServerKind; 2] = [ServerKind::Memcached, ServerKind::Redis];

fn raise() -> Local {
    let options = LabOptions {
        memcached: 2,
        redis: 2,
        ..LabOptions::default()
    };
    Local::raise(options).unwrap_or_else(|error| panic!("{error:?}"))
}

/// Every address that the plan names for pools and servers.
fn addresses(stage: &Local) -> HashSet<SocketAddr> {
    let plan = stage.plan();
    let mut all = Vec::new();
    for family in plan.families() {
        for kind in KINDS {
            all.push(plan.pool(kind, *family));
            all.extend((0..2).map(|index| plan.server(kind, index, *family)));
        }
        all.extend((0..3).map(|number| plan.extra_pool(number, *family)));
        all.extend((0..3).map(|number| plan.fake(number, *family)));
    }
    let set: HashSet<SocketAddr> = all.iter().copied().collect();
    assert_eq!(
        set.len(),
        all.len(),
        "two roles have the same address: {all:?}"
    );
    set
}

#[test]
fn stages_share_neither_addresses_nor_directories() {
    let _permit = Permit::wait();
    let (one, other) = (raise(), raise());
    assert!(addresses(&one).is_disjoint(&addresses(&other)));
    assert_ne!(one.directory(), other.directory());
    assert_ne!(one.name(), other.name());
}

#[test]
fn a_dropped_stage_leaves_nothing() {
    let _permit = Permit::wait();
    let mut stage = raise();
    let mut pids = Vec::new();
    for kind in KINDS {
        for server in stage.servers_mut(kind) {
            pids.push(server.process().expect("it runs").pid());
        }
    }
    let directory = stage.directory().to_owned();
    assert!(pids.iter().all(|pid| process_started(*pid).is_some()) && directory.exists());
    drop(stage);
    for pid in pids {
        assert_eq!(process_started(pid), None, "process {pid} is left");
    }
    assert!(!directory.exists());
}

#[test]
fn servers_answer_over_every_family_and_restart_empty() {
    let _permit = Permit::wait();
    let mut stage = raise();
    for family in stage.plan().families() {
        let memcached = stage.servers(ServerKind::Memcached)[0].address(*family);
        let redis = stage.servers(ServerKind::Redis)[0].address(*family);
        let stored = Memcached::open(memcached).unwrap().set(b"a", 0, b"1");
        assert_eq!(stored.unwrap(), "STORED");
        let mut redis = Redis::open(redis).unwrap();
        assert_eq!(redis.words("SET a 1").unwrap(), Value::ok());
    }
    let server = &mut stage.servers_mut(ServerKind::Redis)[0];
    let address = server.address(Family::V4);
    server.kill();
    assert!(Redis::open(address).is_err(), "a killed server listens");
    server.restart().unwrap();
    let mut redis = Redis::open(address).unwrap();
    assert_eq!(redis.words("GET a").unwrap(), Value::Bulk(None));
}

#[test]
fn what_runs_on_this_machine_has_no_privileges() {
    let status = Host::Here.shell("cat /proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    assert_eq!(effective.map(str::trim), Some("0000000000000000"));
    assert_ne!(Host::Here.shell("id -u").unwrap().trim(), "0");
}
