//! Own connections at random: servers that crash, stall, trickle, babble, refuse and hang up, clients that vanish, half-close and stop
//! reading, while others transact, wait and subscribe. Whatever happens, each reply fits the request in whose place it stands, no
//! item is given out twice, messages keep their order and reach only who asked for them, and in the end nothing is left on a server.

use crate::model::traffic::resp;
use crate::model::{Rng, World, limits, pool};
use std::collections::HashSet;
use tidegate_config::{Distribution, PoolConfig, Protocol, WorkerConfig};
use tidegate_protocol::{ReplyScanner, ReplyShape};
use tidegate_proxy::streams::ServerId;

const SERVERS: usize = 3;
const CLIENTS: usize = 16;

/// What the reply to a request has to look like, an error aside.
enum Asked {
    /// A line.
    Line(&'static str),
    /// What was queued: statuses and values of this key.
    Executed { key: String },
    /// An item of this list.
    Item { list: String },
    /// Any number.
    Number,
}

enum Talk {
    Requests(Vec<Asked>),
    /// Listens to this channel.
    Channel(String),
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

fn values(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let scan = ReplyScanner::new(ReplyShape::Resp)
            .scan(bytes)
            .unwrap_or_else(|e| panic!("{e:?} at {:?}", text(bytes)));
        if !scan.done {
            break;
        }
        let (value, rest) = bytes.split_at(scan.bytes);
        found.push(value);
        bytes = rest;
    }
    found
}

fn request(line: &str) -> Vec<u8> {
    resp(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
}

fn transactions(rng: &mut Rng, serial: usize, requests: &mut Vec<u8>, asked: &mut Vec<Asked>) {
    for n in 0..12 {
        let key = format!("k{serial}:{}", rng.below(4));
        let mut ask = |line: &str, what: Asked| {
            requests.extend(request(line));
            asked.push(what);
        };
        if rng.one_in(3) {
            ask(&format!("WATCH {key}"), Asked::Line("+OK"));
        }
        ask("MULTI", Asked::Line("+OK"));
        for _ in 0..rng.below(4) {
            match rng.below(7) {
                0 => ask("PING", Asked::Line("+QUEUED")),
                1 => ask("BOGUS", Asked::Line("-ERR unknown")),
                2 => ask("MGET a b c d e f", Asked::Line("+QUEUED")),
                3 => {
                    let large = rng.one_in(3);
                    let body = "v".repeat(if large { 9_000 } else { 9 });
                    ask(
                        &format!("SET {key} [{key}]{n}{body}"),
                        Asked::Line("+QUEUED"),
                    );
                }
                _ => ask(&format!("GET {key}"), Asked::Line("+QUEUED")),
            }
        }
        if rng.one_in(6) {
            ask("DISCARD", Asked::Line("+OK"));
        } else {
            ask("EXEC", Asked::Executed { key });
        }
        if rng.one_in(3) {
            ask("LPUSH list:x y", Asked::Number);
        }
    }
}

fn join(world: &mut World, talks: &mut Vec<(usize, Talk)>) {
    if world.streams.slots.iter().filter(|s| s.is_none()).count() < 30 {
        return;
    }
    let serial = talks.len();
    let mut requests = Vec::new();
    let mut asked = Vec::new();
    let rng = &mut world.rng;
    let list = format!("list:{}", rng.below(4));
    let channel = format!("channel:{}", rng.below(3));
    let talk = match rng.below(5) {
        0 | 1 => {
            transactions(rng, serial, &mut requests, &mut asked);
            Talk::Requests(asked)
        }
        2 => {
            for _ in 0..6 {
                requests.extend(request(&format!("BLPOP {list} 0")));
                asked.push(Asked::Item { list: list.clone() });
            }
            Talk::Requests(asked)
        }
        3 => {
            requests.extend(request(&format!("SUBSCRIBE {channel}")));
            if rng.one_in(2) {
                requests.extend(request("PING"));
                requests.extend(request(&format!("UNSUBSCRIBE {channel}")));
                requests.extend(request(&format!("SUBSCRIBE {channel}")));
            }
            if rng.one_in(4) {
                requests.extend(request("QUIT"));
            }
            Talk::Channel(channel)
        }
        _ => {
            for n in 0..40 {
                let body = "m".repeat(if rng.one_in(8) { 4_000 } else { 4 });
                requests.extend(request(&format!(
                    "PUBLISH {channel} {serial:04}.{n:04}{body}"
                )));
                requests.extend(request(&format!("LPUSH {list} {list}={serial}.{n}")));
                asked.extend([Asked::Number, Asked::Number]);
            }
            Talk::Requests(asked)
        }
    };
    let client = world.connect(requests);
    talks.push((client, talk));
}

fn disturb(world: &mut World, talks: &mut Vec<(usize, Talk)>) {
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
    let client = talks[world.rng.below(talks.len())].0;
    match world.rng.below(6) {
        0 => {
            world.vanish(client);
            world.step();
            join(world, talks);
        }
        1 | 3 => world.clients[client].deaf ^= true,
        2 => world.clients[client].half_close_when_sent = true,
        _ => join(world, talks),
    }
}

fn fits(value: &[u8], asked: &Asked, items: &mut HashSet<Vec<u8>>) -> bool {
    if value.starts_with(b"-") {
        return true;
    }
    match asked {
        Asked::Line(line) => value == [line.as_bytes(), b"\r\n"].concat(),
        Asked::Number => value.starts_with(b":"),
        Asked::Executed { key } => {
            let mark = format!("[{key}]");
            // Every value in it is the key's.
            let others = text(value).replace(&mark, "");
            value.starts_with(b"*") && !others.contains("[k")
        }
        Asked::Item { list } => {
            let start = format!("*2\r\n${}\r\n{list}\r\n$", list.len());
            value.starts_with(start.as_bytes()) && items.insert(value.to_vec())
        }
    }
}

fn check_listener(what: &str, got: &[u8], channel: &str) {
    let mut last = std::collections::HashMap::new();
    for value in values(got) {
        let words: Vec<&[u8]> = value.split(|&b| b == b'\n').collect();
        if !value.starts_with(b"*3\r\n$7\r\nmessage") {
            let other = [
                &b"-"[..],
                b"+",
                b"*2\r\n$4\r\npong",
                b"*3\r\n$9\r\nsubscribe",
                b"*3\r\n$11\r\nunsubscribe",
                b"$0\r\n",
            ];
            assert!(
                other.iter().any(|o| value.starts_with(o)),
                "{what}: {}",
                text(value)
            );
            continue;
        }
        assert_eq!(text(words[4]).trim_end(), channel, "{what}");
        let message = text(words[6]);
        let (from, n) = (message[..4].to_owned(), message[5..9].to_owned());
        let before = last.insert(from, n.clone());
        assert!(before.is_none_or(|before| before < n), "{what}: {message}");
    }
}

fn config(rng: &mut Rng) -> (PoolConfig, WorkerConfig) {
    let pool = PoolConfig {
        timeout_ms: Some(30),
        own_connections_max: if rng.one_in(3) { 3 } else { 128 },
        distribution: if rng.one_in(2) {
            Distribution::Ketama
        } else {
            Distribution::Modula
        },
        auto_eject_hosts: rng.one_in(2),
        server_retry_timeout_ms: 20,
        ..pool(Protocol::Redis, SERVERS)
    };
    let limits = WorkerConfig {
        clients_max: 32,
        server_connections_max: if rng.one_in(3) { 8 } else { 64 },
        requests_max: if rng.one_in(3) { 24 } else { 4096 },
        reply_hold_bytes: if rng.one_in(3) { 8 << 10 } else { 4 << 20 },
        client_reply_hold_bytes: if rng.one_in(3) { 4 << 10 } else { 1 << 20 },
        client_stall_ms: 100,
        ..limits()
    };
    (pool, limits)
}

fn chaos(seed: u64) {
    let what = format!("seed {seed}");
    let mut rng = Rng::new(seed ^ 0x5eed);
    let (pool, limits) = config(&mut rng);
    let mut world = World::new(&[pool], &limits, seed);
    let mut talks = Vec::new();
    for _ in 0..CLIENTS {
        join(&mut world, &mut talks);
    }
    for _ in 0..60 {
        disturb(&mut world, &mut talks);
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
    world.settle(100_000);
    let mut items = HashSet::new();
    for (client, talk) in &talks {
        let state = &world.clients[*client];
        let what = format!("{what}: client {:?}", state.id);
        match talk {
            Talk::Channel(channel) => check_listener(&what, &state.got, channel),
            Talk::Requests(asked) => {
                for (n, value) in values(&state.got).into_iter().enumerate() {
                    let fit = n < asked.len() && fits(value, &asked[n], &mut items);
                    assert!(fit, "{what}: reply {n}: {:?}", text(value));
                }
            }
        }
    }
    for (client, _) in &talks {
        world.vanish(*client);
    }
    world.pass(100_000);
    world.settle(1_000);
    assert_eq!(world.proxy.clients_open(), 0, "{what}");
    world.assert_idle(&what);
    assert_eq!(world.proxy.pool_counters(0).pins, 0, "{what}");
    assert_eq!(world.proxy.owed(), 0, "{what}");
    let states = world.servers.iter().flat_map(|s| s.states.values());
    assert!(
        states
            .into_iter()
            .all(crate::model::states::State::is_clean),
        "{what}"
    );
}

#[test]
fn own_connections_hold_whatever_their_servers_and_neighbours_do() {
    for seed in 1..100 {
        chaos(seed);
    }
}
