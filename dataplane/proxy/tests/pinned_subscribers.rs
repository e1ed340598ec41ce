//! Subscriptions: every message in order, between replies and never in place of one, and no server left with them.

use crate::model::dialogue::{commands, keys_of_both, text};
use crate::model::redis::{
    assert_all_clean, confirmed, goes_on, message, redis, says, subscriber, take,
};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};

#[test]
fn messages_arrive_and_the_connection_is_clean_afterwards() {
    let mut world = redis(2);
    let client = subscriber(&mut world, &["SUBSCRIBE a b", "PSUBSCRIBE n*"]);
    let expected = [
        confirmed("subscribe", "a", 1),
        confirmed("subscribe", "b", 2),
        confirmed("psubscribe", "n*", 3),
    ];
    assert_eq!(take(&mut world, client), expected.concat());
    assert_eq!(
        says(
            &mut world,
            &["PUBLISH a one", "PUBLISH news two", "PUBLISH c three"]
        ),
        ":1\r\n:1\r\n:0\r\n"
    );
    let pattern = text(&resp(&[b"pmessage", b"n*", b"news", b"two"]));
    assert_eq!(take(&mut world, client), message("a", "one") + &pattern);
    let got = goes_on(&mut world, client, &["UNSUBSCRIBE", "PING"]);
    let ends = confirmed("unsubscribe", "a", 2) + &confirmed("unsubscribe", "b", 1);
    assert_eq!(got, ends + "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    let got = goes_on(
        &mut world,
        client,
        &["PUNSUBSCRIBE", "PING", "SET k v", "GET k"],
    );
    assert_eq!(
        got,
        confirmed("punsubscribe", "n*", 0) + "+PONG\r\n+OK\r\n$1\r\nv\r\n"
    );
    assert_all_clean(&world);
    // Everything on one server, whichever the names.
    assert!(
        world.servers[1]
            .seen
            .iter()
            .all(|request| !request.windows(9).any(|w| w == b"SUBSCRIBE"))
    );
    let connects = world.streams.connects;
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    assert_eq!(
        world.streams.connects, connects,
        "the connection was used again"
    );
    assert_eq!(take(&mut world, client), confirmed("subscribe", "a", 1));
}

#[test]
fn an_unsubscription_of_nothing_is_answered_by_the_server() {
    let mut world = redis(2);
    let nothing = "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n";
    assert_eq!(
        says(&mut world, &["UNSUBSCRIBE", "PING"]),
        format!("{nothing}+PONG\r\n")
    );
    let got = says(&mut world, &["PUNSUBSCRIBE a b", "SUNSUBSCRIBE", "GET k"]);
    let expected = confirmed("punsubscribe", "a", 0) + &confirmed("punsubscribe", "b", 0);
    assert!(
        got.starts_with(&expected) && got.ends_with(":0\r\n$-1\r\n"),
        "{got}"
    );
    assert_all_clean(&world);
}

#[test]
fn a_subscriber_may_ask_little_else() {
    let mut world = redis(2);
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    take(&mut world, client);
    for line in [
        "GET k",
        "MULTI",
        "EXEC",
        "BLPOP k 0",
        "MGET k l",
        "SELECT 0",
        "PUBLISH a b",
        "DBSIZE",
        "SCRIPT LOAD x",
    ] {
        let got = goes_on(&mut world, client, &[line]);
        let mut words = line.split(' ');
        let mut name = words.next().unwrap().to_lowercase();
        if name == "script" {
            name += "|load";
        }
        assert_eq!(
            got,
            format!(
                "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n"
            )
        );
    }
    assert_eq!(
        goes_on(&mut world, client, &["BOGUS"]),
        "-ERR unknown command 'BOGUS'\r\n"
    );
    let large = resp(&[b"SET", b"k", &[b'x'; 9000]]);
    world.clients[client].to_send = [large, commands(&["PING hello"])].concat();
    world.settle(20_000);
    let got = take(&mut world, client);
    assert!(
        got.starts_with("-ERR Can't execute this command")
            && got.ends_with("*2\r\n$4\r\npong\r\n$5\r\nhello\r\n"),
        "{got}"
    );
    let many: Vec<Vec<u8>> = (0..900).map(|n| format!("key{n}").into_bytes()).collect();
    let mut mget: Vec<&[u8]> = vec![b"MGET"];
    mget.extend(many.iter().map(Vec::as_slice));
    world.clients[client].to_send = [resp(&mget), commands(&["PING"])].concat();
    world.settle(20_000);
    let got = take(&mut world, client);
    assert!(
        got.starts_with("-ERR ") && got.ends_with("*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
        "{got}"
    );
    says(&mut world, &["PUBLISH a still-there"]);
    assert_eq!(take(&mut world, client), message("a", "still-there"));
}

#[test]
fn shard_channels_belong_to_their_servers() {
    let mut world = redis(2);
    let [[a, a2], [b, _]] = keys_of_both(&mut world);
    let client = subscriber(&mut world, &[&format!("SSUBSCRIBE {b}")]);
    assert_eq!(take(&mut world, client), confirmed("ssubscribe", &b, 1));
    assert!(
        world.servers[1]
            .states
            .values()
            .any(|state| !state.is_clean())
    );
    for line in [format!("SSUBSCRIBE {a}"), "SUBSCRIBE c".to_owned()] {
        let got = goes_on(&mut world, client, &[&line]);
        assert!(got.starts_with("-CROSSSLOT Subscriptions"), "{got}");
    }
    let got = says(&mut world, &[&format!("SSUBSCRIBE {a} {b}")]);
    assert!(got.starts_with("-CROSSSLOT Subscriptions"), "{got}");
    assert_eq!(
        goes_on(&mut world, client, &[&format!("SUNSUBSCRIBE {b}"), "PING"]),
        confirmed("sunsubscribe", &b, 0) + "+PONG\r\n"
    );
    // With the server of all channels they can be mixed.
    let got = goes_on(
        &mut world,
        client,
        &["SUBSCRIBE c", &format!("SSUBSCRIBE {a} {a2}")],
    );
    assert!(got.ends_with(":3\r\n"), "{got}");
    world.vanish(client);
    world.settle(20_000);
    assert_all_clean(&world);
}

#[test]
fn thousands_of_messages_of_any_size_arrive_in_order_in_any_pieces() {
    for piece in [5, 60, 700] {
        let mut world = redis(2);
        world.piece = piece;
        let client = subscriber(&mut world, &["SUBSCRIBE a"]);
        let mut expected = confirmed("subscribe", "a", 1);
        let count = if piece == 5 { 200 } else { 2_000 };
        let mut requests = Vec::new();
        for n in 0..count {
            let mut body = format!("[{n}]\r\n*2\r\n");
            if n % 50 == 7 {
                body += &"x".repeat(3_000);
            }
            requests.extend(resp(&[b"PUBLISH", b"a", body.as_bytes()]));
            expected += &message("a", &body);
        }
        let publisher = world.connect(requests);
        world.settle(400_000);
        assert_eq!(text(&world.clients[publisher].got), ":1\r\n".repeat(count));
        assert!(take(&mut world, client) == expected, "piece {piece}");
        assert_eq!(world.proxy.pool_counters(0).pushes, count as u64 + 1);
    }
}

#[test]
fn a_slow_subscriber_gets_everything_and_can_unsubscribe() {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 4 << 10,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 2)], &limits, 5);
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    let mut expected = take(&mut world, client);
    let mut requests = Vec::new();
    for n in 0..200 {
        let body = format!("{n}:{}", "z".repeat(200));
        requests.extend(resp(&[b"PUBLISH", b"a", body.as_bytes()]));
        expected = if n == 0 {
            message("a", &body)
        } else {
            expected + &message("a", &body)
        };
    }
    world.clients[client].deaf = true;
    world.connect(requests);
    world.settle(20_000);
    world.clients[client].to_send = commands(&["UNSUBSCRIBE", "PING"]);
    for _ in 0..1_000 {
        world.clients[client].deaf ^= true;
        world.settle(3);
    }
    world.clients[client].deaf = false;
    world.settle(20_000);
    let got = take(&mut world, client);
    assert_eq!(
        got,
        expected + &confirmed("unsubscribe", "a", 0) + "+PONG\r\n"
    );
    assert_all_clean(&world);
}

#[test]
fn many_subscribers_hear_the_same() {
    let mut world = redis(2);
    let clients: Vec<usize> = (0..50)
        .map(|_| world.connect(commands(&["SUBSCRIBE a"])))
        .collect();
    world.settle(20_000);
    let requests: Vec<String> = (0..100).map(|n| format!("PUBLISH a {n}")).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    assert_eq!(says(&mut world, &requests), ":50\r\n".repeat(100));
    let messages: String = (0..100).map(|n| message("a", &n.to_string())).collect();
    let expected = confirmed("subscribe", "a", 1) + &messages;
    for client in clients {
        assert_eq!(take(&mut world, client), expected);
        world.vanish(client);
    }
    world.settle(20_000);
    assert_all_clean(&world);
}

#[test]
fn a_full_table_of_requests_delays_messages_and_loses_none() {
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
    let [_, [b, _]] = keys_of_both(&mut world);
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    take(&mut world, client);
    world.servers[1].stopped = true;
    let line = format!("GET {b}");
    // The last entry is only for clients that have none.
    let busy = [(); 4].map(|()| world.connect(commands(&[&line])));
    world.settle(20_000);
    let slot = world
        .server_slots(0)
        .into_iter()
        .find(|slot| !world.servers[0].states[slot].is_clean());
    let bytes = message("a", "one") + &message("a", "two");
    world
        .outputs
        .insert(slot.unwrap(), bytes.clone().into_bytes());
    world.settle(20_000);
    assert_eq!(take(&mut world, client), "");
    world.servers[1].stopped = false;
    world.settle(20_000);
    assert_eq!(take(&mut world, client), bytes);
    for client in busy {
        world.vanish(client);
    }
    world.vanish(client);
    world.settle(20_000);
    assert_all_clean(&world);
}
