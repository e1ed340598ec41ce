//! Requests that all servers of a pool answer, and SCAN, which asks one after the other.

use crate::model::dialogue::{commands, text};
use crate::model::joined::{ask, fill, scan_all, words, world};
use crate::model::{World, limits, pool};
use std::collections::BTreeSet;
use tidegate_config::{Protocol, WorkerConfig};

#[test]
fn the_replies_of_all_servers_become_one_in_the_order_of_requests() {
    let mut world = world(3);
    let keys = fill(&mut world, 40);
    let got = ask(
        &mut world,
        &[
            "GET none",
            "DBSIZE",
            "KEYS k*",
            "GET none",
            "KEYS x*",
            "SCRIPT LOAD s",
            "SCRIPT EXISTS s t s",
            "PING",
        ],
    );
    let (first, rest) = got.split_once("$-1\r\n").unwrap();
    assert_eq!(first, "");
    let rest = rest.strip_prefix(":40\r\n*40\r\n").unwrap();
    let (found, rest) = rest.split_once("$-1\r\n").unwrap();
    assert_eq!(words(found).into_iter().collect::<BTreeSet<_>>(), keys);
    assert_eq!(rest, "*0\r\n$1\r\ns\r\n*3\r\n:1\r\n:0\r\n:1\r\n+PONG\r\n");
    let counters = world.proxy.pool_counters(0);
    assert_eq!((counters.requests_broadcast, counters.fragments), (5, 15));
    world.assert_idle("after all replies");
}

#[test]
fn what_changes_every_server_is_done_by_every_server() {
    let mut world = world(3);
    fill(&mut world, 40);
    assert_eq!(ask(&mut world, &["SCRIPT LOAD s"]), "$1\r\ns\r\n");
    assert_eq!(
        ask(&mut world, &["SCRIPT FLUSH", "SCRIPT EXISTS s"]),
        "+OK\r\n*1\r\n:0\r\n"
    );
    assert_eq!(
        ask(&mut world, &["FLUSHALL ASYNC", "DBSIZE"]),
        "+OK\r\n:0\r\n"
    );
    assert!(world.servers.iter().all(|server| server.store.is_empty()));
    world.assert_idle("after all replies");
}

#[test]
fn a_script_that_one_server_lost_does_not_exist() {
    let mut world = world(3);
    ask(&mut world, &["SCRIPT LOAD s"]);
    world.servers[1].store.clear();
    assert_eq!(ask(&mut world, &["SCRIPT EXISTS s"]), "*1\r\n:0\r\n");
    assert_eq!(
        ask(&mut world, &["SCRIPT LOAD s", "SCRIPT EXISTS s"]),
        "$1\r\ns\r\n*1\r\n:1\r\n"
    );
}

#[test]
fn a_pool_of_one_server_passes_on_what_it_says() {
    let mut world = world(1);
    let keys = fill(&mut world, 30);
    let got = ask(
        &mut world,
        &["DBSIZE", "KEYS k*", "RANDOMKEY", "SCRIPT LOAD s"],
    );
    assert!(
        got.starts_with(":30\r\n*30\r\n") && got.ends_with("k0000\r\n$1\r\ns\r\n"),
        "{got}"
    );
    assert_eq!(
        scan_all(&mut world, ""),
        keys.into_iter().map(|key| (key, 1)).collect()
    );
}

#[test]
fn scan_tells_each_key_of_each_server_once() {
    for servers in 1..6 {
        let mut world = world(servers);
        let keys = fill(&mut world, 200);
        for options in [
            "",
            " COUNT 3",
            " COUNT 1000",
            " MATCH k* COUNT 7 TYPE string",
        ] {
            let seen = scan_all(&mut world, options);
            assert_eq!(
                seen,
                keys.iter().map(|key| (key.clone(), 1)).collect(),
                "{servers} servers{options}"
            );
        }
        world.assert_idle("after the last step");
    }
}

#[test]
fn cursors_that_are_none_are_refused_and_those_of_others_do_no_harm() {
    let mut world = world(3);
    fill(&mut world, 9);
    for wrong in ["x", "-1", "+1", "18446744073709551616", "1.5", "0x10"] {
        let got = ask(&mut world, &[format!("SCAN {wrong}").as_str(), "PING"]);
        assert_eq!(got, "-ERR invalid cursor\r\n+PONG\r\n", "{wrong}");
    }
    // Made up, but a number: the server answers.
    let got = ask(&mut world, &["SCAN 18446744073709551615"]);
    assert!(got.starts_with("*2\r\n$1\r\n"), "{got}");
    // A server's cursor that leaves no room for its position.
    world.servers[0].garbage = Some(b"*2\r\n$20\r\n18446744073709551615\r\n*0\r\n".to_vec());
    let got = ask(&mut world, &["SCAN 0", "PING"]);
    assert_eq!(
        got,
        "-ERR the server's cursor does not fit that of the proxy\r\n+PONG\r\n"
    );
    world.assert_idle("after the errors");
}

#[test]
fn randomkey_is_nothing_only_where_no_server_has_a_key() {
    let mut world = world(4);
    assert_eq!(ask(&mut world, &["RANDOMKEY"]), "$-1\r\n");
    world.servers[2]
        .store
        .insert(b"only".to_vec(), b"v".to_vec());
    for _ in 0..20 {
        assert_eq!(ask(&mut world, &["RANDOMKEY"]), "$4\r\nonly\r\n");
    }
    for server in 0..4 {
        let key = format!("of-{server}").into_bytes();
        world.servers[server].store.clear();
        world.servers[server].store.insert(key, b"v".to_vec());
    }
    let seen: BTreeSet<String> = (0..100).map(|_| ask(&mut world, &["RANDOMKEY"])).collect();
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn replies_that_are_too_large_together_are_an_error() {
    for (hold, reply_hold) in [(1_000, 4 << 20), (1 << 20, 2 << 10)] {
        let limits = WorkerConfig {
            client_reply_hold_bytes: hold,
            reply_hold_bytes: reply_hold,
            ..limits()
        };
        let mut world = World::new(&[pool(Protocol::Redis, 3)], &limits, 5);
        fill(&mut world, 900);
        let over = if hold == 1_000 {
            "-ERR Reply too large to be held by the proxy (limit client_reply_hold_bytes)\r\n"
        } else {
            "-ERR No room to hold the reply until its turn (limit reply_hold_bytes)\r\n"
        };
        assert_eq!(
            ask(&mut world, &["KEYS *", "DBSIZE", "SCAN 0 COUNT 100000"]),
            format!("{over}:900\r\n{over}")
        );
        let info = ask(&mut world, &["INFO"]);
        assert!(info == over || info.starts_with('$'), "{info}");
        world.assert_idle("after the errors");
    }
}

#[test]
fn numbers_need_no_memory_for_replies() {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 1,
        reply_hold_bytes: 1024,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 3)], &limits, 5);
    fill(&mut world, 9);
    assert_eq!(
        ask(&mut world, &["DBSIZE", "FLUSHALL", "DBSIZE"]),
        ":9\r\n+OK\r\n:0\r\n"
    );
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_a_joined_reply() {
    let mut world = world(3);
    fill(&mut world, 2_000);
    let client = world.connect(commands(&[
        "KEYS *",
        "INFO",
        "SCRIPT EXISTS a b c d",
        "PING",
    ]));
    world.clients[client].deaf = true;
    world.settle(5_000);
    world.clients[client].deaf = false;
    world.piece = 7;
    world.settle(200_000);
    let got = text(&world.clients[client].got);
    assert!(
        got.starts_with("*2000\r\n") && got.ends_with("*4\r\n:0\r\n:0\r\n:0\r\n:0\r\n+PONG\r\n")
    );
    assert_eq!(words(&got).len(), 2_000);
    world.assert_idle("after the last reply");
}

#[test]
fn tables_that_are_too_small_make_clients_wait_or_say_so() {
    let small = WorkerConfig {
        requests_max: 4,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 3)], &small, 5);
    fill(&mut world, 30);
    let clients: Vec<usize> = (0..6)
        .map(|_| world.connect(commands(&["DBSIZE"; 5])))
        .collect();
    world.settle(20_000);
    for client in clients {
        assert_eq!(text(&world.clients[client].got), ":30\r\n".repeat(5));
    }
    world.assert_idle("after the last reply");
    let mut world = World::new(&[pool(Protocol::Redis, 5)], &small, 5);
    let got = ask(&mut world, &["DBSIZE", "PING"]);
    assert!(
        got.starts_with("-ERR Pool has more servers") && got.ends_with("+PONG\r\n"),
        "{got}"
    );
}

/// The proxy's own section stands behind what a server says of itself: behind nothing it would be a reply of its own.
#[test]
fn a_server_that_says_nothing_of_itself_is_no_server() {
    for servers in [1, 2] {
        let mut world = world(servers);
        for server in &mut world.servers {
            server.garbage = Some(b"$-1\r\n".to_vec());
        }
        let got = ask(&mut world, &["INFO", "PING"]);
        assert!(got.starts_with("-ERR "), "{got}");
        assert_eq!(got.matches("\r\n").count(), 2, "{got}");
        assert!(
            got.ends_with("Invalid reply from server\r\n+PONG\r\n"),
            "{got}"
        );
    }
}
