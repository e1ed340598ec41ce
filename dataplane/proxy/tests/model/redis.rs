//! Clients of Redis, line by line: what they say, what they get, and what is left of them.

use super::dialogue::{commands, play, text};
use super::states::State;
use super::traffic::resp;
use super::{World, limits, pool};
use tidegate_config::Protocol;

pub const HELLO_2: &str =
    "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:2\r\n";

pub const HELLO_3: &str =
    "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n";

/// A pool with so many servers.
pub fn redis(servers: usize) -> World {
    World::new(&[pool(Protocol::Redis, servers)], &limits(), 5)
}

/// What a new client gets for these lines, each a command; its connection stays.
pub fn says(world: &mut World, lines: &[&str]) -> String {
    let (got, closed) = play(world, &commands(lines));
    assert!(!closed, "{lines:?}");
    got
}

/// What a client got since it was taken last.
pub fn take(world: &mut World, client: usize) -> String {
    text(&std::mem::take(&mut world.clients[client].got))
}

/// Sends more commands on an open connection, and takes what comes back.
pub fn goes_on(world: &mut World, client: usize, lines: &[&str]) -> String {
    world.clients[client].to_send.extend(commands(lines));
    world.settle(20_000);
    take(world, client)
}

/// Ends the connections of all clients.
pub fn vanish_all(world: &mut World) {
    for client in 0..world.clients.len() {
        world.vanish(client);
    }
    world.settle(1_000);
}

/// No server is left with anything of a client, and the proxy with nothing at all.
pub fn assert_all_clean(world: &World) {
    let states = world.servers.iter().flat_map(|s| s.states.values());
    assert!(states.into_iter().all(State::is_clean));
    world.assert_idle("everything was given back");
    assert_eq!(world.proxy.pool_counters(0).pins, 0);
}

/// A client that has said this and stays.
pub fn subscriber(world: &mut World, lines: &[&str]) -> usize {
    let client = world.connect(commands(lines));
    world.settle(20_000);
    client
}

/// What a subscriber gets of a message.
pub fn message(channel: &str, message: &str) -> String {
    text(&resp(&[b"message", channel.as_bytes(), message.as_bytes()]))
}

/// The confirmation of a subscription.
pub fn confirmed(kind: &str, channel: &str, count: usize) -> String {
    let (k, c) = (kind.len(), channel.len());
    format!("*3\r\n${k}\r\n{kind}\r\n${c}\r\n{channel}\r\n:{count}\r\n")
}

/// The same in RESP3.
pub fn pushed(resp2: &str) -> String {
    resp2.replacen('*', ">", 1)
}
