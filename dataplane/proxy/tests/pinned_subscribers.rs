//! Subscriptions: every message in order, between replies and never in place of one, and no server left with them.

mod model;

use model::dialogue::{commands, keys_of_both, play, text};
use model::traffic::resp;
use model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret, WorkerConfig};
use tidegate_protocol::{ReplyScanner, ReplyShape};
use tidegate_proxy::streams::{ServerId, StreamId};

fn world() -> World {
    World::new(&[pool(Protocol::Redis, 2)], &limits(), 5)
}

fn says(world: &mut World, lines: &[&str]) -> String {
    play(world, &commands(lines)).0
}

fn subscriber(world: &mut World, lines: &[&str]) -> usize {
    let client = world.connect(commands(lines));
    world.settle(20_000);
    client
}

fn take(world: &mut World, client: usize) -> String {
    text(&std::mem::take(&mut world.clients[client].got))
}

fn goes_on(world: &mut World, client: usize, lines: &[&str]) -> String {
    world.clients[client].to_send.extend(commands(lines));
    world.settle(20_000);
    take(world, client)
}

fn message(channel: &str, message: &str) -> String {
    text(&resp(&[b"message", channel.as_bytes(), message.as_bytes()]))
}

fn confirmed(kind: &str, channel: &str, count: usize) -> String {
    let (k, c) = (kind.len(), channel.len());
    format!("*3\r\n${k}\r\n{kind}\r\n${c}\r\n{channel}\r\n:{count}\r\n")
}

fn assert_all_clean(world: &World) {
    let states = world.servers.iter().flat_map(|s| s.states.values());
    assert!(states.into_iter().all(model::states::State::is_clean));
    world.assert_idle("everything was given back");
    assert_eq!(world.proxy.pool_counters(0).pins, 0);
}

#[test]
fn messages_arrive_and_the_connection_is_clean_afterwards() {
    let mut world = world();
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
    let mut world = world();
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
    let mut world = world();
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
    let mut world = world();
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
        let mut world = world();
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
fn a_subscriber_that_does_not_read_costs_its_bound_and_then_its_connection() {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 4 << 10,
        client_stall_ms: 200,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 2)], &limits, 5);
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    let other = subscriber(&mut world, &["SUBSCRIBE a"]);
    take(&mut world, client);
    world.clients[client].deaf = true;
    let mut requests = Vec::new();
    let mut expected = confirmed("subscribe", "a", 1);
    for n in 0..300 {
        let body = format!("{n}:{}", "y".repeat(90));
        requests.extend(resp(&[b"PUBLISH", b"a", body.as_bytes()]));
        expected += &message("a", &body);
    }
    world.connect(requests);
    world.pass(100_000);
    let held = world.proxy.tables_in_use().reply_hold_bytes;
    assert!(held > 0 && held <= 6 << 10, "{held}");
    assert!(world.clients[client].closed.is_none());
    world.pass(400_000);
    assert!(world.clients[client].closed.is_some());
    assert_eq!(world.proxy.pool_counters(0).clients_closed_stalled, 1);
    assert!(
        take(&mut world, other) == expected,
        "nobody else is held up"
    );
    world.vanish(other);
    world.settle(20_000);
    assert_all_clean(&world);
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
fn the_subscriber_of_a_server_that_dies_is_closed_and_told_nothing_else() {
    for way in 0..3 {
        let mut world = world();
        let client = subscriber(&mut world, &["SUBSCRIBE a"]);
        says(&mut world, &["PUBLISH a before"]);
        let before = confirmed("subscribe", "a", 1) + &message("a", "before");
        match way {
            0 => world.crash(0),
            1 => world.hang_up(0),
            _ => {
                // In the middle of a message.
                let slot = world.server_slots(0)[0];
                world.outputs.insert(
                    slot,
                    b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$50\r\nhalf".to_vec(),
                );
                world.settle(20_000);
                world.crash(0);
            }
        }
        world.settle(20_000);
        let state = &world.clients[client];
        if way == 2 {
            assert!(
                state.closed.is_some(),
                "half a message cannot pass for a whole one"
            );
        } else {
            assert!(state.finished && state.closed.is_none());
            assert_eq!(text(&state.got), before);
        }
        assert_eq!(world.proxy.pool_counters(0).clients_closed_lost, 1);
        let mut events = std::iter::from_fn(|| world.proxy.take_event());
        assert!(events.next().is_some(), "the log says why");
        assert_all_clean(&world);
    }
}

#[test]
fn a_server_that_babbles_ends_the_subscription() {
    for garbage in [
        &b"?what\r\n"[..],
        b"*3\r\n$7\r\nmessage\r\n$x\r\n",
        b"+OK\r\n",
        b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
        b"$-1\r\n",
    ] {
        let mut world = world();
        let client = subscriber(&mut world, &["SUBSCRIBE a"]);
        let slot = world.server_slots(0)[0];
        world.outputs.insert(slot, garbage.to_vec());
        world.settle(20_000);
        let state = &world.clients[client];
        assert!(
            state.finished || state.closed.is_some(),
            "{}",
            garbage.escape_ascii()
        );
        assert_eq!(world.proxy.server_counters(0).protocol_errors, 1);
        assert_all_clean(&world);
    }
}

#[test]
fn a_subscription_that_does_not_come_about_is_an_error() {
    let mut world = world();
    world.streams.refuse.push(ServerId(0));
    let got = says(&mut world, &["SUBSCRIBE a", "PING"]);
    assert_eq!(got, "-ERR Connection refused\r\n+PONG\r\n");
    world.streams.unreachable.push(ServerId(0));
    let got = says(&mut world, &["SUBSCRIBE a", "PING"]);
    assert_eq!(got, "-ERR No route to host\r\n+PONG\r\n");
    assert_eq!(world.proxy.pool_counters(0).clients_closed_lost, 0);
    assert_all_clean(&world);
    for refuses in [true, false] {
        let config = PoolConfig {
            server_auth: Some(Secret::new("secret".into())),
            ..pool(Protocol::Redis, 1)
        };
        let mut world = World::new(&[config], &limits(), 5);
        if refuses {
            world.servers[0].garbage = Some(b"-WRONGPASS no\r\n".to_vec());
            let got = says(&mut world, &["SUBSCRIBE a", "PING"]);
            assert!(
                got.contains("server_auth") && got.ends_with("+PONG\r\n"),
                "{got}"
            );
        } else {
            let got = says(&mut world, &["SUBSCRIBE a", "UNSUBSCRIBE", "PING"]);
            assert!(got.ends_with(":0\r\n+PONG\r\n"), "{got}");
        }
        assert_all_clean(&world);
    }
}

#[test]
fn a_refused_subscription_is_told_and_nothing_is_kept() {
    let mut world = world();
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    take(&mut world, client);
    // As an access list would: the error comes in place of the confirmations, in front of the answer to the mark.
    let pong = "*2\r\n$4\r\npong\r\n$8\r\ntidegate\r\n";
    answer_with(
        &mut world,
        client,
        "SUBSCRIBE b",
        &format!("-NOPERM no\r\n{pong}"),
    );
    assert_eq!(take(&mut world, client), "-NOPERM no\r\n");
    says(&mut world, &["PUBLISH a m"]);
    assert_eq!(take(&mut world, client), message("a", "m"));
    // What is left is not known without an answer to the mark, so the connection goes to nobody else.
    answer_with(
        &mut world,
        client,
        "SUBSCRIBE c",
        "-NOPERM no\r\n-NOPERM no\r\n",
    );
    assert_eq!(take(&mut world, client), "-NOPERM no\r\n");
    assert!(world.clients[client].finished);
    assert_all_clean(&world);
}

/// Has a subscriber ask, and lets the server answer with `reply` whatever it is.
fn answer_with(world: &mut World, client: usize, line: &str, reply: &str) {
    let states = &world.servers[0].states;
    let of_subscriber = |slot: &u32| states.get(slot).is_some_and(|state| !state.is_clean());
    let slot = world
        .server_slots(0)
        .into_iter()
        .find(of_subscriber)
        .unwrap();
    world.servers[0].stopped = true;
    world.clients[client].to_send = commands(&[line]);
    world.settle(20_000);
    world.streams.stream(StreamId(slot)).sent.clear();
    world.outputs.insert(slot, reply.as_bytes().to_vec());
    world.servers[0].stopped = false;
    world.settle(20_000);
}

#[test]
fn clients_that_leave_take_their_subscriptions_with_them() {
    let mut world = world();
    for half in [false, true] {
        let client = subscriber(&mut world, &["SUBSCRIBE a", "PSUBSCRIBE *"]);
        if half {
            world.clients[client].half_close_when_sent = true;
        } else {
            world.vanish(client);
        }
        world.settle(20_000);
        assert_all_clean(&world);
    }
    let got = says(&mut world, &["SUBSCRIBE a", "QUIT"]);
    assert_eq!(got, confirmed("subscribe", "a", 1) + "+OK\r\n");
    assert_all_clean(&world);
}

#[test]
fn a_subscriber_quits_behind_the_message_that_is_under_way() {
    let mut world = world();
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    take(&mut world, client);
    let slot = world.server_slots(0)[0];
    world
        .outputs
        .insert(slot, b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nha".to_vec());
    world.settle(20_000);
    world.clients[client].to_send = commands(&["QUIT"]);
    world.settle(20_000);
    assert!(!world.clients[client].finished);
    world.outputs.insert(
        slot,
        b"lf\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\nmore\r\n".to_vec(),
    );
    world.settle(20_000);
    assert_eq!(take(&mut world, client), message("a", "half") + "+OK\r\n");
    assert!(world.clients[client].finished);
    assert_all_clean(&world);
}

#[test]
fn many_subscribers_hear_the_same() {
    let mut world = world();
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
    let busy = world.connect(commands(&[&line, &line, &line, &line]));
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
    world.vanish(busy);
    world.vanish(client);
    world.settle(20_000);
    assert_all_clean(&world);
}

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

fn pushed(resp2: &str) -> String {
    resp2.replacen('*', ">", 1)
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
    let mut world = world();
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
        let mut world = world();
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
    let mut world = world();
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
    let mut world = world();
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

#[test]
fn a_drained_proxy_closes_subscribers() {
    let mut world = world();
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    world.proxy.drain(&mut world.streams, world.now_us);
    world.settle(20_000);
    assert!(world.clients[client].finished && world.proxy.is_drained());
    assert_all_clean(&world);
}

/// A confirmation is written where messages are, in front of replies that wait. It must not be told before those to earlier requests.
#[test]
fn confirmations_keep_the_order_of_requests() {
    for hello in [None, Some("HELLO 3")] {
        let mut world = world();
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
    let mut world = world();
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

#[test]
fn nothing_follows_the_error_that_ends_the_connection_of_a_subscriber() {
    let mut world = world();
    let client = subscriber(&mut world, &["HELLO 3", "SUBSCRIBE a"]);
    take(&mut world, client);
    world.clients[client].deaf = true;
    for _ in 0..40 {
        says(&mut world, &["PUBLISH a message"]);
    }
    world.clients[client].to_send.extend(b"\"\r\n");
    world.settle(20_000);
    says(&mut world, &["PUBLISH a late"]);
    world.clients[client].deaf = false;
    world.settle(20_000);
    let got = take(&mut world, client);
    assert!(got.starts_with(">3\r\n$7\r\nmessage"), "{got}");
    assert!(
        got.ends_with("-ERR Protocol error: unbalanced quotes in request\r\n"),
        "{got}"
    );
    assert!(world.clients[client].finished);
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
