//! Everything at once, at random: servers that crash, stall, trickle, babble, refuse and hang up, clients that vanish,
//! half-close, stop reading and come back. Whatever happens, each reply fits the request in whose place it stands, every value was
//! written to the key that was asked for, and in the end no table of the proxy has an entry in use.

use crate::model::fit::{fits, replies, text};
use crate::model::traffic::{Shape, Traffic, generate};
use crate::model::{Rng, World, limits, pool};
use tidegate_config::{Compat, Distribution, Partial, PoolConfig, Protocol, WorkerConfig};
use tidegate_proxy::streams::ServerId;

const SERVERS: usize = 3;
const CLIENTS: usize = 10;

fn config(rng: &mut Rng, protocol: Protocol) -> (PoolConfig, WorkerConfig) {
    let pool = PoolConfig {
        timeout_ms: Some(30),
        server_connections: 1 + rng.below(3) as u32,
        distribution: if rng.one_in(2) {
            Distribution::Ketama
        } else {
            Distribution::Modula
        },
        auto_eject_hosts: rng.one_in(2),
        partial: if rng.one_in(2) {
            Partial::Misses
        } else {
            Partial::Error
        },
        server_retry_timeout_ms: 20,
        server_failure_limit: 1 + rng.below(3) as u32,
        preconnect: rng.one_in(2),
        compat: if rng.one_in(3) {
            Compat::Twemproxy
        } else {
            Compat::None
        },
        ..pool(protocol, SERVERS)
    };
    let tight = rng.one_in(3);
    let limits = WorkerConfig {
        clients_max: 16,
        server_connections_max: 32,
        requests_max: if tight { 24 } else { 4096 },
        split_keys_max: if tight { 32 } else { 4096 },
        reply_hold_bytes: if rng.one_in(3) { 8 << 10 } else { 4 << 20 },
        client_reply_hold_bytes: if rng.one_in(3) { 4 << 10 } else { 1 << 20 },
        client_stall_ms: 100,
        ..limits()
    };
    (pool, limits)
}

fn disturb_servers(world: &mut World) {
    let server = world.rng.below(SERVERS);
    match world.rng.below(9) {
        0 => world.crash(server),
        1 => world.servers[server].stopped ^= true,
        2 => world.servers[server].accepts ^= true,
        3 => world.servers[server].trickles ^= true,
        4 => world.hang_up(server),
        5 => {
            let babbles = if world.rng.one_in(2) { 0 } else { 9 };
            world.servers[server].babbles_one_in = babbles;
        }
        6 => {
            let id = ServerId(server as u16);
            if world.streams.refuse.contains(&id) {
                world.streams.refuse.retain(|&s| s != id);
            } else {
                world.streams.refuse.push(id);
            }
        }
        _ => {}
    }
}

/// Who talks: the model's client, and what it asked.
type Talks = Vec<(usize, Traffic)>;

fn disturb_clients(world: &mut World, protocol: Protocol, shape: &Shape, talks: &mut Talks) {
    let (client, _) = talks[world.rng.below(talks.len())];
    match world.rng.below(6) {
        0 => {
            world.vanish(client);
            // The next one gets the slot once it is free.
            world.step();
            join(world, protocol, shape, talks);
        }
        1 | 3 => world.clients[client].deaf ^= true,
        2 => world.clients[client].half_close_when_sent = true,
        _ => {}
    }
}

fn join(world: &mut World, protocol: Protocol, shape: &Shape, talks: &mut Talks) {
    if world.streams.slots.iter().filter(|s| s.is_none()).count() < 20 {
        return;
    }
    let traffic = generate(&mut world.rng, protocol, talks.len(), shape);
    let client = world.connect(traffic.requests.clone());
    talks.push((client, traffic));
}

/// `may_end`: a connection may be closed in order before everything was answered.
fn check(what: &str, world: &World, protocol: Protocol, talks: &Talks, may_end: bool) {
    for (client, traffic) in talks {
        let client = &world.clients[*client];
        let (replies, cut) = replies(protocol, &client.got);
        for (n, reply) in replies.iter().enumerate() {
            assert!(
                n < traffic.asked.len() && fits(protocol, reply, &traffic.asked[n]),
                "{what}: client {:?} reply {n}: {:?}",
                client.id,
                text(reply)
            );
        }
        if client.closed.is_none() {
            assert!(!cut, "{what}: a reply is cut off in order");
            assert!(
                replies.len() == traffic.replies || may_end && client.finished,
                "{what}: client {:?} gets one reply for each request",
                client.id
            );
        }
    }
}

fn chaos(seed: u64, protocol: Protocol, shape: &Shape) {
    let what = format!("seed {seed} {protocol:?} {} B", shape.large_bytes);
    let mut rng = Rng::new(seed ^ 0x5eed);
    let (pool, limits) = config(&mut rng, protocol);
    let may_end = pool.compat == Compat::Twemproxy;
    let mut world = World::new(&[pool], &limits, seed);
    let mut talks = Talks::new();
    for _ in 0..CLIENTS {
        join(&mut world, protocol, shape, &mut talks);
    }
    for _ in 0..60 {
        disturb_servers(&mut world);
        disturb_clients(&mut world, protocol, shape, &mut talks);
        let us = world.rng.below(12_000) as u64;
        world.pass(us);
    }
    for server in &mut world.servers {
        server.stopped = false;
        server.accepts = true;
        server.trickles = false;
        server.babbles_one_in = 0;
    }
    world.streams.refuse.clear();
    for client in &mut world.clients {
        client.deaf = false;
    }
    world.pass(100_000);
    world.settle(1_000_000);
    check(&what, &world, protocol, &talks, may_end);
    world.assert_idle(&what);
    for (client, _) in &talks {
        world.vanish(*client);
    }
    world.settle(1_000);
    assert_eq!(world.proxy.clients_open(), 0, "{what}");
    world.assert_idle(&what);
}

#[test]
fn small_requests_get_fitting_replies_whatever_their_servers_and_neighbours_do() {
    let shape = Shape {
        requests: 150,
        value_bytes: 60,
        large_one_in: 0,
        large_bytes: 0,
        many_keys_one_in: 0,
        whole_one_in: 9,
    };
    for seed in 1..50 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            chaos(seed, protocol, &shape);
        }
    }
}

#[test]
fn large_requests_get_fitting_replies_whatever_their_servers_and_neighbours_do() {
    let shape = Shape {
        requests: 60,
        value_bytes: 300,
        large_one_in: 5,
        large_bytes: 12_000,
        many_keys_one_in: 3,
        whole_one_in: 9,
    };
    for seed in 1..50 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            chaos(seed, protocol, &shape);
        }
    }
}
