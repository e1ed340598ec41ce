//! Servers and pools that come, go and change under random traffic: no reply is lost, none is another's, and nobody gets an error for
//! it. The same again while servers and clients misbehave as well.

use crate::model::fit::{fits, is_error, replies, text};
use crate::model::traffic::{Shape, Traffic, generate};
use crate::model::{Rng, World, limits, pool};
use std::net::SocketAddr;
use tidegate_config::{
    Distribution, Endpoint, Listen, Partial, PoolConfig, Protocol, ServerConfig, WorkerConfig,
};
use tidegate_proxy::streams::{ListenerId, ServerId};

const CLIENTS: usize = 10;

fn server(n: usize) -> ServerConfig {
    ServerConfig {
        address: Endpoint::Ip(format!("10.0.1.{n}:1").parse().unwrap()),
        name: format!("server-{n}"),
        weight: 1,
    }
}

/// The pool of the clients at hand.
fn main_pool(rng: &mut Rng, protocol: Protocol) -> PoolConfig {
    PoolConfig {
        timeout_ms: Some(2_000),
        server_connections: 1 + rng.below(3) as u32,
        distribution: Distribution::Ketama,
        partial: Partial::Misses,
        preconnect: rng.one_in(2),
        ..pool(protocol, 3)
    }
}

/// Another pool, which has a listener of its own and comes and goes as a whole.
fn other_pool(protocol: Protocol) -> PoolConfig {
    PoolConfig {
        name: "other".into(),
        listen: vec![Listen::from(SocketAddr::from(([10, 0, 0, 1], 2)))],
        servers: vec![server(50), server(51)],
        ..pool(protocol, 2)
    }
}

/// Just enough server connections, if nobody uploads.
fn tight_limits(shape: &Shape) -> WorkerConfig {
    WorkerConfig {
        clients_max: 32,
        server_connections_max: if shape.large_one_in == 0 { 24 } else { 96 },
        // A client of a pool that left gets all it asked for, however long that takes.
        drain_timeout_ms: 60_000,
        reply_hold_bytes: 64 << 20,
        client_reply_hold_bytes: 16 << 20,
        ..limits()
    }
}

/// What an operator may change, at random.
fn next(rng: &mut Rng, pools: &[PoolConfig]) -> Vec<PoolConfig> {
    let mut pools = pools.to_vec();
    for _ in 0..=rng.below(2) {
        let place = pools.iter().position(|pool| pool.name == "pool").unwrap();
        let pool = &mut pools[place];
        let protocol = pool.protocol;
        match rng.below(12) {
            0..=2 => {
                let n = rng.below(6);
                let known = pool.servers.iter().any(|s| s.name == format!("server-{n}"));
                if !known {
                    let place = rng.below(pool.servers.len() + 1);
                    pool.servers.insert(place, server(n));
                }
            }
            3..=5 if pool.servers.len() > 1 => {
                let gone = rng.below(pool.servers.len());
                pool.servers.remove(gone);
            }
            6 => {
                let one = rng.below(pool.servers.len());
                pool.servers[one].weight = 1 + rng.below(5) as u32;
            }
            7 => pool.servers.reverse(),
            8 => pool.server_connections = 1 + rng.below(3) as u32,
            9 => pool.auto_eject_hosts ^= true,
            10 => {
                let timeouts = [None, Some(1_000), Some(3_000)];
                pool.timeout_ms = timeouts[rng.below(timeouts.len())];
            }
            _ => {
                if let Some(place) = pools.iter().position(|pool| pool.name == "other") {
                    drop(pools.remove(place));
                } else {
                    let place = rng.below(2);
                    pools.insert(place, other_pool(protocol));
                }
            }
        }
    }
    pools
}

/// Where a pool listens.
fn listener(world: &World, name: &str) -> Option<ListenerId> {
    let place = world.pools.iter().position(|pool| pool.name == name)?;
    Some(ListenerId(place as u16))
}

fn random_limits(rng: &mut Rng, shape: &Shape) -> WorkerConfig {
    WorkerConfig {
        requests_max: [64, 256, 4096][rng.below(3)],
        client_requests_max: [8, 64][rng.below(2)],
        split_keys_max: [600, 4096][rng.below(2)],
        ..tight_limits(shape)
    }
}

struct Talk {
    client: usize,
    traffic: Traffic,
    of_other: bool,
}

fn join(world: &mut World, protocol: Protocol, shape: &Shape, talks: &mut Vec<Talk>, name: &str) {
    let free = world.streams.slots.iter().filter(|s| s.is_none()).count();
    let Some(at) = listener(world, name).filter(|_| free > 24) else {
        return;
    };
    let traffic = generate(&mut world.rng, protocol, talks.len(), shape);
    let client = world.connect_at(at, traffic.requests.clone());
    // The network below sees to those that are not accepted when their listener goes.
    world.step();
    talks.push(Talk {
        client,
        traffic,
        of_other: name == "other",
    });
}

fn check(what: &str, world: &World, protocol: Protocol, talks: &[Talk], calm: bool) {
    for talk in talks {
        let client = &world.clients[talk.client];
        let (replies, cut) = replies(protocol, &client.got);
        let asked = &talk.traffic.asked;
        for (n, reply) in replies.iter().enumerate() {
            assert!(
                n < asked.len() && fits(protocol, reply, &asked[n]),
                "{what}: client {:?} reply {n}: {:?}",
                client.id,
                text(reply)
            );
            assert!(
                !(calm && is_error(reply)),
                "{what}: client {:?} reply {n} is an error: {:?}",
                client.id,
                text(reply)
            );
        }
        if calm {
            assert_eq!(client.closed, None, "{what}: client {:?}", client.id);
        }
        if client.closed.is_none() {
            assert!(!cut, "{what}: a reply is cut off in order");
            assert!(
                replies.len() == talk.traffic.replies || talk.of_other && client.finished,
                "{what}: client {:?} gets one reply for each request: {} of {}",
                client.id,
                replies.len(),
                talk.traffic.replies
            );
        }
    }
}

fn disturb(world: &mut World, talks: &[Talk]) {
    let server = world.rng.below(world.servers.len());
    match world.rng.below(8) {
        0 => world.crash(server),
        1 => world.servers[server].stopped ^= true,
        2 => world.servers[server].trickles ^= true,
        3 => world.hang_up(server),
        4 => {
            let id = ServerId(server as u16);
            if world.streams.refuse.contains(&id) {
                world.streams.refuse.retain(|&s| s != id);
            } else {
                world.streams.refuse.push(id);
            }
        }
        5 => {
            let talk = &talks[world.rng.below(talks.len())];
            world.vanish(talk.client);
        }
        _ => {
            let talk = &talks[world.rng.below(talks.len())];
            world.clients[talk.client].deaf ^= true;
        }
    }
}

fn run(seed: u64, protocol: Protocol, shape: &Shape, calm: bool) {
    let what = format!("seed {seed} {protocol:?} calm {calm}");
    let mut rng = Rng::new(seed ^ 0xca1a);
    let mut pools = vec![main_pool(&mut rng, protocol)];
    if rng.one_in(2) {
        pools.insert(rng.below(2), other_pool(protocol));
    }
    let mut world = World::new(&pools, &tight_limits(shape), seed);
    let mut talks = Vec::new();
    for _ in 0..CLIENTS {
        join(&mut world, protocol, shape, &mut talks, "pool");
    }
    for _ in 0..40 {
        if rng.one_in(3) {
            join(&mut world, protocol, shape, &mut talks, "pool");
            join(&mut world, protocol, shape, &mut talks, "other");
        }
        if !calm {
            disturb(&mut world, &talks);
        }
        let pools = next(&mut rng, &world.pools);
        let limits = random_limits(&mut rng, shape);
        world.change_all(&pools, &limits);
        let us = world.rng.below(6_000) as u64;
        world.pass(us);
    }
    for server in &mut world.servers {
        server.stopped = false;
        server.trickles = false;
    }
    world.streams.refuse.clear();
    for client in &mut world.clients {
        client.deaf = false;
    }
    // As long as a client may wait for the connections of servers that left.
    world.pass(1_200_000);
    world.settle(1_000_000);
    check(&what, &world, protocol, &talks, calm);
    world.assert_idle(&what);
    for talk in &talks {
        world.vanish(talk.client);
    }
    world.settle(1_000);
    world.pass(1_000_000);
    assert_eq!(world.proxy.clients_open(), 0, "{what}");
    world.assert_idle(&what);
    let left = world.proxy.left();
    assert_eq!((left.servers, left.pools), (0, 0), "{what}");
    let main = world.pools.iter().position(|pool| pool.name == "pool");
    let counters = world.proxy.pool_counters(main.unwrap());
    assert_eq!(counters.clients, 0, "{what}");
    if calm {
        assert_eq!(counters.forward_errors, 0, "{what}");
        assert_eq!(counters.timeouts, 0, "{what}");
    }
    let in_flight = 0..world.pools.iter().map(|pool| pool.servers.len()).sum();
    for server in in_flight {
        assert_eq!(world.proxy.server_counters(server).in_flight, 0, "{what}");
    }
}

const SMALL: Shape = Shape {
    requests: 120,
    value_bytes: 60,
    large_one_in: 0,
    large_bytes: 0,
    many_keys_one_in: 0,
    whole_one_in: 9,
};

const LARGE: Shape = Shape {
    requests: 50,
    value_bytes: 300,
    large_one_in: 5,
    large_bytes: 12_000,
    many_keys_one_in: 3,
    whole_one_in: 9,
};

#[test]
fn changes_cost_no_small_request_a_reply_or_an_error() {
    for seed in 1..30 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            run(seed, protocol, &SMALL, true);
        }
    }
}

#[test]
fn changes_cost_no_large_request_a_reply_or_an_error() {
    for seed in 1..30 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            run(seed, protocol, &LARGE, true);
        }
    }
}

#[test]
fn changes_while_servers_and_clients_fail_mix_nothing_up() {
    for seed in 1..30 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            for shape in [&SMALL, &LARGE] {
                run(seed, protocol, shape, false);
            }
        }
    }
}
