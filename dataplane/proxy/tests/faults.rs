//! Servers that die, stall, babble or are not there: errors instead of silence, and never another client's reply.

use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret, WorkerConfig};
use tidegate_proxy::streams::ServerId;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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
    let expected = format!(
        "{noauth}-WRONGPASS invalid username-password pair or user is disabled.\r\n{noauth}+OK\r\n$-1\r\n"
    );
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

#[test]
fn what_any_server_can_answer_is_asked_of_one_that_does() {
    for (protocol, request, answer) in [
        (
            Protocol::Memcached,
            b"version\r\n".to_vec(),
            "VERSION 1.2.3\r\n",
        ),
        (Protocol::Redis, resp(&[b"TIME"]), "*2\r\n"),
    ] {
        let mut world = World::new(&[pool(protocol, 3)], &limits(), 5);
        world.streams.refuse.push(ServerId(1));
        let failed = (0..20)
            .filter(|_| {
                let client = world.connect(request.clone());
                world.settle(1_000);
                let got = text(&world.clients[client].got);
                assert!(
                    got.starts_with(answer) || got.contains("Connection refused"),
                    "{got}"
                );
                !got.starts_with(answer)
            })
            .count();
        assert!(
            failed <= 1,
            "{failed} of 20 were asked of the server that refuses"
        );
    }
}
