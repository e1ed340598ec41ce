//! Replies are the right ones, in the order of the requests, whatever the segmentation, the sizes and the neighbours.

use crate::model::traffic::{Shape, Traffic, generate, resp};
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned()
}

fn assert_same(seed: u64, client: usize, got: &[u8], expected: &[u8]) {
    let at = got
        .iter()
        .zip(expected)
        .position(|(a, b)| a != b)
        .unwrap_or(got.len().min(expected.len()));
    let from = at.saturating_sub(100);
    assert!(
        got == expected,
        "seed {seed} client {client}: {} bytes of {} expected; differs at {at}:\n got      {:?}\n expected {:?}",
        got.len(),
        expected.len(),
        show(&got[from.min(got.len())..]),
        show(&expected[from..]),
    );
}

fn run(seed: u64, protocol: Protocol, shape: &Shape, limits: &WorkerConfig, piece: usize) -> World {
    let patient = PoolConfig {
        timeout_ms: None,
        ..pool(protocol, 3)
    };
    let mut world = World::new(&[patient], limits, seed);
    world.piece = piece;
    let traffic: Vec<Traffic> = (0..6)
        .map(|c| generate(&mut world.rng, protocol, c, shape))
        .collect();
    for one in &traffic {
        let client = world.connect(one.requests.clone());
        world.clients[client].half_close_when_sent = true;
    }
    world.settle(2_000_000);
    for (c, one) in traffic.iter().enumerate() {
        assert_same(seed, c, &world.clients[c].got, &one.expected);
        assert!(
            world.clients[c].finished,
            "seed {seed} client {c}: its connection is closed in order"
        );
    }
    assert_eq!(world.proxy.owed(), 0);
    assert_eq!(world.proxy.clients_open(), 0);
    world.assert_idle(&format!("seed {seed}"));
    world
}

#[test]
fn small_requests_of_both_protocols_are_answered_in_order() {
    let shape = Shape {
        requests: 200,
        value_bytes: 60,
        large_one_in: 0,
        large_bytes: 0,
        many_keys_one_in: 0,
        whole_one_in: 0,
    };
    for seed in 1..40 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            run(seed, protocol, &shape, &limits(), 700);
            run(seed, protocol, &shape, &limits(), 3);
        }
    }
}

#[test]
fn requests_larger_than_the_receive_buffer_are_held_and_larger_than_the_hold_are_uploaded() {
    let held = Shape {
        requests: 120,
        value_bytes: 60,
        large_one_in: 3,
        large_bytes: 2_000,
        many_keys_one_in: 0,
        whole_one_in: 0,
    };
    let streamed = Shape {
        requests: 120,
        value_bytes: 60,
        large_one_in: 5,
        large_bytes: 50_000,
        many_keys_one_in: 0,
        whole_one_in: 0,
    };
    for seed in 1..25 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            run(seed, protocol, &held, &limits(), 900);
            let world = run(seed, protocol, &streamed, &limits(), 3_000);
            assert!(world.proxy.pool_counters(0).requests_streamed > 0);
        }
    }
}

#[test]
fn requests_with_hundreds_of_keys_are_answered_in_order_among_others() {
    let shape = Shape {
        requests: 60,
        value_bytes: 60,
        large_one_in: 40,
        large_bytes: 9_000,
        many_keys_one_in: 3,
        whole_one_in: 0,
    };
    let roomy = WorkerConfig {
        client_reply_hold_bytes: 4 << 20,
        reply_hold_bytes: 16 << 20,
        ..limits()
    };
    for seed in 1..10 {
        run(seed, Protocol::Redis, &shape, &roomy, 3_000);
    }
}

#[test]
fn tight_tables_make_clients_wait_and_nothing_else() {
    let shape = Shape {
        requests: 150,
        value_bytes: 200,
        large_one_in: 6,
        large_bytes: 3_000,
        many_keys_one_in: 0,
        whole_one_in: 0,
    };
    for seed in 1..25 {
        let tight = WorkerConfig {
            requests_max: 16,
            client_requests_max: 4,
            split_keys_max: 24,
            ..limits()
        };
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            let world = run(seed, protocol, &shape, &tight, 400);
            let counters = world.proxy.pool_counters(0);
            assert!(counters.paused_requests > 0);
            assert!(counters.paused_client_requests > 0);
        }
    }
}

#[test]
fn a_merged_reply_too_large_to_hold_becomes_an_error_and_the_connection_goes_on() {
    let mut world = World::new(
        &[pool(Protocol::Redis, 3)],
        &WorkerConfig {
            client_reply_hold_bytes: 10_000,
            ..limits()
        },
        7,
    );
    let value = vec![b'x'; 6_000];
    let keys: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
    let mut requests: Vec<u8> = keys
        .iter()
        .flat_map(|k| resp(&[b"SET", k, &value]))
        .collect();
    requests.extend(resp(&[b"MGET", b"a", b"b", b"c", b"d"]));
    requests.extend(resp(&[b"EXISTS", b"a", b"b", b"nope"]));
    let client = world.connect(requests);
    world.settle(100_000);
    let text =
        "-ERR Reply too large to be held by the proxy (limit client_reply_hold_bytes)\r\n:2\r\n";
    assert_eq!(
        show(&world.clients[client].got),
        format!("{}{text}", "+OK\r\n".repeat(4))
    );
    let counters = world.proxy.pool_counters(0);
    assert_eq!(
        (
            counters.replies_over_client_hold,
            counters.replies_over_hold
        ),
        (1, 0)
    );
}

#[test]
fn a_client_that_does_not_read_stops_neither_its_server_nor_the_others() {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 20_000,
        client_stall_ms: 500,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits, 3);
    let value = vec![b'v'; 200_000];
    let setter = world.connect(resp(&[b"SET", b"big", &value]));
    world.settle(100_000);
    assert_eq!(world.clients[setter].got, b"+OK\r\n");
    let deaf = world.connect(resp(&[b"GET", b"big"]));
    world.clients[deaf].deaf = true;
    world.settle(2_000);
    let other = world.connect(resp(&[b"SET", b"k", b"v"]));
    world.settle(2_000);
    assert_eq!(
        world.clients[other].got, b"+OK\r\n",
        "another connection serves it"
    );
    assert!(world.proxy.pool_counters(0).paused_replies > 0);
    world.pass(1_000_000);
    assert!(
        world.clients[deaf].closed.is_some(),
        "a client without progress is closed"
    );
    assert_eq!(world.proxy.pool_counters(0).clients_closed_stalled, 1);
    assert_eq!(world.proxy.owed(), 0, "the rest of its reply was swallowed");
}

#[test]
fn quit_is_answered_after_everything_before_it() {
    let mut world = World::new(&[pool(Protocol::Redis, 2)], &limits(), 3);
    let requests = [
        resp(&[b"SET", b"k", b"v"]),
        resp(&[b"GET", b"k"]),
        resp(&[b"QUIT"]),
        resp(&[b"GET", b"k"]),
    ];
    let client = world.connect(requests.concat());
    world.settle(10_000);
    assert_eq!(
        show(&world.clients[client].got),
        "+OK\r\n$1\r\nv\r\n+OK\r\n"
    );
    assert!(world.clients[client].finished);
}
