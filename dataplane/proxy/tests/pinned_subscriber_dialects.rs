//! Subscribers in both dialects: what they may ask meanwhile, and in which order it is answered.

use crate::model::dialogue::{commands, keys_of_both, text};
use crate::model::redis::{
    assert_all_clean, confirmed, goes_on, message, pushed, redis, says, subscriber, take,
};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};
use tidegate_protocol::{ReplyScanner, ReplyShape};

/// The whole values in `bytes`.
fn values(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let scan = ReplyScanner::new(ReplyShape::Resp).scan(bytes).unwrap();
        assert!(scan.done, "nothing is cut off");
        let (value, rest) = bytes.split_at(scan.bytes);
        found.push(text(value));
        bytes = rest;
    }
    found
}

#[test]
fn with_resp3_messages_come_between_replies_and_never_within_one() {
    for (piece, deaf) in [(7, false), (90, true), (700, false)] {
        let patient = PoolConfig {
            timeout_ms: None,
            ..pool(Protocol::Redis, 2)
        };
        let mut world = World::new(&[patient], &limits(), 5);
        world.piece = piece;
        let [[a, _], [b, _]] = keys_of_both(&mut world);
        let large = "v".repeat(1_500);
        says(
            &mut world,
            &[&format!("SET {a} {large}"), &format!("SET {b} {large}")],
        );
        let client = subscriber(&mut world, &["HELLO 3", "SUBSCRIBE news"]);
        let got = take(&mut world, client);
        assert!(
            got.ends_with(&pushed(&confirmed("subscribe", "news", 1))),
            "{got}"
        );
        let lines: Vec<String> = (0..30)
            .map(|n| format!("GET {}", if n % 2 == 0 { &a } else { &b }))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let messages: Vec<String> = (0..30)
            .map(|n| format!("PUBLISH news {n}:{}", "m".repeat(n * 20)))
            .collect();
        let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
        world.connect(commands(&messages));
        world.clients[client].to_send = commands(&lines);
        for _ in 0..200 {
            world.clients[client].deaf ^= deaf;
            world.settle(20);
        }
        world.clients[client].deaf = false;
        world.settle(100_000);
        let got = std::mem::take(&mut world.clients[client].got);
        let (pushes, replies): (Vec<String>, Vec<String>) = values(&got)
            .into_iter()
            .partition(|value| value.starts_with('>'));
        let expected: Vec<String> = messages
            .iter()
            .map(|line| pushed(&message("news", line.split(' ').next_back().unwrap())))
            .collect();
        assert_eq!(pushes, expected, "piece {piece}");
        let whole = format!("$1500\r\n{large}\r\n");
        let odd: Vec<(usize, String)> = replies
            .iter()
            .map(|reply| reply.replace('v', ""))
            .enumerate()
            .filter(|&(n, _)| replies[n] != whole)
            .collect();
        assert!(odd.is_empty(), "piece {piece}: {odd:?}");
        assert_eq!(replies, vec![format!("$1500\r\n{large}\r\n"); 30]);
        let got = goes_on(
            &mut world,
            client,
            &["UNSUBSCRIBE", "PING", "UNSUBSCRIBE x"],
        );
        let end = pushed(&confirmed("unsubscribe", "news", 0));
        let again = pushed(&confirmed("unsubscribe", "x", 0));
        assert_eq!(got, format!("{end}+PONG\r\n{again}"));
        assert_all_clean(&world);
    }
}

#[test]
fn with_resp3_a_subscriber_asks_what_it_likes_but_for_another_own_connection() {
    let mut world = redis(2);
    let client = subscriber(&mut world, &["HELLO 3", "SUBSCRIBE a"]);
    take(&mut world, client);
    let got = goes_on(
        &mut world,
        client,
        &[
            "SET k v",
            "GET k",
            "PING",
            "PING m",
            "MGET k l",
            "PUBLISH b x",
        ],
    );
    assert_eq!(
        got,
        "+OK\r\n$1\r\nv\r\n+PONG\r\n$1\r\nm\r\n*2\r\n$1\r\nv\r\n_\r\n:0\r\n"
    );
    for line in ["MULTI", "WATCH k", "BLPOP k 0", "HELLO 2", "EXEC"] {
        let got = goes_on(&mut world, client, &[line]);
        assert!(
            got.starts_with("-ERR a connection with subscriptions"),
            "{line}: {got}"
        );
    }
    let large = resp(&[b"SET", b"k", &[b'x'; 9_000]]);
    world.clients[client].to_send = large;
    world.settle(20_000);
    assert_eq!(take(&mut world, client), "+OK\r\n");
    says(&mut world, &["PUBLISH a still-there"]);
    assert_eq!(
        take(&mut world, client),
        pushed(&message("a", "still-there"))
    );
    let got = goes_on(&mut world, client, &["RESET", "PING", "PUBLISH a nobody"]);
    assert_eq!(got, "+RESET\r\n+PONG\r\n:0\r\n");
    assert_all_clean(&world);
}

#[test]
fn with_resp3_confirmations_do_not_overtake_replies() {
    for seed in 0..50 {
        let mut world = World::new(&[pool(Protocol::Redis, 2)], &limits(), seed);
        let [[a, _], [b, _]] = keys_of_both(&mut world);
        let client = subscriber(&mut world, &["HELLO 3", "SUBSCRIBE news"]);
        take(&mut world, client);
        let get = [a, b].map(|key| format!("GET {key}"));
        let lines = [&get[0], &get[1], "SUBSCRIBE x", &get[1], "UNSUBSCRIBE x"];
        let got = goes_on(&mut world, client, &lines);
        let [more, fewer] = [("subscribe", 2), ("unsubscribe", 1)]
            .map(|(kind, count)| pushed(&confirmed(kind, "x", count)));
        assert_eq!(
            got,
            format!("$2\r\nv0\r\n$2\r\nv1\r\n{more}$2\r\nv1\r\n{fewer}"),
            "seed {seed}"
        );
    }
}

#[test]
fn a_subscriber_s_ping_follows_its_messages_in_both_dialects() {
    for (hello, pong) in [("HELLO 2", "*2\r\n$4\r\npong\r\n"), ("HELLO 3", "")] {
        let mut world = redis(2);
        let client = subscriber(&mut world, &[hello, "SUBSCRIBE a"]);
        take(&mut world, client);
        let got = goes_on(&mut world, client, &["PING after"]);
        assert_eq!(got, format!("{pong}$5\r\nafter\r\n"));
        // Answered by the server that sends the messages, it cannot overtake any.
        let ping = resp(&[b"PING", b"after"]);
        assert!(world.servers[0].seen.contains(&ping), "{hello}");
        let got = goes_on(
            &mut world,
            client,
            &["CLIENT REPLY OFF", "PING", "CLIENT REPLY ON"],
        );
        if hello == "HELLO 3" {
            assert_eq!(got, "+OK\r\n");
        }
        goes_on(&mut world, client, &["UNSUBSCRIBE"]);
        assert_all_clean(&world);
    }
}

#[test]
fn a_session_that_is_reset_ends_its_subscriptions_and_transactions() {
    let mut world = redis(2);
    let got = says(&mut world, &["SUBSCRIBE a", "RESET", "GET k"]);
    assert_eq!(got, confirmed("subscribe", "a", 1) + "+RESET\r\n$-1\r\n");
    let got = says(&mut world, &["MULTI", "SET k v", "RESET", "GET k"]);
    assert_eq!(got, "+OK\r\n+QUEUED\r\n+RESET\r\n$-1\r\n");
    let got = says(&mut world, &["WATCH k", "RESET", "EXEC"]);
    assert_eq!(got, "+OK\r\n+RESET\r\n-ERR EXEC without MULTI\r\n");
    assert_all_clean(&world);
}

#[test]
fn transactions_and_waiting_happen_in_the_database_and_dialect_of_the_client() {
    let mut world = redis(2);
    let lines = [
        "HELLO 3",
        "SELECT 3",
        "MULTI",
        "SET k v",
        "GET nothing",
        "EXEC",
        "SELECT 0",
        "GET k",
    ];
    let got = says(&mut world, &lines);
    assert!(
        got.ends_with("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n_\r\n+OK\r\n_\r\n"),
        "{got}"
    );
    let got = says(
        &mut world,
        &["SELECT 3", "WATCH k", "SELECT 0", "MULTI", "GET k", "EXEC"],
    );
    assert!(got.contains("-ERR not between WATCH and EXEC"), "{got}");
    assert!(got.ends_with("*1\r\n$1\r\nv\r\n"), "{got}");
    assert_all_clean(&world);
}

/// A confirmation is written where messages are, in front of replies that wait. It must not be told before those to earlier requests.
#[test]
fn confirmations_keep_the_order_of_requests() {
    for hello in [None, Some("HELLO 3")] {
        let mut world = redis(2);
        let gets = vec!["GET k"; 40];
        let mut lines: Vec<&str> = hello.into_iter().chain(["SUBSCRIBE a"]).collect();
        lines.extend(&gets);
        lines.extend(["UNSUBSCRIBE a", "GET k"]);
        let client = world.connect(commands(&lines));
        world.clients[client].deaf = true;
        world.settle(20_000);
        world.clients[client].deaf = false;
        world.settle(20_000);
        let got = take(&mut world, client);
        let (before, after) = got
            .split_once("unsubscribe\r\n$1\r\na\r\n:0\r\n")
            .unwrap_or_else(|| panic!("{hello:?}: it is confirmed: {got}"));
        // Values are missing with RESP3, and with RESP2 a subscriber may not ask for them.
        let replies = ["_\r\n", "-ERR Can't execute 'get'"].map(|r| before.matches(r).count());
        assert_eq!(
            replies.iter().sum::<usize>(),
            gets.len(),
            "{hello:?}: {got}"
        );
        assert_eq!(after.len(), if hello.is_some() { 3 } else { 5 }, "{got}");
        assert_all_clean(&world);
    }
}

#[test]
fn a_skipped_reply_is_that_of_the_subscription_and_of_no_later_request() {
    let mut world = redis(2);
    let client = subscriber(
        &mut world,
        &[
            "HELLO 3",
            "CLIENT REPLY SKIP",
            "SUBSCRIBE a",
            "PING",
            "UNSUBSCRIBE",
        ],
    );
    let got = take(&mut world, client);
    let confirmed = |kind, count| confirmed(kind, "a", count).replacen('*', ">", 1);
    let expected = confirmed("subscribe", 1) + "+PONG\r\n" + &confirmed("unsubscribe", 0);
    assert!(got.ends_with(&expected), "{got}");
    assert_all_clean(&world);
}

/// What is refused behind a SUBSCRIBE needs entries of the table, as its confirmation does: the confirmation comes first.
#[test]
fn requests_that_are_refused_do_not_keep_a_confirmation_waiting() {
    let limits = WorkerConfig {
        requests_max: 4,
        client_requests_max: 4,
        ..limits()
    };
    let config = PoolConfig {
        timeout_ms: None,
        ..pool(Protocol::Redis, 2)
    };
    let mut world = World::new(&[config], &limits, 5);
    let mut lines = vec!["SUBSCRIBE a"];
    lines.extend(["BOGUS"; 6]);
    let client = subscriber(&mut world, &lines);
    let error = "-ERR unknown command 'BOGUS'\r\n";
    assert_eq!(
        take(&mut world, client),
        confirmed("subscribe", "a", 1) + &error.repeat(6)
    );
    world.vanish(client);
    world.settle(20_000);
    assert_all_clean(&world);
}
