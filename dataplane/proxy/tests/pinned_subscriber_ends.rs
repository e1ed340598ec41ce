//! How subscriptions end: by the client, by a server that dies or misbehaves, by us. Nothing is left, and nobody misses a message without
//! knowing.

use crate::model::dialogue::{commands, play, text};
use crate::model::redis::{assert_all_clean, confirmed, message, redis, says, subscriber, take};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret, WorkerConfig};
use tidegate_proxy::streams::{ServerId, StreamId};

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
fn the_subscriber_of_a_server_that_dies_is_closed_and_told_nothing_else() {
    for way in 0..3 {
        let mut world = redis(2);
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
        let mut world = redis(2);
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
    let mut world = redis(2);
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
    let mut world = redis(2);
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
    let mut world = redis(2);
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
    let outcome = play(&mut world, &commands(&["SUBSCRIBE a", "QUIT"]));
    let expected = confirmed("subscribe", "a", 1) + "+OK\r\n";
    assert_eq!(outcome, (expected, true));
    assert_all_clean(&world);
}

#[test]
fn a_subscriber_quits_behind_the_message_that_is_under_way() {
    let mut world = redis(2);
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
fn a_drained_proxy_closes_subscribers() {
    let mut world = redis(2);
    let client = subscriber(&mut world, &["SUBSCRIBE a"]);
    world.proxy.drain(&mut world.streams, world.now_us);
    world.settle(20_000);
    assert!(world.clients[client].finished && world.proxy.is_drained());
    assert_all_clean(&world);
}

#[test]
fn nothing_follows_the_error_that_ends_the_connection_of_a_subscriber() {
    let mut world = redis(2);
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
