//! WATCH, MULTI and EXEC over several servers: what a client of one Redis would see, or an error that says why not.

use crate::model::dialogue::{commands, keys_of_both, play};
use crate::model::redis::{assert_all_clean, goes_on, redis, says, take};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{Distribution, PoolConfig, Protocol};

#[test]
fn a_transaction_is_executed_where_its_keys_are_and_its_connection_is_used_again() {
    let mut world = redis(2);
    let [[a, _], [b, _]] = keys_of_both(&mut world);
    let connects = world.streams.connects;
    for (key, server) in [(&a, 0), (&b, 1)] {
        for _ in 0..3 {
            let lines = [
                "MULTI",
                &format!("SET {key} x"),
                &format!("GET {key}"),
                "EXEC",
            ];
            let got = says(&mut world, &lines);
            assert_eq!(got, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\nx\r\n");
        }
        assert!(world.servers[server].seen.contains(&commands(&["EXEC"])));
    }
    assert_eq!(world.streams.connects, connects + 2, "one for each server");
    assert_eq!(world.proxy.pool_counters(0).transactions, 6);
    assert_all_clean(&world);
}

#[test]
fn mistakes_are_answered_in_the_words_of_redis() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    let set = format!("SET {a} x");
    let (watch, get) = (format!("WATCH {a}"), format!("GET {a}"));
    for (lines, expected) in [
        (
            &["EXEC", "DISCARD", "UNWATCH"][..],
            "-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n+OK\r\n",
        ),
        (
            &["MULTI", "EXEC", "EXEC"],
            "+OK\r\n*0\r\n-ERR EXEC without MULTI\r\n",
        ),
        (
            &["MULTI", "MULTI", &set, "EXEC"],
            "+OK\r\n-ERR MULTI calls can not be nested\r\n+QUEUED\r\n*1\r\n+OK\r\n",
        ),
        (
            &["MULTI", &watch, &set, "EXEC"],
            "+OK\r\n-ERR WATCH inside MULTI is not allowed\r\n+QUEUED\r\n*1\r\n+OK\r\n",
        ),
        (&["MULTI", "DISCARD", &get], "+OK\r\n+OK\r\n$1\r\nx\r\n"),
        (
            &["MULTI", &set, "DISCARD", &get],
            "+OK\r\n+QUEUED\r\n+OK\r\n$1\r\nx\r\n",
        ),
        (
            &["MULTI", &set, "GET", &set, "EXEC", &get],
            "+OK\r\n+QUEUED\r\n-ERR wrong number of arguments for 'get' command\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\nx\r\n",
        ),
        (
            &["MULTI", "BOGUS", "EXEC"],
            "+OK\r\n-ERR unknown command 'BOGUS'\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
        (
            &["MULTI", &format!("LLEN {a}"), "EXEC"],
            "+OK\r\n-ERR refused while queueing\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
        ),
    ] {
        assert_eq!(says(&mut world, lines), expected, "{lines:?}");
    }
    assert_all_clean(&world);
}

#[test]
fn what_belongs_elsewhere_aborts_the_transaction() {
    let mut world = redis(2);
    let [[a, a2], [b, _]] = keys_of_both(&mut world);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    for line in [
        format!("SET {b} y"),
        format!("MGET {a} {b}"),
        format!("RENAME {a} {b}"),
        format!("BLPOP {a} {b} 0"),
        format!("BLPOP {b} 0"),
    ] {
        let lines = ["MULTI", &format!("SET {a} {a2}"), &line, "EXEC"];
        let got = says(&mut world, &lines);
        let start = "+OK\r\n+QUEUED\r\n-CROSSSLOT Keys of a transaction must belong to one server";
        assert!(
            got.starts_with(start) && got.ends_with(aborted),
            "{line}: {got}"
        );
    }
    for line in [
        "DBSIZE",
        "SCAN 0",
        "SUBSCRIBE c",
        "SELECT 0",
        "CLIENT ID",
        "AUTH x",
    ] {
        let got = says(&mut world, &["MULTI", line, &format!("GET {a}"), "EXEC"]);
        assert!(
            got.starts_with("+OK\r\n-ERR ") && got.ends_with(aborted),
            "{line}: {got}"
        );
        let got = says(&mut world, &["MULTI", &format!("GET {a}"), line, "EXEC"]);
        assert!(
            got.starts_with("+OK\r\n+QUEUED\r\n-ERR ") && got.ends_with(aborted),
            "{line}: {got}"
        );
    }
    assert_eq!(world.proxy.pool_counters(0).transactions_aborted, 17);
    assert_all_clean(&world);
}

#[test]
fn several_keys_of_one_server_stay_together() {
    let mut world = redis(2);
    let [_, [b, b2]] = keys_of_both(&mut world);
    let lines = [
        "MULTI",
        &format!("MSET {b} 1 {b2} 2"),
        &format!("MGET {b} {b2}"),
        &format!("DEL {b} {b2}"),
        &format!("BLPOP {b} {b2} 0"),
        "EXEC",
    ];
    let queued = "+QUEUED\r\n".repeat(4);
    let expected = format!("+OK\r\n{queued}*4\r\n+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n:2\r\n*-1\r\n");
    assert_eq!(says(&mut world, &lines), expected);
    assert_eq!(world.proxy.pool_counters(0).requests_split, 0);
    assert_all_clean(&world);
}

#[test]
fn commands_without_a_key_wait_for_the_one_that_chooses_the_server() {
    let mut world = redis(2);
    let [_, [b, _]] = keys_of_both(&mut world);
    let got = says(
        &mut world,
        &["MULTI", "PING", "TIME", &format!("GET {b}"), "PING", "EXEC"],
    );
    let queued = "+QUEUED\r\n".repeat(4);
    assert!(
        got.starts_with(&format!("+OK\r\n{queued}*4\r\n+PONG\r\n*2\r\n")),
        "{got}"
    );
    assert!(got.ends_with("+PONG\r\n"), "{got}");
    let got = says(&mut world, &["MULTI", "PING", "EXEC"]);
    assert_eq!(got, "+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n");
    let got = says(&mut world, &["MULTI", "PING", "DISCARD", "PING"]);
    assert_eq!(got, "+OK\r\n+QUEUED\r\n+OK\r\n+PONG\r\n");
    let many: Vec<&str> = std::iter::once("MULTI")
        .chain(["PING"; 17])
        .chain(["EXEC"])
        .collect();
    let got = says(&mut world, &many);
    assert!(
        got.contains("-ERR too many commands without a key"),
        "{got}"
    );
    assert!(got.ends_with("-EXECABORT Transaction discarded because of previous errors.\r\n"));
    assert_all_clean(&world);
}

#[test]
fn a_publication_belongs_to_the_server_of_all_channels() {
    let mut world = redis(2);
    let [[a, _], [b, _]] = keys_of_both(&mut world);
    let got = says(
        &mut world,
        &["MULTI", &format!("GET {a}"), "PUBLISH c m", "EXEC"],
    );
    assert!(got.ends_with(":0\r\n"), "{got}");
    let got = says(
        &mut world,
        &["MULTI", &format!("GET {b}"), "PUBLISH c m", "EXEC"],
    );
    assert!(got.contains("-CROSSSLOT"), "{got}");
    assert_all_clean(&world);
}

#[test]
fn a_watched_key_that_changes_makes_exec_answer_nothing() {
    let mut world = redis(2);
    let [_, [b, b2]] = keys_of_both(&mut world);
    let first = world.connect(commands(&[&format!("WATCH {b}"), &format!("GET {b}")]));
    world.settle(20_000);
    take(&mut world, first);
    says(&mut world, &[&format!("SET {b} other")]);
    let lines = [
        "MULTI",
        &format!("SET {b} mine"),
        "EXEC",
        &format!("GET {b}"),
    ];
    let got = goes_on(&mut world, first, &lines);
    assert_eq!(got, "+OK\r\n+QUEUED\r\n*-1\r\n$5\r\nother\r\n");
    // Nothing changes it this time, and nothing is left of the first.
    let got = goes_on(
        &mut world,
        first,
        &[&format!("WATCH {b}"), &format!("WATCH {b2}")],
    );
    assert_eq!(got, "+OK\r\n+OK\r\n");
    let got = goes_on(&mut world, first, &lines);
    assert_eq!(got, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$4\r\nmine\r\n");
    // Without a command in between the conflict shows as well.
    goes_on(&mut world, first, &[&format!("WATCH {b}")]);
    says(&mut world, &[&format!("SET {b} other")]);
    assert_eq!(
        goes_on(&mut world, first, &["MULTI", "EXEC"]),
        "+OK\r\n*-1\r\n"
    );
    for end in [&["UNWATCH"][..], &["MULTI", "DISCARD"]] {
        goes_on(&mut world, first, &[&format!("WATCH {b}")]);
        goes_on(&mut world, first, end);
        says(&mut world, &[&format!("SET {b} other")]);
        let got = goes_on(&mut world, first, &["MULTI", &format!("GET {b}"), "EXEC"]);
        assert_eq!(got, "+OK\r\n+QUEUED\r\n*1\r\n$5\r\nother\r\n");
    }
    assert_all_clean(&world);
}

#[test]
fn keys_of_several_servers_cannot_be_watched_but_others_can_be_read() {
    let mut world = redis(2);
    let [[a, a2], [b, _]] = keys_of_both(&mut world);
    assert!(says(&mut world, &[&format!("WATCH {a} {b}")]).starts_with("-CROSSSLOT Watched keys"));
    let lines = [
        format!("WATCH {a}"),
        format!("WATCH {b}"),
        format!("MGET {a} {b}"),
        format!("GET {b}"),
        format!("BLPOP {a} 0"),
        "SUBSCRIBE c".to_owned(),
        "EXEC".to_owned(),
        "DISCARD".to_owned(),
        "MULTI".to_owned(),
        format!("SET {a2} 1"),
        "EXEC".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let got = says(&mut world, &lines);
    let parts = [
        "+OK\r\n-CROSSSLOT",
        "*2\r\n",
        "-ERR a connection that watches",
        "-ERR EXEC without",
        "-ERR DISCARD without",
        "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n",
    ];
    let mut at = 0;
    for part in parts {
        at += got[at..]
            .find(part)
            .unwrap_or_else(|| panic!("{part} in {got}"));
    }
    assert_all_clean(&world);
}

#[test]
fn with_one_server_everything_belongs_there() {
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits(), 5);
    let lines = [
        "WATCH a b c",
        "MULTI",
        "PING",
        "MSET a 1 b 2",
        "MGET a b",
        "BLPOP l m 0",
        "WAIT 0 0",
        "EXEC",
    ];
    let got = says(&mut world, &lines);
    assert!(
        got.ends_with("*5\r\n+PONG\r\n+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n*-1\r\n:0\r\n"),
        "{got}"
    );
    assert_all_clean(&world);
}

#[test]
fn where_keys_have_no_server_the_transaction_stays_where_it_began() {
    let config = PoolConfig {
        distribution: Distribution::Random,
        ..pool(Protocol::Redis, 3)
    };
    let mut world = World::new(&[config], &limits(), 5);
    for _ in 0..20 {
        let got = says(
            &mut world,
            &[
                "WATCH x y",
                "MULTI",
                "SET a 1",
                "MSET b 1 c 1",
                "GET a",
                "EXEC",
            ],
        );
        assert!(got.ends_with("*3\r\n+OK\r\n+OK\r\n$1\r\n1\r\n"), "{got}");
    }
    assert_all_clean(&world);
}

#[test]
fn large_values_are_part_of_a_transaction() {
    for piece in [3, 700] {
        let mut world = redis(2);
        world.piece = piece;
        let [[a, _], [b, _]] = keys_of_both(&mut world);
        let value = vec![b'x'; 9_000];
        let set = resp(&[b"SET", a.as_bytes(), &value]);
        let transaction = [
            commands(&["MULTI"]),
            set.clone(),
            commands(&[&format!("GET {a}"), "EXEC"]),
        ]
        .concat();
        let (got, _) = play(&mut world, &transaction);
        assert!(
            got.starts_with("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$9000\r\nx"),
            "{}",
            &got[..60]
        );
        // Elsewhere, and in a request that would be divided if it could be.
        let elsewhere = resp(&[b"SET", b.as_bytes(), &value]);
        let transaction = [
            commands(&["MULTI", &format!("GET {a}")]),
            elsewhere,
            commands(&["EXEC", "PING"]),
        ]
        .concat();
        let (got, _) = play(&mut world, &transaction);
        assert!(
            got.starts_with("+OK\r\n+QUEUED\r\n-CROSSSLOT") && got.ends_with("+PONG\r\n"),
            "{got}"
        );
        let divided = resp(&[b"MSET", a.as_bytes(), &value, b.as_bytes(), &value]);
        let transaction = [
            commands(&["MULTI", &format!("GET {a}")]),
            divided,
            commands(&["EXEC", "PING"]),
        ]
        .concat();
        let (got, _) = play(&mut world, &transaction);
        assert!(
            got.contains("-ERR Request too large") && got.contains("-EXECABORT"),
            "{got}"
        );
        assert!(got.ends_with("+PONG\r\n"), "{got}");
        // A malformed end closes the connection, and a client may go away in the middle.
        let broken = [
            commands(&["MULTI"]),
            set[..set.len() - 2].to_vec(),
            b"XX".to_vec(),
        ]
        .concat();
        let client = world.connect(broken);
        world.settle(20_000);
        assert!(world.clients[client].finished || world.clients[client].closed.is_some());
        let half = world.connect([commands(&["MULTI"]), set[..6_000].to_vec()].concat());
        world.settle(20_000);
        world.vanish(half);
        world.settle(20_000);
        assert_all_clean(&world);
    }
}

#[test]
fn requests_before_and_behind_a_transaction_keep_their_order() {
    let mut world = redis(2);
    let [[a, _], [b, _]] = keys_of_both(&mut world);
    let mut requests = Vec::new();
    let mut expected = String::new();
    for n in 0..30 {
        requests.extend(commands(&[
            &format!("SET {a} {n}"),
            &format!("SET {b} {n}"),
            "MULTI",
            &format!("GET {a}"),
            "EXEC",
            &format!("GET {b}"),
        ]));
        let bulk = format!("${}\r\n{n}\r\n", n.to_string().len());
        for part in ["+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n", &bulk, &bulk] {
            expected.push_str(part);
        }
    }
    let (got, _) = play(&mut world, &requests);
    assert_eq!(got, expected);
    assert_all_clean(&world);
}
