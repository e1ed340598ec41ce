//! Peers that do what no sound peer does, one case per test.

use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{Distribution, PoolConfig, Protocol, Secret, WorkerConfig};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_deaf_client_that_asks_on_does_not_keep_the_worker_busy_for_ever() {
    let limits = WorkerConfig {
        reply_hold_bytes: 1024,
        client_reply_hold_bytes: 1,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits, 3);
    world.servers[0]
        .store
        .insert(b"big".to_vec(), vec![b'v'; 100_000]);
    let deaf = world.connect(resp(&[b"GET", b"big"]));
    world.clients[deaf].deaf = true;
    world.settle(1_000);
    assert!(world.proxy.pool_counters(0).paused_replies > 0);
    world.clients[deaf].to_send = resp(&[b"GET", b"k"]);
    world.settle(1_000);
    world.clients[deaf].deaf = false;
    world.settle(10_000);
    assert!(text(&world.clients[deaf].got).ends_with("vvv\r\n$-1\r\n"));
    world.assert_idle("after both replies");
}

#[test]
fn requests_with_several_keys_are_divided_as_planned_when_servers_are_chosen_at_random() {
    let random = PoolConfig {
        distribution: Distribution::Random,
        ..pool(Protocol::Redis, 3)
    };
    let mut world = World::new(&[random], &limits(), 11);
    for server in &mut world.servers {
        for key in [b"a", b"b", b"c", b"d"] {
            server.store.insert(key.to_vec(), key.to_vec());
        }
    }
    let request = resp(&[b"MGET", b"a", b"b", b"c", b"d", b"none"]);
    let client = world.connect(request.repeat(50));
    world.settle(10_000);
    let reply = "*5\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$-1\r\n";
    assert_eq!(text(&world.clients[client].got), reply.repeat(50));
    assert!(world.proxy.pool_counters(0).requests_split > 0);
    world.assert_idle("after the last reply");
}

#[test]
fn a_hold_that_ends_within_a_header_loses_nothing_when_it_becomes_an_upload() {
    let key = vec![b'k'; 1_000];
    for items in 440..520 {
        let item = vec![b'i'; 10 + items % 3];
        let mut args: Vec<&[u8]> = vec![b"RPUSH", &key];
        args.extend(std::iter::repeat_n(item.as_slice(), items));
        let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits(), items as u64);
        let client = world.connect([resp(&args), resp(&[b"PING"])].concat());
        world.settle(10_000);
        assert_eq!(
            text(&world.clients[client].got),
            format!(":{items}\r\n+PONG\r\n"),
            "{items} items"
        );
        assert_eq!(world.proxy.pool_counters(0).requests_streamed, 1);
        world.assert_idle("after both replies");
    }
}

#[test]
fn a_request_behind_a_reply_that_its_client_does_not_take_times_out_on_time() {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 20_000,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits, 3);
    world.servers[0]
        .store
        .insert(b"big".to_vec(), vec![b'v'; 200_000]);
    world.servers[0].stopped = true;
    let deaf = world.connect(resp(&[b"GET", b"big"]));
    world.clients[deaf].deaf = true;
    world.settle(200);
    let behind = world.connect(resp(&[b"GET", b"k"]));
    world.settle(200);
    world.servers[0].stopped = false;
    world.pass(500_000);
    assert_eq!(
        text(&world.clients[behind].got),
        "-ERR Connection timed out\r\n"
    );
    world.clients[deaf].deaf = false;
    world.clients[behind].to_send = resp(&[b"GET", b"k"]);
    world.settle(20_000);
    assert_eq!(
        world.clients[deaf].got.len(),
        "$200000\r\n".len() + 200_002,
        "the reply that moves is not late"
    );
    assert_eq!(
        text(&world.clients[behind].got),
        "-ERR Connection timed out\r\n$-1\r\n"
    );
    world.assert_idle("after the last reply");
}

#[test]
fn an_error_that_stands_for_dropped_replies_ends_the_connection_instead_of_shifting_them() {
    for first in [
        &b"get a\r\n"[..],
        b"set a 0 0 1\r\nx\r\n",
        b"get a aa aaa\r\n",
    ] {
        let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits(), 3);
        world.servers[0].stopped = true;
        let clients = [first, b"get b\r\n", b"get c\r\n"].map(|request| {
            let client = world.connect(request.to_vec());
            world.settle(1);
            client
        });
        world.servers[0].accepts = true;
        world.servers[0].stopped = false;
        // The connection opens, then the server's own replies are kept back.
        while world.server_slots(0).is_empty() {
            world.step();
        }
        world.servers[0].stopped = true;
        world.settle(200);
        world.say(
            0,
            b"SERVER_ERROR out of memory writing get response\r\nVALUE c 0 1\r\nc\r\nEND\r\n",
        );
        world.settle(200);
        let got = clients.map(|client| text(&world.clients[client].got));
        assert!(
            got.iter().all(|reply| reply.starts_with("SERVER_ERROR")),
            "{got:?}"
        );
        world.assert_idle("after the errors");
    }
}

#[test]
fn an_error_to_a_part_of_a_divided_request_ends_the_connection_as_well() {
    let mut world = World::new(&[pool(Protocol::Memcached, 2)], &limits(), 3);
    for server in &mut world.servers {
        server.stopped = true;
    }
    let requests = ["a b c d e f", "a", "b", "c", "d", "e", "f"];
    let clients = requests.map(|keys| {
        let client = world.connect(format!("get {keys}\r\n").into_bytes());
        world.settle(5);
        client
    });
    assert_eq!(world.proxy.pool_counters(0).requests_split, 1);
    assert!(world.proxy.server_counters(0).in_flight > 1);
    world.say(
        0,
        b"SERVER_ERROR out of memory writing get response\r\nVALUE x 0 1\r\nx\r\nEND\r\n",
    );
    world.settle(200);
    world.crash(1);
    world.settle(200);
    for client in clients {
        let got = text(&world.clients[client].got);
        assert!(got.starts_with("SERVER_ERROR"), "{got:?}");
    }
    world.assert_idle("after the errors");
}

#[test]
fn a_server_that_refuses_our_password_is_named_and_ejected() {
    let guarded = PoolConfig {
        server_auth: Some(Secret::new("wrong".into())),
        auto_eject_hosts: true,
        ..pool(Protocol::Redis, 1)
    };
    let mut world = World::new(&[guarded], &limits(), 5);
    world.servers[0].garbage = Some(b"-ERR invalid password\r\n".to_vec());
    let client = world.connect(Vec::new());
    for _ in 0..3 {
        world.clients[client].to_send = resp(&[b"GET", b"k"]);
        world.settle(300);
    }
    let refused = "-ERR Server refused the proxy's password (setting server_auth)\r\n";
    let ejected = "-ERR No server available: all are ejected\r\n";
    assert_eq!(
        text(&world.clients[client].got),
        format!("{refused}{refused}{ejected}")
    );
    world.assert_idle("after the errors");
}

#[test]
fn a_connection_on_which_an_upload_was_answered_early_is_not_used_again() {
    let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits(), 5);
    let head = b"set big 0 0 50000\r\n";
    let half = [&head[..], &vec![b'x'; 20_000]].concat();
    let client = world.connect(half);
    world.settle(300);
    world.say(0, b"SERVER_ERROR object too large for cache\r\n");
    world.settle(300);
    let rest = [&vec![b'x'; 30_000][..], b"\r\n"].concat();
    let next = [&head[..], &vec![b'y'; 50_000], b"\r\n"].concat();
    world.clients[client].to_send = [rest, next].concat();
    world.settle(1_000);
    assert!(text(&world.clients[client].got).ends_with("cache\r\nSTORED\r\n"));
    assert_eq!(world.streams.connects, 2);
    world.assert_idle("after both replies");
}

#[test]
fn a_malformed_upload_whose_reply_has_begun_ends_the_connection_without_another_word() {
    let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits(), 5);
    let half = [&b"set big 0 0 50000\r\n"[..], &vec![b'x'; 20_000]].concat();
    let client = world.connect(half);
    world.settle(300);
    // More than one piece of a line, and no end.
    let begun = [&b"SERVER_ERROR "[..], &vec![b'e'; 600]].concat();
    world.say(0, &begun);
    world.settle(300);
    let got = world.clients[client].got.clone();
    assert!(
        begun.starts_with(&got) && !got.is_empty(),
        "{:?}",
        text(&got)
    );
    world.clients[client].to_send = vec![b'x'; 30_002];
    world.settle(300);
    assert!(world.clients[client].closed.is_some());
    assert_eq!(world.clients[client].got, got);
    world.assert_idle("after the connection");
}

#[test]
fn a_client_that_reads_a_merged_reply_slowly_is_not_taken_for_one_that_stands_still() {
    let limits = WorkerConfig {
        client_stall_ms: 300,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 2)], &limits, 5);
    for server in &mut world.servers {
        for key in [b"a", b"b", b"c", b"d"] {
            server.store.insert(key.to_vec(), vec![b'v'; 60_000]);
        }
    }
    let client = world.connect(resp(&[b"MGET", b"a", b"b", b"c", b"d"]));
    world.settle(100);
    assert_eq!(world.proxy.pool_counters(0).requests_split, 1);
    world.piece = 50;
    world.settle(100_000);
    assert!(world.now_us > 600_000, "it took long enough");
    assert!(world.clients[client].closed.is_none());
    assert_eq!(world.clients[client].got.len(), 4 + 4 * 60_010);
}
