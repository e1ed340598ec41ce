//! Requests over many keys, and what the servers have of them.

use super::traffic::resp;
use super::{World, pool};
use std::collections::HashMap;
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};

pub type Store = HashMap<Vec<u8>, Vec<u8>>;

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

pub fn command(name: &[u8], args: &[Vec<u8>]) -> Vec<u8> {
    let mut all: Vec<&[u8]> = vec![name];
    all.extend(args.iter().map(Vec::as_slice));
    resp(&all)
}

pub fn key(n: usize) -> Vec<u8> {
    format!("key:{n}").into_bytes()
}

/// `count` pairs with values of `bytes` bytes.
pub fn pairs(count: usize, bytes: usize) -> Vec<Vec<u8>> {
    (0..count)
        .flat_map(|n| [key(n), vec![b'a' + (n % 26) as u8; bytes]])
        .collect()
}

pub fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(key).collect()
}

pub fn world(servers: usize, limits: &WorkerConfig) -> World {
    let patient = PoolConfig {
        timeout_ms: None,
        ..pool(Protocol::Redis, servers)
    };
    World::new(&[patient], limits, 5)
}

/// What all servers have.
pub fn stored(world: &World) -> Store {
    let stores = world.servers.iter().map(|server| server.store.clone());
    stores.flatten().collect()
}
