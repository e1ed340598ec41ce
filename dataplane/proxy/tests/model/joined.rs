//! Dialogues with pools of which all servers answer.

use super::dialogue::{commands, play};
use super::{World, limits, pool};
use std::collections::{BTreeMap, BTreeSet};
use tidegate_config::{Partial, PoolConfig, Protocol};
use tidegate_proxy::streams::ServerId;

pub fn world(servers: usize) -> World {
    World::new(&[pool(Protocol::Redis, servers)], &limits(), 5)
}

pub fn with_partial(protocol: Protocol, servers: usize, partial: Partial) -> World {
    let pool = PoolConfig {
        partial,
        ..pool(protocol, servers)
    };
    World::new(&[pool], &limits(), 5)
}

/// What a new client gets for some commands.
pub fn ask(world: &mut World, lines: &[&str]) -> String {
    let client = world.clients.len();
    let (got, _) = play(world, &commands(lines));
    world.vanish(client);
    world.settle(10);
    got
}

pub fn fill(world: &mut World, keys: usize) -> BTreeSet<String> {
    let servers = world.servers.len();
    let keys: BTreeSet<String> = (0..keys).map(|n| format!("k{n:04}")).collect();
    for (n, key) in keys.iter().enumerate() {
        let server = (n * n) % servers;
        world.servers[server]
            .store
            .insert(key.clone().into_bytes(), b"v".to_vec());
    }
    keys
}

/// The words of an array of bulks.
pub fn words(reply: &str) -> Vec<String> {
    reply
        .split("\r\n")
        .filter(|line| line.starts_with('k'))
        .map(str::to_owned)
        .collect()
}

pub fn refuse(world: &mut World, server: usize) {
    world.streams.refuse.push(ServerId(server as u16));
    world.crash(server);
}

/// How often SCAN tells each key.
pub fn scan_all(world: &mut World, options: &str) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    let mut cursor = "0".to_owned();
    for _ in 0..1_000 {
        let got = ask(world, &[format!("SCAN {cursor}{options}").as_str()]);
        let mut lines = got.split("\r\n");
        assert_eq!(lines.next(), Some("*2"), "{got}");
        cursor = lines.nth(1).unwrap().into();
        for key in words(&got) {
            *seen.entry(key).or_insert(0) += 1;
        }
        if cursor == "0" {
            return seen;
        }
    }
    panic!("SCAN comes to an end");
}
