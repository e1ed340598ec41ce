//! A deterministic simulator: whole workers between clients and servers, in one thread and under one clock that a seed moves.
//!
//! The workers are the product's: its poll loop with control commands, TCP, proxy and hand-over rings, on queues of a card in
//! memory ([`port`], [`appliance`]). Clients and servers speak smoltcp's TCP as it is ([`host`]) over links that lose, double, delay and
//! damage frames ([`link`]). Servers are models of Redis and memcached ([`server`]).
//!
//! A [`scenario`] is made of a seed: who there is, who asks when, and what befalls everybody. [`world`] plays it. Every key of every
//! request has a token ([`value`]), and the [`books`] know who asked with it, which servers got it, and what came back. After the storm
//! everything has to settle, every counter has to add up, and who comes then has to be served.
//!
//! A seed always gives the same [`trace`], byte for byte. [`shrink`] makes a short scenario of one that breaks a promise.
#![forbid(unsafe_code)]

pub mod agenda;
pub mod appliance;
pub mod books;
pub mod client;
pub mod host;
pub mod link;
pub mod parts;
pub mod port;
pub mod random;
pub mod reply;
pub mod request;
pub mod runner;
pub mod scenario;
pub mod server;
pub mod shrink;
pub mod trace;
pub mod value;
pub mod world;

use scenario::Scenario;
use std::net::Ipv4Addr;

/// The appliance's Ethernet address.
pub const APPLIANCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Largest IP packet, everywhere.
pub const MTU_BYTES: usize = 1_500;

/// Where a pool listens: the first is of Redis, the second of memcached.
pub fn listen(pool: usize) -> (Ipv4Addr, u16) {
    let port = if pool == 0 { 6_379 } else { 11_211 };
    (Ipv4Addr::new(10, 0, 0, 1), port)
}

/// Where a client is.
pub fn client_address(client: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, 1 + client as u8)
}

/// Where a server is; those of the first pool come first.
pub fn server_address(scenario: &Scenario, server: usize) -> (Ipv4Addr, u16) {
    let address = Ipv4Addr::new(10, 2, 0, 1 + server as u8);
    (address, listen(server / scenario.servers).1)
}
