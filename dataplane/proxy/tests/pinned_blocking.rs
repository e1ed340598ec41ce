//! Commands that wait: for as long as they like, for nobody else, and not for a client that is gone.

use crate::model::dialogue::{commands, keys_of_both, text};
use crate::model::redis::{assert_all_clean, redis, says};
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol};
use tidegate_proxy::streams::ServerId;

#[test]
fn a_client_waits_longer_than_any_timeout_and_nobody_with_it() {
    let mut world = redis(2);
    let [[a, a2], [b, _]] = keys_of_both(&mut world);
    let line = format!("BLPOP {a} {a2} 0");
    let client = world.connect(commands(&[&line, &format!("GET {b}")]));
    world.pass(10_000_000);
    assert_eq!(text(&world.clients[client].got), "");
    assert_eq!(world.proxy.owed(), 0, "the worker may sleep");
    assert_eq!(world.proxy.next_timer_us(), None);
    assert_eq!(says(&mut world, &[&format!("LPUSH {a2} item")]), ":1\r\n");
    let got = text(&world.clients[client].got);
    let popped = format!("*2\r\n${}\r\n{a2}\r\n$4\r\nitem\r\n", a2.len());
    assert!(got.starts_with(&popped), "{got}");
    assert!(
        got.len() > popped.len(),
        "the request behind it was answered: {got}"
    );
    assert_eq!(world.proxy.pool_counters(0).timeouts, 0);
    assert_all_clean(&world);
}

#[test]
fn what_is_there_is_had_at_once_and_the_connection_is_used_again() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    let connects = world.streams.connects;
    for n in 0..10 {
        let got = says(
            &mut world,
            &[&format!("LPUSH {a} {n}"), &format!("BLPOP {a} 0")],
        );
        assert!(got.ends_with(&format!("$1\r\n{n}\r\n")), "{got}");
    }
    assert_eq!(world.streams.connects, connects + 1);
    assert_all_clean(&world);
}

#[test]
fn its_keys_belong_to_one_server() {
    let mut world = redis(2);
    let [[a, _], [b, _]] = keys_of_both(&mut world);
    let got = says(&mut world, &[&format!("BLPOP {a} {b} 0"), "PING"]);
    assert!(
        got.starts_with("-CROSSSLOT Keys of a command that waits") && got.ends_with("+PONG\r\n"),
        "{got}"
    );
    assert!(
        says(&mut world, &["WAIT 1 0", "PING"]).starts_with("-ERR WAIT needs a pool of one server")
    );
    assert_all_clean(&world);
}

#[test]
fn with_one_server_wait_counts_the_replicas_that_have_every_write() {
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits(), 5);
    assert_eq!(
        says(&mut world, &["SET a b", "WAIT 0 0", "PING"]),
        "+OK\r\n:0\r\n+PONG\r\n"
    );
    let seen = &world.servers[0].seen;
    let wait = seen
        .iter()
        .position(|request| *request == commands(&["WAIT 0 0"]))
        .unwrap();
    assert!(
        seen[wait - 1].starts_with(b"*3\r\n$7\r\nPUBLISH"),
        "a write of the same connection"
    );
    assert_all_clean(&world);
}

#[test]
fn nothing_is_taken_for_a_client_that_is_gone() {
    for half in [false, true] {
        let mut world = redis(2);
        let [[a, _], _] = keys_of_both(&mut world);
        let line = format!("BLPOP {a} 0");
        // What it sent behind that waits in vain.
        let client = world.connect(commands(&[&line, "PING"]));
        world.clients[client].half_close_when_sent = half;
        world.settle(20_000);
        if half {
            assert!(world.clients[client].finished, "as in Redis");
        } else {
            assert_eq!(world.proxy.pool_counters(0).pins, 1);
            world.vanish(client);
            world.settle(20_000);
        }
        assert_all_clean(&world);
        assert_eq!(says(&mut world, &[&format!("LPUSH {a} item")]), ":1\r\n");
        assert!(world.servers[0].popped.is_empty());
        let got = says(&mut world, &[&line]);
        assert!(got.ends_with("$4\r\nitem\r\n"), "{got}");
    }
}

#[test]
fn a_server_that_dies_or_is_not_there_is_noticed() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    let line = format!("BLPOP {a} 0");
    let client = world.connect(commands(&[&line, "PING"]));
    world.settle(20_000);
    world.crash(0);
    world.settle(20_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR Connection reset by peer\r\n+PONG\r\n"
    );
    world.streams.refuse.push(ServerId(0));
    assert_eq!(
        says(&mut world, &[&line, "PING"]),
        "-ERR Connection refused\r\n+PONG\r\n"
    );
    world.streams.refuse.clear();
    world.servers[0].accepts = false;
    let client = world.connect(commands(&[&line, "PING"]));
    world.pass(1_000_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR Connection timed out\r\n+PONG\r\n"
    );
    world.servers[0].accepts = true;
    assert_all_clean(&world);
}

#[test]
fn a_server_that_babbles_costs_its_connection() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    let slots = world.server_slots(0);
    let client = world.connect(commands(&[&format!("BLPOP {a} 0")]));
    world.settle(20_000);
    let own = world
        .server_slots(0)
        .into_iter()
        .find(|slot| !slots.contains(slot))
        .unwrap();
    world.outputs.insert(own, b"+OK\r\n+OK\r\n".to_vec());
    world.settle(20_000);
    assert_eq!(
        text(&world.clients[client].got),
        "+OK\r\n",
        "the server's answer"
    );
    assert_eq!(
        world.server_slots(0),
        slots,
        "nobody asked for the second one"
    );
    assert_eq!(world.proxy.server_counters(0).protocol_errors, 1);
}

#[test]
fn many_clients_wait_up_to_the_cap() {
    let config = PoolConfig {
        own_connections_max: 20,
        ..pool(Protocol::Redis, 2)
    };
    let mut world = World::new(&[config], &limits(), 5);
    let [[a, _], _] = keys_of_both(&mut world);
    let clients: Vec<usize> = (0..20)
        .map(|_| world.connect(commands(&[&format!("BLPOP {a} 0")])))
        .collect();
    world.settle(20_000);
    assert_eq!(world.proxy.pool_counters(0).pins, 20);
    assert!(says(&mut world, &[&format!("BLPOP {a} 0")]).contains("limit own_connections_max"));
    for n in 0..20 {
        says(&mut world, &[&format!("LPUSH {a} {n}")]);
    }
    let mut got: Vec<String> = clients
        .iter()
        .map(|&client| text(&world.clients[client].got))
        .collect();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 20, "everybody got another one: {got:?}");
    assert_all_clean(&world);
}

#[test]
fn a_drained_proxy_does_not_wait_for_them() {
    let mut world = redis(2);
    let client = world.connect(commands(&["BLPOP a 0"]));
    world.settle(20_000);
    world.proxy.drain(&mut world.streams, world.now_us);
    world.settle(20_000);
    assert!(world.clients[client].finished && world.proxy.is_drained());
    assert_all_clean(&world);
}

#[test]
fn who_waits_for_a_key_that_got_another_server_is_told_and_the_others_wait_on() {
    let mut world = redis(2);
    let keys: Vec<String> = (0..20).map(|n| format!("list{n}")).collect();
    let waits = |key: &String| commands(&[&format!("BLPOP {key} 0")]);
    let clients: Vec<usize> = keys.iter().map(|key| world.connect(waits(key))).collect();
    world.settle(20_000);
    world.change(&[pool(Protocol::Redis, 3)]);
    // What is on its way to the old servers has time to get there.
    world.pass(1_000_000);
    assert!(clients.iter().all(|&c| world.clients[c].got.is_empty()));
    world.pass(2_000_000);
    let told = "-ERR Keys have another server by a new configuration: ask again\r\n";
    let mut moved = 0;
    for (key, &client) in keys.iter().zip(&clients) {
        if !world.clients[client].got.is_empty() {
            moved += 1;
            assert_eq!(text(&std::mem::take(&mut world.clients[client].got)), told);
            world.clients[client].to_send.extend(waits(key));
            world.settle(20_000);
        }
        let got = says(&mut world, &[&format!("LPUSH {key} item")]);
        assert_eq!(got, ":1\r\n");
        let popped = format!("*2\r\n${}\r\n{key}\r\n$4\r\nitem\r\n", key.len());
        assert_eq!(text(&world.clients[client].got), popped, "{key}");
    }
    assert!((1..20).contains(&moved), "{moved}");
    assert_eq!(world.proxy.next_timer_us(), None, "nothing is left to do");
    assert_all_clean(&world);
}
