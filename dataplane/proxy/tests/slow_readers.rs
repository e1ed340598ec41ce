//! Clients that take their replies slower than servers give them: they get every reply all the same, and others get theirs.

use crate::model::dialects::{GET, frame, frames};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const VALUE_BYTES: usize = 6_000;
const REQUESTS: usize = 60;

fn world(protocol: Protocol, timeout_ms: Option<u32>) -> World {
    let limits = WorkerConfig {
        reply_hold_bytes: 64 * 1024,
        client_reply_hold_bytes: 16 * 1024,
        ..limits()
    };
    let config = PoolConfig {
        timeout_ms,
        ..pool(protocol, 1)
    };
    let mut world = World::new(&[config], &limits, 3);
    world.servers[0]
        .store
        .insert(b"large".to_vec(), vec![b'v'; VALUE_BYTES]);
    world
}

/// The same request, as often as a client sends it at once.
fn pipeline(request: &[u8]) -> Vec<u8> {
    request.repeat(REQUESTS)
}

fn get() -> Vec<u8> {
    resp(&[b"GET", b"large"])
}

/// What the first of them gets for it.
fn value() -> String {
    format!("${VALUE_BYTES}\r\n{}\r\n", "v".repeat(VALUE_BYTES))
}

/// The pipeline of a client that starts to read late brings whole replies alone.
fn assert_all_replies(protocol: Protocol, request: &[u8], check: impl Fn(&[u8])) {
    let mut world = world(protocol, None);
    let slow = [(); 2].map(|()| world.connect(pipeline(request)));
    for client in slow {
        world.clients[client].deaf = true;
    }
    world.settle(5_000);
    let counters = world.proxy.pool_counters(0);
    assert!(counters.paused_replies > 0, "the server is not read");
    for client in slow {
        world.clients[client].deaf = false;
    }
    world.settle(200_000);
    for client in slow {
        check(&world.clients[client].got);
    }
    let counters = world.proxy.pool_counters(0);
    assert_eq!(
        (
            counters.replies_over_client_hold,
            counters.replies_over_hold
        ),
        (0, 0)
    );
    world.assert_idle("after the last reply");
}

#[test]
fn a_pipeline_of_large_values_brings_all_of_them() {
    assert_all_replies(Protocol::Redis, &get(), |got| {
        assert_eq!(show(got), value().repeat(REQUESTS));
    });
    assert_all_replies(Protocol::Memcached, b"get large\r\n", |got| {
        let one = format!(
            "VALUE large 0 {VALUE_BYTES}\r\n{}\r\nEND\r\n",
            "v".repeat(VALUE_BYTES)
        );
        assert_eq!(show(got), one.repeat(REQUESTS));
    });
    assert_all_replies(Protocol::Memcached, &frame(GET, b"large", b"", 7), |got| {
        let (got, rest) = frames(got);
        assert_eq!((got.len(), rest), (REQUESTS, 0));
        for (opcode, status, opaque, body) in got {
            assert_eq!((opcode, status, opaque), (GET, 0, 7));
            assert_eq!(body.len(), 4 + VALUE_BYTES);
        }
    });
}

#[test]
fn one_client_holds_no_more_than_its_share_of_the_memory() {
    let mut world = world(Protocol::Redis, None);
    let slow = world.connect(pipeline(&get()));
    world.clients[slow].deaf = true;
    world.settle(5_000);
    assert!(world.proxy.tables_in_use().reply_hold_bytes <= 24 * 1024);
    // New requests of others go to the server, and there is room to hold what they need.
    let other = world.connect([get(), resp(&[b"MGET", b"large", b"large"])].concat());
    world.settle(5_000);
    let two = format!("*2\r\n{}", value().repeat(2));
    assert_eq!(show(&world.clients[other].got), value() + &two);
    world.clients[slow].deaf = false;
    world.settle(200_000);
    assert_eq!(show(&world.clients[slow].got), value().repeat(REQUESTS));
    world.assert_idle("after the last reply");
}

#[test]
fn a_server_connection_goes_on_when_what_it_stood_still_for_has_timed_out() {
    let mut world = world(Protocol::Redis, Some(50));
    let slow = world.connect(pipeline(&get()));
    world.clients[slow].deaf = true;
    world.settle(1_000);
    world.pass(200_000);
    assert!(world.proxy.pool_counters(0).timeouts > 0);
    let other = world.connect(get());
    world.settle(5_000);
    assert_eq!(show(&world.clients[other].got), value());
    world.clients[slow].deaf = false;
    world.settle(200_000);
    let got = show(&world.clients[slow].got);
    let timed_out = "-ERR Connection timed out\r\n";
    let errors = got.matches(timed_out).count();
    assert_eq!(got.matches(&value()).count() + errors, REQUESTS);
    // What was asked before, then what timed out; and what was not read until the client took its replies.
    let (before, rest) = got.split_once(timed_out).expect("some timed out");
    let after = rest.trim_start_matches(timed_out);
    assert_eq!(before, value().repeat(before.len() / value().len()));
    assert_eq!(after, value().repeat(after.len() / value().len()));
    world.assert_idle("after the last reply");
}
