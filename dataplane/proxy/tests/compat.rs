//! Pools with `compat = "twemproxy"`: what they take, what they close for, and where requests go.

use crate::model::dialogue::{
    assert_dialogues, commands, compatible, keys_of_both, play, text, world,
};
use crate::model::traffic::resp;
use crate::model::{World, limits};
use tidegate_config::{PoolConfig, Protocol, Secret};

#[test]
fn a_request_that_is_not_taken_closes_without_a_word_behind_the_earlier_replies() {
    for refused in [
        "KEYS *",
        "nonsense",
        "GET",
        "GET a b",
        "MSET a",
        "MSET a 1 b",
        "MSETNX a 1 b 2",
        "MOVE a 1",
        "PING hello",
        "ECHO hello",
        "SELECT 0",
        "CLIENT LIST",
        "TIME",
        "INFO",
        "HELLO 3",
        "COMMAND COUNT",
        "AUTH user secret",
        "OBJECT ENCODING a",
        "RENAME a b",
        "SCAN 0",
        "BLPOP a 0",
        "MULTI",
        "SUBSCRIBE a",
        "XADD s * f v",
        "SCRIPT LOAD x",
        "EVAL x 0",
        "EVAL x 0 a",
        "EXPIRE a 10 NX",
        "GETRANGE a 0",
        "EXPIRETIME a",
    ] {
        let mut world = world(Protocol::Redis, 2);
        let lines = ["SET a 1", "GET a", "GET b", refused, "GET a"];
        assert_dialogues(
            &mut world,
            &[
                (&[refused], "", true),
                (&lines, "+OK\r\n$1\r\n1\r\n$-1\r\n", true),
            ],
        );
        let counters = world.proxy.pool_counters(0);
        assert_eq!((counters.requests_refused, counters.client_errors), (2, 0));
        world.assert_idle(refused);
    }
}

#[test]
fn the_replies_that_a_closing_client_is_owed_come_however_late_they_are() {
    let mut world = world(Protocol::Redis, 1);
    let _ = play(&mut world, &commands(&["SET a 1"]));
    world.servers[0].stopped = true;
    let client = world.connect(commands(&["GET a", "GET a", "KEYS *"]));
    world.settle(1_000);
    assert_eq!(text(&world.clients[client].got), "");
    assert!(!world.clients[client].finished);
    world.servers[0].stopped = false;
    world.settle(1_000);
    assert_eq!(text(&world.clients[client].got), "$1\r\n1\r\n$1\r\n1\r\n");
    assert!(world.clients[client].finished);
    world.assert_idle("after the close");
}

#[test]
fn bytes_that_are_no_request_close() {
    for bytes in [
        "\r\n",
        "PING\r\n",
        "QUIT\r\n",
        "*0\r\n",
        "*3\r\n*abcde\r\n",
        "*4\r\n$4\r\nMSET\r\n$1\r\nA\r\n$1\r\nA\r\n$1\r\nA\r\n",
        "*1\r\n$3\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n$x\r\n",
    ] {
        let mut world = world(Protocol::Redis, 1);
        assert_eq!(play(&mut world, bytes.as_bytes()), (String::new(), true));
        assert_eq!(world.proxy.pool_counters(0).clients_closed_compat, 1);
    }
}

#[test]
fn quit_closes_without_ok_behind_what_is_owed() {
    let mut world = world(Protocol::Redis, 2);
    assert_dialogues(
        &mut world,
        &[
            (&["QUIT"], "", true),
            (&["SET a 1", "QUIT", "SET b 1"], "+OK\r\n", true),
        ],
    );
    assert!(
        world
            .servers
            .iter()
            .all(|server| !server.store.contains_key(&b"b"[..]))
    );
    let counters = world.proxy.pool_counters(0);
    assert_eq!(
        (counters.client_errors, counters.clients_closed_compat),
        (0, 0)
    );
}

#[test]
fn what_is_taken_gets_the_usual_replies() {
    let mut world = world(Protocol::Redis, 2);
    world.piece = 3;
    let many: Vec<String> = (0..40).map(|n| format!("key-{n}")).collect();
    let del = format!("DEL {}", many.join(" "));
    let mset = format!("MSET {} v", many.join(" v "));
    let mget = format!("MGET {}", many.join(" "));
    let values = format!("*40\r\n{}", "$1\r\nv\r\n".repeat(40));
    let none = format!("*40\r\n{}", "$-1\r\n".repeat(40));
    assert_dialogues(
        &mut world,
        &[
            (&["PING"], "+PONG\r\n", false),
            (
                &["SET k v", "GET k", "GET nil"],
                "+OK\r\n$1\r\nv\r\n$-1\r\n",
                false,
            ),
            (
                &["MGET k nil k k"],
                "*4\r\n$1\r\nv\r\n$-1\r\n$1\r\nv\r\n$1\r\nv\r\n",
                false,
            ),
            (&[&mset, &mget], &format!("+OK\r\n{values}"), false),
            (
                &[&mget, &del, &mget],
                &format!("{values}:40\r\n{none}"),
                false,
            ),
            (&["TOUCH k nil", "UNLINK k nil"], ":1\r\n:1\r\n", false),
            // An error of the server's own passes, and the pipeline goes on.
            (
                &["SET a 1", "LLEN a", "GET a"],
                "+OK\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n$1\r\n1\r\n",
                false,
            ),
            // Fewer arguments than the server wants are the server's to refuse.
            (
                &["ZREM b", "EVAL s 1 k v", "COMMAND", "LOLWUT"],
                ":1\r\n:4\r\n:0\r\n:0\r\n",
                false,
            ),
        ],
    );
    let empty = [
        resp(&[b"MSET", b"", b"val", b"k", b"v"]),
        resp(&[b"GET", b""]),
    ]
    .concat();
    assert_eq!(
        play(&mut world, &empty),
        ("+OK\r\n$3\r\nval\r\n".to_owned(), false)
    );
}

#[test]
fn requests_go_where_twemproxy_sends_them() {
    let mut world = world(Protocol::Redis, 2);
    let [[first, _], [second, _]] = keys_of_both(&mut world);
    let seen = |world: &World, server: usize, wanted: &str| {
        world.servers[server]
            .seen
            .iter()
            .filter(|seen| text(seen).contains(wanted))
            .count()
    };
    let lines = [
        format!("EXISTS {first} {second} {second}"),
        format!("EVAL s 2 {second} {first}"),
    ];
    let (got, _) = play(&mut world, &commands(&lines.each_ref().map(String::as_str)));
    assert_eq!(
        got, ":1\r\n:4\r\n",
        "the first server has one of the three keys"
    );
    assert_eq!(
        (seen(&world, 0, "EXISTS"), seen(&world, 1, "EXISTS")),
        (1, 0)
    );
    assert_eq!((seen(&world, 0, "EVAL"), seen(&world, 1, "EVAL")), (0, 1));
    assert_eq!(world.proxy.pool_counters(0).requests_split, 0);

    // The count of keys passes for the key: like the key of that name, whatever the real keys are.
    let owner = |world: &mut World, key: &str| {
        let _ = play(world, &commands(&[&format!("SET {key} x")]));
        usize::from(world.servers[1].store.contains_key(key.as_bytes()))
    };
    for count in ["1", "2", "3"] {
        let expected = owner(&mut world, count);
        let before = seen(&world, expected, "ZDIFF");
        let _ = play(
            &mut world,
            &commands(&[&format!("ZDIFF {count} {first} {second}")]),
        );
        assert_eq!(seen(&world, expected, "ZDIFF"), before + 1, "{count}");
    }
}

#[test]
fn passwords_are_asked_for_in_twemproxys_words() {
    let guarded = PoolConfig {
        redis_auth: Some(Secret::new("open sesame".into())),
        ..compatible(Protocol::Redis, 2)
    };
    let mut world = World::new(&[guarded], &limits(), 5);
    let noauth = "-NOAUTH Authentication required\r\n";
    let wrong = "-ERR invalid password\r\n";
    let requests = [
        commands(&["PING", "GET k", "MGET a b", "COMMAND", "AUTH bad"]),
        resp(&[b"AUTH", b"open sesame"]),
        commands(&["PING", "GET k", "AUTH bad", "PING", "GET k"]),
    ]
    .concat();
    let expected = [
        &noauth.repeat(4),
        wrong,
        "+OK\r\n+PONG\r\n$-1\r\n",
        wrong,
        &noauth.repeat(2),
    ]
    .concat();
    assert_eq!(play(&mut world, &requests), (expected, false));
    assert_dialogues(
        &mut world,
        &[
            (&["QUIT"], "", true),
            (&["KEYS *"], "", true),
            (&["AUTH user bad"], "", true),
        ],
    );
    let large = resp(&[b"SET", b"k", &vec![b'x'; 50_000]]);
    let both = [large, commands(&["PING"])].concat();
    assert_eq!(play(&mut world, &both), (noauth.repeat(2), false));
    let value = "x".repeat(30_000);
    let unfinished = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$30000\r\n{value}??");
    let outcome = play(&mut world, unfinished.as_bytes());
    assert_eq!(outcome, (noauth.to_owned(), true));
    world.assert_idle("after all of it");
}

#[test]
fn a_password_where_none_is_asked_for_is_an_error_and_no_more() {
    let no_password = "-ERR Client sent AUTH, but no password is set\r\n";
    assert_dialogues(
        &mut world(Protocol::Redis, 1),
        &[(
            &["AUTH x", "PING"],
            &format!("{no_password}+PONG\r\n"),
            false,
        )],
    );
}

#[test]
fn memcached_requests_are_answered_or_closed() {
    let mut world = world(Protocol::Memcached, 2);
    for (requests, reply, closed) in [
        ("set k 0 0 1\r\nv\r\n", "STORED\r\n", false),
        ("get k\r\n", "VALUE k 0 1\r\nv\r\nEND\r\n", false),
        (
            "get k nil k\r\n",
            "VALUE k 0 1\r\nv\r\nVALUE k 0 1\r\nv\r\nEND\r\n",
            false,
        ),
        (
            "set k 0 0 1 noreply\r\nw\r\nget k\r\n",
            "VALUE k 0 1\r\nw\r\nEND\r\n",
            false,
        ),
        (
            "incr n 1\r\nincr n -1\r\ntouch n -1\r\n",
            "7\r\n7\r\nTOUCHED\r\n",
            false,
        ),
        ("version\r\n", "VERSION 1.2.3\r\n", false),
        ("delete k\r\ndelete k noreply\r\n", "DELETED\r\n", false),
        ("get k\r\nquit\r\nget k\r\n", "END\r\n", true),
        (
            "get k\r\nget k\r\nstats\r\nget k\r\n",
            "END\r\nEND\r\n",
            true,
        ),
        ("delete k 0\r\n", "", true),
        ("set k 0 -1 1\r\na\r\n", "", true),
        ("set k 0 0 1\r\nab\r\n", "", true),
        ("gat 1 k\r\n", "", true),
        ("gats 1 k l\r\n", "", true),
        ("verbosity 1\r\n", "", true),
        ("flush_all noreply\r\n", "", true),
        ("mg k v\r\n", "", true),
        ("incr k x\r\n", "", true),
        ("GET k\r\n", "", true),
        ("nonsense\r\n", "", true),
    ] {
        assert_eq!(
            play(&mut world, requests.as_bytes()),
            (reply.to_owned(), closed),
            "{requests:?}"
        );
    }
    let many: Vec<String> = (0..90).map(|n| format!("k{n}")).collect();
    let line = format!("get {}\r\n", many.join(" "));
    assert_eq!(
        play(&mut world, line.as_bytes()),
        ("END\r\n".to_owned(), false)
    );
    world.assert_idle("after every dialogue");
}

#[test]
fn a_large_request_that_turns_out_malformed_closes_without_a_word() {
    let value = vec![b'x'; 30_000];
    let block = [&b"set big 0 0 30000\r\n"[..], &value, b"??"].concat();
    let negative = [&b"set big 0 -1 30000\r\n"[..], &value, b"\r\n"].concat();
    let bulk = [
        &b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$30000\r\n"[..],
        &value,
        b"??",
    ]
    .concat();
    for (protocol, bytes) in [
        (Protocol::Memcached, block),
        (Protocol::Memcached, negative),
        (Protocol::Redis, bulk),
    ] {
        let mut world = world(protocol, 1);
        let client = world.connect(bytes);
        world.settle(5_000);
        let state = &world.clients[client];
        assert_eq!((text(&state.got), state.finished), (String::new(), true));
        let counters = world.proxy.pool_counters(0);
        assert_eq!(counters.clients_closed_compat, 1);
        assert_eq!(counters.clients_closed_protocol, 0);
        assert!(world.servers[0].store.is_empty());
        world.assert_idle("after the close");
    }
}

#[test]
fn a_request_that_is_held_and_then_refused_closes_and_gives_its_buffer_back() {
    let mut world = world(Protocol::Redis, 1);
    let script = "x".repeat(2_000);
    for count in ["0", "none"] {
        let lines = ["SET a 1", &format!("EVAL {script} {count} k"), "SET a 2"];
        let outcome = play(&mut world, &commands(&lines));
        assert_eq!(outcome, ("+OK\r\n".to_owned(), true), "{count}");
        world.assert_idle(count);
    }
    let outcome = play(
        &mut world,
        &commands(&[&format!("EVAL {script} 1 k"), "GET a"]),
    );
    assert_eq!(outcome, (":3\r\n$1\r\n1\r\n".to_owned(), false));
}

#[test]
fn what_is_over_a_limit_of_the_proxy_gets_an_error_and_the_connection_stays() {
    let mut world = world(Protocol::Redis, 2);
    let key = "x".repeat(6_000);
    let (got, closed) = play(&mut world, &commands(&[&format!("GET {key}"), "PING"]));
    assert!(got.starts_with("-ERR Request too large"), "{got}");
    assert!(got.ends_with("+PONG\r\n") && !closed, "{got}");
}
