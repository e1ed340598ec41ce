//! Nothing is left behind: neither state on a server connection that goes to somebody else, nor a client that nobody wakes.

use crate::model::dialects::{GET, STAT, frame, frames};
use crate::model::dialogue::{commands, play, text};
use crate::model::redis::{goes_on, redis};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{Protocol, WorkerConfig};
use tidegate_proxy::streams::{StreamId, Streams};

#[test]
fn a_subscription_of_resp3_with_a_long_name_is_one_all_the_same() {
    for bytes in [10, 1_000, 1_100, 3_000] {
        let mut world = redis(1);
        let name = "n".repeat(bytes);
        let client = world.connect(commands(&["HELLO 3", &format!("SUBSCRIBE {name}")]));
        world.settle(20_000);
        let got = text(&world.clients[client].got);
        assert!(got.contains("subscribe"), "{got}");
        assert_eq!(world.proxy.pool_counters(0).pins, 1, "{bytes}");
        let (got, _) = play(&mut world, &commands(&[&format!("PUBLISH {name} hello")]));
        assert_eq!(got, ":1\r\n");
        let got = goes_on(&mut world, client, &["GET k"]);
        assert!(
            got.contains("hello") && got.ends_with("_\r\n"),
            "{bytes}: {got}"
        );
        let got = goes_on(&mut world, client, &["UNSUBSCRIBE", "GET k"]);
        assert!(got.ends_with("_\r\n"), "{got}");
        let clean = world.servers[0].states.values().filter(|s| s.is_clean());
        assert_eq!(clean.count(), world.servers[0].states.len(), "{bytes}");
    }
}

#[test]
fn clients_of_more_flavours_than_connections_are_kept_do_not_take_them_from_each_other() {
    let mut world = redis(1);
    let clients: Vec<usize> = (1..10)
        .map(|database| {
            let lines = [
                &format!("SELECT {database}"),
                &format!("WATCH k{database}"),
                "MULTI",
                &format!("SET k{database} v"),
                "EXEC",
            ];
            world.connect(commands(&lines))
        })
        .collect();
    world.settle(20_000);
    for client in clients {
        assert_eq!(
            text(&world.clients[client].got),
            "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"
        );
    }
    assert!(world.streams.connects <= 32, "{}", world.streams.connects);
    world.assert_idle("everything was given back");
}

/// Has a client send `lines`, the last of which its server answers with `reply` and does not carry out.
fn refuse_last(world: &mut World, lines: &[&str], reply: &str) -> usize {
    let (last, before) = lines.split_last().unwrap();
    let client = world.connect(commands(before));
    world.settle(20_000);
    world.servers[0].refuses = Some((commands(&[last]), reply.into()));
    world.clients[client].to_send.extend(commands(&[last]));
    world.settle(20_000);
    world.servers[0].refuses = None;
    client
}

#[test]
fn a_connection_whose_server_refused_to_end_its_state_goes_to_nobody_else() {
    for lines in [
        &["MULTI", "SET k v", "EXEC"][..],
        &["MULTI", "SET k v", "DISCARD"],
        &["WATCH k", "UNWATCH"],
        &["WATCH k", "MULTI", "EXEC"],
    ] {
        let mut world = redis(1);
        let client = refuse_last(&mut world, lines, "-BUSY script\r\n");
        let got = text(&world.clients[client].got);
        assert!(got.ends_with("-BUSY script\r\n"), "{lines:?}: {got}");
        let states = world.servers[0].states.values();
        assert!(
            states
                .into_iter()
                .all(crate::model::states::State::is_clean),
            "{lines:?}"
        );
        let large = "x".repeat(10_000);
        let (got, _) = play(&mut world, &resp(&[b"SET", b"k", large.as_bytes()]));
        assert_eq!(got, "+OK\r\n", "{lines:?}");
        let (got, _) = play(&mut world, &commands(&["MULTI", "SET k v", "EXEC"]));
        assert_eq!(got, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n", "{lines:?}");
        world.assert_idle("everything was given back");
    }
}

/// A subscriber of RESP3 that reads nothing, and has asked for a value that does not fit what is held for it.
fn stalled_subscriber(messages: usize) -> (World, usize) {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 4 << 10,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits, 5);
    let value = "v".repeat(6_000);
    play(&mut world, &resp(&[b"SET", b"k", value.as_bytes()]));
    let client = world.connect(commands(&["HELLO 3", "SUBSCRIBE a"]));
    world.settle(20_000);
    world.clients[client].got.clear();
    world.clients[client].deaf = true;
    // Exactly what fits the send buffer, so that the value's turn has come and none of it is sent.
    let filling = format!("ECHO {}", "e".repeat(504));
    goes_on(&mut world, client, &[&filling, "GET k"]);
    for n in 0..messages {
        let publish = format!("PUBLISH a {n}:{}", "m".repeat(90));
        play(&mut world, &commands(&[&publish]));
    }
    world.clients[client].deaf = false;
    world.settle(20_000);
    (world, client)
}

#[test]
fn a_message_does_not_come_before_a_reply_that_its_client_holds_up() {
    let (world, client) = stalled_subscriber(10);
    let got = text(&world.clients[client].got);
    assert!(got.contains(&"v".repeat(6_000)), "{} bytes", got.len());
    assert_eq!(got.matches("message").count(), 10);
    assert!(!got.contains("-ERR"), "{got}");
    assert!(world.clients[client].closed.is_none());
}

#[test]
fn a_subscriber_that_holds_up_a_reply_and_misses_messages_is_closed() {
    for messages in [40, 100] {
        let (mut world, client) = stalled_subscriber(messages);
        assert!(world.clients[client].closed.is_some(), "{messages}");
        assert_eq!(world.proxy.pool_counters(0).clients_closed_stalled, 1);
        world.settle(20_000);
        world.assert_idle("nobody waits for the value");
    }
}

#[test]
fn a_client_with_less_room_than_a_header_does_not_keep_the_worker_busy_for_ever() {
    // Without memory for replies that wait, a header waits for its room.
    let limits = WorkerConfig {
        reply_hold_bytes: 1024,
        ..limits()
    };
    for room in [0, 1, 10, 23, 24] {
        let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits, 5);
        let value = |bytes: usize| vec![b'v'; bytes];
        // The client's send buffer has 512 bytes, and a reply a header of 24 and flags of 4.
        let first = 512 - room - 28;
        let store = &mut world.servers[0].store;
        store.insert(b"first".to_vec(), value(first));
        store.insert(b"large".to_vec(), value(1_200));
        let deaf = world.connect(b"get large\r\n".to_vec());
        world.clients[deaf].deaf = true;
        world.settle(2_000);
        let client = world.connect(frame(GET, b"first", b"", 1));
        world.clients[client].deaf = true;
        world.settle(2_000);
        for opaque in [2, 3] {
            let next = frame(GET, b"first", b"", opaque);
            world.clients[client].to_send = next;
            world.settle(2_000);
        }
        world.clients[client].deaf = false;
        world.settle(20_000);
        let (got, rest) = frames(&world.clients[client].got);
        let lengths: Vec<_> = got.iter().map(|(_, _, n, body)| (*n, body.len())).collect();
        assert_eq!(lengths, [1, 2, 3].map(|n| (n, first + 4)), "{room}");
        assert_eq!(rest, 0);
    }
}

#[test]
fn a_malformed_upload_of_a_subscriber_is_not_taken_for_the_message_behind_it() {
    for message in [
        "",
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n",
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$99\r\nhalf",
    ] {
        let mut world = redis(1);
        let client = world.connect(commands(&["HELLO 3", "SUBSCRIBE a"]));
        world.settle(2_000);
        let own = world.server_slots(0)[0];
        let upload = resp(&[b"SET", b"k", &[b'x'; 10_000]]);
        let (half, rest) = upload.split_at(6_000);
        world.clients[client].to_send = half.to_vec();
        world.settle(2_000);
        let slots = world.server_slots(0);
        let other = *slots.iter().find(|&&slot| slot != own).unwrap();
        for (slot, bytes) in [
            (other, format!("+{}", "o".repeat(600)).as_bytes()),
            (own, message.as_bytes()),
        ] {
            world.streams.stream(StreamId(slot)).received.push(bytes);
            world.streams.mark_ready(StreamId(slot));
            world.settle(2_000);
        }
        assert!(world.clients[client].closed.is_none());
        world.clients[client].to_send = [&rest[..rest.len() - 2], b"xx"].concat();
        world.settle(2_000);
        assert!(world.clients[client].closed.is_some(), "{message}");
        world.assert_idle("after the connection");
    }
}

#[test]
fn a_subscriber_that_has_a_part_of_a_merged_reply_is_reset_and_not_ended_in_order() {
    let mut world = redis(2);
    for n in 0..8 {
        let value = "v".repeat(300);
        play(&mut world, &commands(&[&format!("SET k{n} {value}")]));
    }
    let client = world.connect(commands(&["HELLO 3", "SUBSCRIBE a"]));
    world.settle(2_000);
    world.clients[client].deaf = true;
    world.clients[client].to_send = commands(&["MGET k0 k1 k2 k3 k4 k5 k6 k7"]);
    world.settle(2_000);
    world.proxy.drain(&mut world.streams, world.now_us);
    world.clients[client].deaf = false;
    world.settle(2_000);
    assert!(world.clients[client].closed.is_some());
}

#[test]
fn late_statistics_are_swallowed_with_all_their_frames() {
    for servers in [1, 2] {
        let mut world = World::new(&[pool(Protocol::Memcached, servers)], &limits(), 5);
        let client = world.connect(frame(GET, b"k", b"", 1));
        world.settle(2_000);
        let connects = world.streams.connects;
        world.servers[0].stopped = true;
        world.clients[client].to_send = frame(STAT, b"", b"", 2);
        world.pass(500_000);
        world.servers[0].stopped = false;
        world.clients[client].to_send = frame(GET, b"k", b"", 3);
        world.settle(20_000);
        let (got, rest) = frames(&world.clients[client].got);
        let shown: Vec<_> = got
            .iter()
            .map(|(op, status, n, _)| (*op, *status, *n))
            .collect();
        assert_eq!(shown, [(GET, 1, 1), (STAT, 0x86, 2), (GET, 1, 3)]);
        assert_eq!(rest, 0);
        assert_eq!(world.proxy.server_counters(0).protocol_errors, 0);
        assert!(
            world.streams.connects < connects + servers,
            "the connection was kept"
        );
    }
}
