//! Servers that die, stall, babble or are not there: errors instead of silence, and never another client's reply.

mod model;

use model::traffic::{Shape, generate, resp};
use model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret, WorkerConfig};
use tidegate_protocol::{ReplyScanner, ReplyShape};
use tidegate_proxy::streams::ServerId;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Measures the replies of a client; the last may be cut off when `cut` says so.
fn count_replies(protocol: Protocol, mut bytes: &[u8], cut: bool) -> usize {
    let mut replies = 0;
    while !bytes.is_empty() {
        let shape = match protocol {
            Protocol::Redis => ReplyShape::Resp,
            Protocol::Memcached if bytes.starts_with(b"VALUE") || bytes.starts_with(b"END") => {
                ReplyShape::Values
            }
            Protocol::Memcached => ReplyShape::Line,
        };
        let scan = ReplyScanner::new(shape)
            .scan(bytes)
            .unwrap_or_else(|e| panic!("{e:?} at {:?}", text(bytes)));
        if !scan.done {
            assert!(cut, "a reply is cut off: {:?}", text(bytes));
            return replies;
        }
        replies += 1;
        bytes = &bytes[scan.bytes..];
    }
    replies
}

/// Every value carries the client that wrote it; every key its client as well.
fn assert_own(seed: u64, client: usize, got: &[u8]) {
    let got = text(got);
    for mark in ["[c", "VALUE c"] {
        for (at, _) in got.match_indices(mark) {
            let rest = &got[at + mark.len()..];
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            assert_eq!(
                digits,
                client.to_string(),
                "seed {seed}: client {client} got {:?}",
                &rest[..rest.len().min(60)]
            );
        }
    }
}

fn chaos(seed: u64, protocol: Protocol, shape: &Shape) {
    let mut world = World::new(
        &[PoolConfig {
            timeout_ms: Some(30),
            ..pool(protocol, 3)
        }],
        &limits(),
        seed,
    );
    let traffic: Vec<_> = (0..8)
        .map(|c| generate(&mut world.rng, protocol, c, shape))
        .collect();
    for one in &traffic {
        world.connect(one.requests.clone());
    }
    for _ in 0..60 {
        let server = world.rng.below(3);
        match world.rng.below(5) {
            0 => world.crash(server),
            1 => world.servers[server].stopped ^= true,
            2 => world.servers[server].accepts ^= true,
            3 => {
                let id = ServerId(server as u16);
                if world.streams.refuse.contains(&id) {
                    world.streams.refuse.retain(|&s| s != id);
                } else {
                    world.streams.refuse.push(id);
                }
            }
            _ => {}
        }
        let us = world.rng.below(20_000) as u64;
        world.pass(us);
    }
    for server in &mut world.servers {
        server.stopped = false;
        server.accepts = true;
    }
    world.streams.refuse.clear();
    world.pass(200_000);
    world.settle(1_000_000);
    for (c, one) in traffic.iter().enumerate() {
        let client = &world.clients[c];
        assert_own(seed, c, &client.got);
        let replies = count_replies(protocol, &client.got, client.closed.is_some());
        if client.closed.is_none() {
            assert_eq!(
                replies, one.replies,
                "seed {seed}: client {c} gets one reply for each request"
            );
        } else {
            assert!(
                replies <= one.replies,
                "seed {seed}: client {c} got more replies than it sent requests"
            );
        }
    }
    assert_eq!(
        world.proxy.owed(),
        0,
        "seed {seed}: nothing is left in flight"
    );
}

#[test]
fn failing_servers_cost_errors_but_no_reply_goes_astray() {
    let small = Shape {
        requests: 150,
        value_bytes: 60,
        large_one_in: 0,
        large_bytes: 0,
    };
    let large = Shape {
        requests: 60,
        value_bytes: 60,
        large_one_in: 5,
        large_bytes: 12_000,
    };
    for seed in 1..60 {
        for protocol in [Protocol::Memcached, Protocol::Redis] {
            chaos(seed, protocol, &small);
            chaos(seed, protocol, &large);
        }
    }
}

#[test]
fn a_late_reply_is_swallowed_and_the_next_one_is_right() {
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits(), 5);
    world.servers[0]
        .store
        .insert(b"a".to_vec(), b"first".to_vec());
    world.servers[0]
        .store
        .insert(b"b".to_vec(), b"second".to_vec());
    let warm = world.connect(resp(&[b"GET", b"a"]));
    world.settle(1_000);
    assert_eq!(text(&world.clients[warm].got), "$5\r\nfirst\r\n");
    world.servers[0].stopped = true;
    let client = world.connect(resp(&[b"GET", b"a"]));
    world.pass(500_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR Connection timed out\r\n"
    );
    world.servers[0].stopped = false;
    world.clients[client].to_send = resp(&[b"GET", b"b"]);
    world.settle(1_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR Connection timed out\r\n$6\r\nsecond\r\n"
    );
    assert_eq!(world.proxy.pool_counters(0).late_replies, 1);
    assert_eq!(world.streams.connects, 1, "one connection served all of it");
}

#[test]
fn a_connection_silent_for_two_timeouts_is_replaced() {
    let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits(), 5);
    world.servers[0].stopped = true;
    let client = world.connect(b"get a\r\n".to_vec());
    world.pass(900_000);
    assert_eq!(
        text(&world.clients[client].got),
        "SERVER_ERROR Connection timed out\r\n"
    );
    world.servers[0].stopped = false;
    world.clients[client].to_send = b"get a\r\n".to_vec();
    world.settle(1_000);
    assert_eq!(
        text(&world.clients[client].got),
        "SERVER_ERROR Connection timed out\r\nEND\r\n"
    );
    assert_eq!(world.streams.connects, 2);
}

#[test]
fn a_refusing_server_is_named_and_an_unreachable_one_too() {
    for protocol in [Protocol::Memcached, Protocol::Redis] {
        let (request, mark) = match protocol {
            Protocol::Memcached => (b"get a\r\n".to_vec(), "SERVER_ERROR"),
            Protocol::Redis => (resp(&[b"GET", b"a"]), "-ERR"),
        };
        let mut world = World::new(&[pool(protocol, 1)], &limits(), 5);
        world.streams.refuse.push(ServerId(0));
        let client = world.connect(request.clone());
        world.settle(1_000);
        assert_eq!(
            text(&world.clients[client].got),
            format!("{mark} Connection refused\r\n")
        );
        world.streams.refuse.clear();
        world.streams.unreachable.push(ServerId(0));
        world.clients[client].got.clear();
        world.clients[client].to_send = request;
        world.settle(1_000);
        assert_eq!(
            text(&world.clients[client].got),
            format!("{mark} No route to host\r\n")
        );
    }
}

#[test]
fn a_server_that_speaks_something_else_is_cut_off() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"$5\r\nab\r\n$3\r\n",
        b"+OK\r\n+OK\r\n",
    ] {
        let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits(), 5);
        world.servers[0].garbage = Some(garbage.to_vec());
        let client = world.connect(resp(&[b"GET", b"a"]));
        world.pass(100_000);
        let got = text(&world.clients[client].got);
        let fine = got == "-ERR Invalid reply from server\r\n"
            || got == "+OK\r\n"
            || world.clients[client].closed.is_some();
        assert!(fine, "{got:?}");
        assert!(
            world.proxy.server_counters(0).protocol_errors > 0,
            "{:?}",
            text(garbage)
        );
    }
}

#[test]
fn failing_servers_are_ejected_and_come_back() {
    let ejecting = PoolConfig {
        auto_eject_hosts: true,
        ..pool(Protocol::Redis, 2)
    };
    let mut world = World::new(&[ejecting], &limits(), 5);
    for s in 0..2 {
        world.servers[s]
            .store
            .insert(b"k".to_vec(), format!("from {s}").into_bytes());
    }
    let client = world.connect(resp(&[b"GET", b"k"]));
    world.settle(1_000);
    let owner = usize::from(text(&world.clients[client].got).contains("from 1"));
    world.streams.refuse.push(ServerId(owner as u16));
    world.crash(owner);
    for _ in 0..4 {
        world.clients[client].got.clear();
        world.clients[client].to_send = resp(&[b"GET", b"k"]);
        world.settle(300);
    }
    assert_eq!(
        text(&world.clients[client].got),
        format!("$6\r\nfrom {}\r\n", 1 - owner)
    );
    assert_eq!(world.proxy.pool_counters(0).ejects, 1);
    world.streams.refuse.clear();
    world.pass(1_100_000);
    world.clients[client].got.clear();
    world.clients[client].to_send = resp(&[b"GET", b"k"]);
    world.settle(1_000);
    assert_eq!(
        text(&world.clients[client].got),
        format!("$6\r\nfrom {owner}\r\n")
    );
}

#[test]
fn a_client_that_vanishes_in_an_upload_costs_only_that_connection() {
    let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits(), 5);
    let half = [&b"set big 0 0 100000\r\n"[..], &vec![b'x'; 30_000]].concat();
    let client = world.connect(half);
    let other = world.connect(b"get k\r\n".to_vec());
    world.settle(1_000);
    assert_eq!(world.proxy.pool_counters(0).requests_streamed, 1);
    let id = world.clients[client].id;
    let stream = world.streams.stream(id);
    stream.status =
        tidegate_proxy::streams::StreamStatus::Closed(tidegate_proxy::streams::CloseReason::Reset);
    tidegate_proxy::streams::Streams::mark_ready(&mut world.streams, id);
    world.settle(1_000);
    assert_eq!(text(&world.clients[other].got), "END\r\n");
    assert_eq!(world.proxy.owed(), 0);
    assert!(
        world.servers[0].store.is_empty(),
        "half a value is not stored"
    );
}

#[test]
fn passwords_are_asked_for_and_sent() {
    let guarded = PoolConfig {
        redis_auth: Some(Secret::new("open sesame".into())),
        server_auth: Some(Secret::new("behind".into())),
        ..pool(Protocol::Redis, 1)
    };
    let mut world = World::new(&[guarded], &limits(), 5);
    let requests = [
        resp(&[b"GET", b"k"]),
        resp(&[b"AUTH", b"wrong"]),
        resp(&[b"GET", b"k"]),
        resp(&[b"AUTH", b"open sesame"]),
        resp(&[b"GET", b"k"]),
    ];
    let client = world.connect(requests.concat());
    world.settle(1_000);
    let noauth = "-NOAUTH Authentication required.\r\n";
    let expected = format!("{noauth}-ERR invalid password\r\n{noauth}+OK\r\n$-1\r\n");
    assert_eq!(text(&world.clients[client].got), expected);
    assert_eq!(
        text(&world.servers[0].seen[0]),
        "*2\r\n$4\r\nAUTH\r\n$6\r\nbehind\r\n"
    );
}

#[test]
fn draining_finishes_what_is_owed_and_closes() {
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &WorkerConfig { ..limits() }, 5);
    world.servers[0].stopped = true;
    let busy = world.connect(resp(&[b"SET", b"k", b"v"]));
    let idle = world.connect(Vec::new());
    world.settle(500);
    let now = world.now_us;
    world.proxy.drain(&mut world.streams, now);
    world.settle(500);
    assert!(world.clients[idle].finished);
    assert!(!world.proxy.is_drained());
    world.servers[0].stopped = false;
    world.settle(500);
    assert_eq!(text(&world.clients[busy].got), "+OK\r\n");
    assert!(world.clients[busy].finished);
    assert!(world.proxy.is_drained());
}
