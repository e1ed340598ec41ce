//! Clients for whom their pool has no place: what they are told, and that they do not stay.

use crate::model::dialogue::{commands, play, text};
use crate::model::redis::{goes_on, says, vanish_all};
use crate::model::{World, limits, pool};
use std::net::SocketAddr;
use tidegate_config::{Listen, PoolConfig, Protocol, WorkerConfig};
use tidegate_proxy::streams::{CloseReason, ListenerId, StreamStatus, Streams};

const FULL: &str = "-ERR max number of clients reached\r\n";
const MEMCACHED_FULL: &str = "ERROR Too many open connections\r\n";

fn limited(clients_max: u32) -> PoolConfig {
    PoolConfig {
        clients_max: Some(clients_max),
        ..pool(Protocol::Redis, 2)
    }
}

/// A pool beside it, without a limit.
fn other(protocol: Protocol) -> PoolConfig {
    PoolConfig {
        name: "other".into(),
        listen: vec![Listen::from(SocketAddr::from(([10, 0, 0, 1], 2)))],
        ..pool(protocol, 1)
    }
}

fn fill(world: &mut World, clients: usize) -> Vec<usize> {
    (0..clients)
        .map(|_| {
            let client = world.connect(commands(&["PING"]));
            world.settle(2_000);
            assert_eq!(text(&world.clients[client].got), "+PONG\r\n");
            world.clients[client].got.clear();
            client
        })
        .collect()
}

/// Clients of the first pool that are counted as open, accepted and refused.
fn counted(world: &World) -> (u64, u64, u64) {
    let counters = world.proxy.pool_counters(0);
    (
        counters.clients,
        counters.client_connections,
        counters.clients_refused,
    )
}

#[test]
fn a_full_pool_says_so_and_serves_those_that_it_has() {
    let mut world = World::new(&[limited(3), other(Protocol::Redis)], &limits(), 5);
    let first = fill(&mut world, 3);
    assert_eq!(play(&mut world, b""), (FULL.to_owned(), true));
    // Whatever it has sent by then is not looked at.
    for requests in [commands(&["SET k v", "PING"]), b"\x80\xff{".repeat(200)] {
        let refused = world.connect(requests);
        world.settle(2_000);
        let state = &world.clients[refused];
        assert_eq!((text(&state.got), state.finished), (FULL.to_owned(), true));
        assert_eq!(state.closed, None);
    }
    assert!(world.servers.iter().all(|server| server.store.is_empty()));
    assert_eq!(counted(&world), (3, 3, 3));
    for &client in &first {
        assert_eq!(goes_on(&mut world, client, &["GET k"]), "$-1\r\n");
    }
    let beside = world.connect_at(ListenerId(1), commands(&["SET k v"]));
    world.settle(2_000);
    assert_eq!(text(&world.clients[beside].got), "+OK\r\n");
    assert_eq!(world.proxy.pool_counters(1).clients_refused, 0);
    // The next one has the place of one that left, however it left.
    world.vanish(first[0]);
    world.settle(2_000);
    assert_eq!(goes_on(&mut world, first[1], &["QUIT"]), "+OK\r\n");
    let last = fill(&mut world, 2);
    assert_eq!(play(&mut world, b""), (FULL.to_owned(), true));
    assert_eq!(counted(&world), (3, 5, 4));
    assert_eq!(
        goes_on(&mut world, last[1], &["CONFIG GET maxclients"]),
        "*2\r\n$10\r\nmaxclients\r\n$1\r\n3\r\n"
    );
    vanish_all(&mut world);
    world.assert_idle("with everybody gone");
    assert_eq!(counted(&world), (0, 5, 4));
}

#[test]
fn memcached_says_it_in_text_before_it_knows_what_the_client_speaks() {
    let pool = PoolConfig {
        clients_max: Some(1),
        ..pool(Protocol::Memcached, 1)
    };
    let mut world = World::new(&[pool], &limits(), 5);
    let first = world.connect(b"version\r\n".to_vec());
    world.settle(2_000);
    let binary_noop: Vec<u8> = [&b"\x80\x0a"[..], &[0; 22]].concat();
    for requests in [Vec::new(), b"get k\r\n".to_vec(), binary_noop] {
        let refused = world.connect(requests);
        world.settle(2_000);
        assert_eq!(text(&world.clients[refused].got), MEMCACHED_FULL);
    }
    assert!(world.clients[first].got.starts_with(b"VERSION"));
    world.vanish(first);
    world.settle(2_000);
    let next = world.connect(b"get k\r\n".to_vec());
    world.settle(2_000);
    assert_eq!(text(&world.clients[next].got), "END\r\n");
}

#[test]
fn clients_that_do_not_go_keep_few_places() {
    let limits = WorkerConfig {
        clients_max: 64,
        ..limits()
    };
    let mut world = World::new(&[limited(1), other(Protocol::Redis)], &limits, 5);
    fill(&mut world, 1);
    let stubborn: Vec<usize> = (0..12)
        .map(|_| {
            let client = world.connect(commands(&["PING"]));
            world.clients[client].stays = true;
            world.settle(500);
            client
        })
        .collect();
    // A sixteenth of the places, those that came last.
    assert_eq!(world.proxy.tables_in_use().turned_away, 4);
    for (number, &client) in stubborn.iter().enumerate() {
        let state = &mut world.clients[client];
        assert_eq!(text(&state.got), FULL, "before anything else");
        let slot = world.streams.slots[state.id.0 as usize].as_ref();
        let is_there = slot.is_some_and(|stream| stream.serial == state.serial);
        assert_eq!(is_there, number >= 8, "{number}");
    }
    // What they send now is dropped, and the end of one is noticed, in whatever order they go.
    for number in [10, 8, 11, 9] {
        let id = world.clients[stubborn[number]].id;
        world.streams.stream(id).received.push(b"once more");
        world.streams.mark_ready(id);
        world.settle(500);
        assert_eq!(world.streams.received(id), 0);
        let before = world.proxy.tables_in_use().turned_away;
        world.streams.stream(id).status = StreamStatus::Closed(CloseReason::TimedOut);
        world.streams.mark_ready(id);
        world.settle(500);
        assert_eq!(world.proxy.tables_in_use().turned_away, before - 1);
    }
    vanish_all(&mut world);
    world.assert_idle("with everybody gone");
    assert_eq!(counted(&world).2, 12);
}

#[test]
fn the_error_is_delivered_to_one_that_has_finished_already() {
    let mut world = World::new(&[limited(1)], &limits(), 5);
    fill(&mut world, 1);
    let id = world.streams.open(Some(ListenerId(0)), None).unwrap();
    let stream = world.streams.stream(id);
    // The stream is over but for what we have queued.
    stream.status = StreamStatus::HalfClosed;
    world.step();
    let stream = world.streams.stream(id);
    assert!(stream.finished && !stream.released && !stream.aborted);
    stream.status = StreamStatus::Closed(CloseReason::Finished);
    world.streams.mark_ready(id);
    world.step();
    let stream = world.streams.stream(id);
    assert!(!stream.released, "somebody still waits for the error");
    assert_eq!(stream.sent.take(100), FULL.as_bytes());
    world.streams.mark_ready(id);
    world.step();
    assert!(world.streams.slots[id.0 as usize].is_none());
    assert_eq!(world.proxy.tables_in_use().turned_away, 0);
}

#[test]
fn a_limit_that_is_lowered_throws_nobody_out() {
    let mut world = World::new(&[pool(Protocol::Redis, 2)], &limits(), 5);
    let mut clients = fill(&mut world, 5);
    world.change(&[limited(2)]);
    assert_eq!(play(&mut world, b""), (FULL.to_owned(), true));
    for left in [4, 3, 2] {
        for &client in &clients {
            assert_eq!(goes_on(&mut world, client, &["GET k"]), "$-1\r\n");
        }
        let client = clients.pop().unwrap();
        world.vanish(client);
        world.settle(2_000);
        assert_eq!(counted(&world).0, left);
        if left >= 2 {
            assert_eq!(play(&mut world, b""), (FULL.to_owned(), true));
        }
    }
    world.vanish(clients[0]);
    world.settle(2_000);
    fill(&mut world, 1);
    assert_eq!(play(&mut world, b""), (FULL.to_owned(), true));
    // Raised, and taken away.
    world.change(&[limited(3)]);
    fill(&mut world, 1);
    assert_eq!(play(&mut world, b""), (FULL.to_owned(), true));
    world.change(&[pool(Protocol::Redis, 2)]);
    assert_eq!(says(&mut world, &["GET k"]), "$-1\r\n");
}

#[test]
fn those_that_were_turned_away_hold_up_no_reload_and_no_drain() {
    let mut world = World::new(&[limited(1), other(Protocol::Redis)], &limits(), 5);
    let first = fill(&mut world, 1);
    let stubborn = world.connect(Vec::new());
    world.clients[stubborn].stays = true;
    world.settle(500);
    world.change(&[other(Protocol::Redis)]);
    world.settle(2_000);
    assert!(world.clients[first[0]].finished, "its pool is gone");
    assert_eq!(world.proxy.tables_in_use().turned_away, 1);
    assert_eq!(world.proxy.left().pools, 0);
    let now_us = world.now_us;
    world.proxy.drain(&mut world.streams, now_us);
    world.settle(500);
    assert!(world.proxy.is_drained());
    world.proxy.cut_off(&mut world.streams);
    let id = world.clients[stubborn].id;
    assert!(world.streams.stream(id).aborted);
}
