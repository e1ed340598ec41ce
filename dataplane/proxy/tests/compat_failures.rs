//! Pools with `compat = "twemproxy"` whose servers fail: what clients are told, and when their connection ends.

use crate::model::dialogue::{
    assert_dialogues, commands, compatible, keys_of_both, play, text, world,
};
use crate::model::{World, limits};
use tidegate_config::{PoolConfig, Protocol, Secret};
use tidegate_proxy::streams::ServerId;

#[test]
fn a_server_that_refuses_our_password_answers_the_clients_itself() {
    let mistaken = PoolConfig {
        server_auth: Some(Secret::new("wrong".into())),
        ..compatible(Protocol::Redis, 1)
    };
    let mut world = World::new(&[mistaken], &limits(), 5);
    let noauth = "-NOAUTH Authentication required.\r\n";
    world.servers[0].garbage = Some(noauth.into());
    assert_dialogues(
        &mut world,
        &[
            (
                &["PING", "GET k", "SET k v"],
                &format!("+PONG\r\n{noauth}{noauth}"),
                false,
            ),
            (&["PING", "GET k"], &format!("+PONG\r\n{noauth}"), false),
        ],
    );
    assert_eq!(world.streams.connects, 1);
    assert_eq!(
        text(&world.servers[0].seen[0]),
        "*2\r\n$4\r\nAUTH\r\n$5\r\nwrong\r\n"
    );
    let told = std::iter::from_fn(|| world.proxy.take_event())
        .any(|event| format!("{event:?}").contains("Unauthorized"));
    assert!(told, "the operator is told");
}

#[test]
fn a_failed_server_fails_reads_of_several_keys_with_their_connection() {
    let mut world = world(Protocol::Redis, 2);
    let [[live, live2], [dead, dead2]] = keys_of_both(&mut world);
    world.streams.refuse.push(ServerId(1));
    world.crash(1);
    world.settle(1_000);
    let refused = "-ERR Connection refused\r\n";
    for (request, closed) in [
        (format!("GET {dead}"), false),
        (format!("MGET {dead}"), false),
        (format!("MGET {dead} {dead2}"), true),
        (format!("mget {live} {dead}"), true),
        (format!("MGET {dead} {live} {live2} {dead2}"), true),
        (format!("DEL {dead}"), false),
        (format!("DEL {live2} {dead}"), false),
        (format!("UNLINK {dead} {dead2}"), false),
        (format!("TOUCH {live} {dead}"), false),
        (format!("MSET {live} 1 {dead} 2"), false),
        (format!("MSET {dead} 1 {dead2} 2"), false),
        (format!("SET {dead} 1"), false),
    ] {
        // An earlier and a later request that were read with it are answered as well.
        let replies = format!("+PONG\r\n{refused}+PONG\r\n");
        assert_dialogues(
            &mut world,
            &[(&["PING", &request, "PING"], &replies, closed)],
        );
    }
    world.assert_idle("after every request");
}

#[test]
fn a_failed_server_fails_gets_of_several_keys_with_their_connection() {
    let mut world = world(Protocol::Memcached, 2);
    let [[live, live2], [dead, dead2]] = keys_of_both(&mut world);
    world.streams.refuse.push(ServerId(1));
    world.crash(1);
    world.settle(1_000);
    let refused = "SERVER_ERROR Connection refused\r\n";
    for (request, reply, closed) in [
        (format!("get {dead}\r\n"), refused, false),
        (format!("get {dead} {dead2}\r\n"), refused, true),
        (format!("get {live} {dead}\r\n"), refused, true),
        (format!("get nil-{live2} {dead} {dead2}\r\n"), refused, true),
        (format!("set {dead} 0 0 1\r\nx\r\n"), refused, false),
        (format!("delete {dead}\r\n"), refused, false),
        (format!("set {dead} 0 0 1 noreply\r\nx\r\n"), "", false),
    ] {
        assert_eq!(
            play(&mut world, request.as_bytes()),
            (reply.to_owned(), closed),
            "{request:?}"
        );
    }
    assert_eq!(world.proxy.pool_counters(0).clients_closed_compat, 3);
    world.assert_idle("after every request");
}

#[test]
fn what_clients_of_a_busy_connection_were_promised_comes_before_it_closes() {
    let mut world = world(Protocol::Redis, 2);
    let [[live, _], [dead, _]] = keys_of_both(&mut world);
    world.streams.refuse.push(ServerId(1));
    world.crash(1);
    world.settle(1_000);
    world.servers[0].stopped = true;
    let lines = [
        format!("GET {live}"),
        format!("MGET {live} {dead}"),
        format!("GET {live}"),
    ];
    let client = world.connect(commands(&lines.each_ref().map(String::as_str)));
    world.settle(1_000);
    assert_eq!(text(&world.clients[client].got), "");
    world.servers[0].stopped = false;
    world.settle(1_000);
    let value = format!("$2\r\nv{}\r\n", &live[1..]);
    let state = &world.clients[client];
    assert_eq!(
        text(&state.got),
        format!("{value}-ERR Connection refused\r\n{value}")
    );
    assert!(state.finished);
    world.assert_idle("after the close");
}

#[test]
fn a_server_that_cannot_serve_has_failed() {
    let invalid = "-ERR Invalid argument\r\n";
    for failing in [
        "-OOM command not allowed\r\n",
        "-BUSY Redis is busy\r\n",
        "-LOADING Redis is loading\r\n",
        "-OOM\r\n",
    ] {
        let mut world = world(Protocol::Redis, 1);
        world.servers[0].garbage = Some(failing.into());
        assert_dialogues(
            &mut world,
            &[
                (&["GET a", "GET b"], &invalid.repeat(2), false),
                (&["GET a", "PING"], &format!("{invalid}+PONG\r\n"), false),
                (&["MGET a b"], invalid, true),
                (&["DEL a b"], invalid, false),
                (&["MSET a 1 b 2"], invalid, false),
            ],
        );
        assert!(
            world.streams.connects >= 5,
            "each failure ended a connection"
        );
        world.servers[0].garbage = None;
        assert_dialogues(&mut world, &[(&["SET a 1"], "+OK\r\n", false)]);
        world.assert_idle(failing);
    }
}

#[test]
fn a_server_that_cannot_serve_fails_its_part_and_is_ejected() {
    let ejecting = PoolConfig {
        auto_eject_hosts: true,
        server_retry_timeout_ms: 60_000,
        ..compatible(Protocol::Redis, 2)
    };
    let mut world = World::new(&[ejecting], &limits(), 5);
    let [[live, _], [failing, _]] = keys_of_both(&mut world);
    world.servers[1].garbage = Some(b"-LOADING Redis is loading\r\n".into());
    let mget = format!("MGET {live} {failing}");
    let get = format!("GET {failing}");
    assert_dialogues(
        &mut world,
        &[
            (&[&mget], "-ERR Invalid argument\r\n", true),
            (&[&get], "-ERR Invalid argument\r\n", false),
            // Two failures were the limit: the other server has its keys now.
            (&[&get], "$-1\r\n", false),
        ],
    );
    assert_eq!(world.proxy.pool_counters(0).ejects, 1);
    world.servers[0].garbage = Some(b"-LOADING Redis is loading\r\n".into());
    for _ in 0..2 {
        let _ = play(&mut world, &commands(&["GET a"]));
    }
    let refused = "-ERR Connection refused\r\n";
    assert_dialogues(
        &mut world,
        &[
            (&["GET a", "GET a"], &refused.repeat(2), false),
            (&["COMMAND", "DEL a b"], &refused.repeat(2), false),
            (&["MGET a b"], refused, true),
        ],
    );
}

#[test]
fn other_errors_pass_but_for_requests_of_several_keys() {
    let long = format!("-ERR {}\r\n", "long ".repeat(300));
    let invalid = "-ERR Invalid argument\r\n";
    for error in [
        "-READONLY You can't write\r\n",
        "-BUSYKEY x\r\n",
        "-ERR y\r\n",
        &long,
    ] {
        let mut world = world(Protocol::Redis, 2);
        let [[other, _], [key, key2]] = keys_of_both(&mut world);
        world.servers[1].garbage = Some(error.into());
        let several = [
            format!("DEL {key} {other}"),
            format!("DEL {key} {key2}"),
            format!("MSET {key} 1 {key2} 2"),
            format!("MGET {other} {key}"),
            format!("MGET {key} {key2}"),
        ];
        for request in &several {
            assert_dialogues(
                &mut world,
                &[(&[request, "PING"], &format!("{invalid}+PONG\r\n"), false)],
            );
        }
        for request in [
            format!("GET {key}"),
            format!("DEL {key}"),
            format!("MGET {key}"),
        ] {
            assert_dialogues(
                &mut world,
                &[(&[&request, "PING"], &format!("{error}+PONG\r\n"), false)],
            );
        }
        world.assert_idle(error);
    }
}

#[test]
fn the_texts_of_failures_are_those_of_the_system() {
    type Failure = fn(&mut World);
    let failures: [(&str, Failure); 6] = [
        ("Connection timed out", |world| world.pass(500_000)),
        ("Connection reset by peer", |world| world.crash(0)),
        ("unknown", |world| world.hang_up(0)),
        ("Invalid argument", |world| world.say(0, b"?bogus\r\n")),
        ("Connection refused", |world| {
            world.streams.refuse.push(ServerId(0));
            world.servers[0].accepts = true;
        }),
        ("No route to host", |_| {}),
    ];
    for (protocol, mark) in [
        (Protocol::Memcached, "SERVER_ERROR"),
        (Protocol::Redis, "-ERR"),
    ] {
        for (words, fail) in failures {
            let mut world = world(protocol, 1);
            match words {
                "No route to host" => world.streams.unreachable.push(ServerId(0)),
                "Connection refused" => world.servers[0].accepts = false,
                _ => {}
            }
            world.servers[0].stopped = true;
            let request = match protocol {
                Protocol::Memcached => b"get a\r\nget b\r\n".to_vec(),
                Protocol::Redis => commands(&["GET a", "GET b"]),
            };
            let client = world.connect(request);
            let several = world.connect(match protocol {
                Protocol::Memcached => b"get a b\r\n".to_vec(),
                Protocol::Redis => commands(&["MGET a b"]),
            });
            world.settle(300);
            fail(&mut world);
            world.settle(1_000);
            let told = format!("{mark} {words}\r\n");
            let state = &world.clients[client];
            assert_eq!(text(&state.got), told.repeat(2));
            assert!(!state.finished, "{words}");
            let state = &world.clients[several];
            assert_eq!((text(&state.got), state.finished), (told, true));
        }
    }
}
