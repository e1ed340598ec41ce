//! Divided Redis requests that are larger than a hold: how they end when something goes wrong on the way.

use crate::model::many::{command, key, keys, pairs, stored, text, world};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{Compat, PoolConfig, Protocol, WorkerConfig};
use tidegate_proxy::streams::ServerId;

/// The server that has a key.
fn owner(world: &World, key: &[u8]) -> usize {
    let has = |server: &crate::model::server::ModelServer| server.store.contains_key(key);
    world.servers.iter().position(has).expect("somebody has it")
}

#[test]
fn a_large_value_without_a_reply_times_out() {
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits(), 5);
    world.servers[0].stopped = true;
    // More than a hold takes, less than the buffer of a server connection.
    let mut all = vec![key(9), vec![b'x'; 6_000]];
    all.extend(pairs(3, 10));
    let client = world.connect([command(b"MSET", &all), resp(&[b"PING"])].concat());
    world.pass(500_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR Connection timed out\r\n+PONG\r\n"
    );
    world.pass(1_000_000);
    world.assert_idle("after the timeout");
}

#[test]
fn a_failed_chunk_fails_the_whole_and_the_rest_is_not_sent() {
    for request in [
        command(b"MSET", &pairs(400, 100)),
        command(b"MGET", &keys(2_000)),
        command(b"DEL", &keys(2_000)),
    ] {
        let mut world = world(3, &limits());
        world.streams.refuse.push(ServerId(1));
        let client = world.connect([request, resp(&[b"PING"])].concat());
        world.settle(50_000);
        assert_eq!(
            text(&world.clients[client].got),
            "-ERR Connection refused\r\n+PONG\r\n"
        );
        assert!(world.servers.iter().all(|server| server.requests <= 1));
        assert_eq!(world.proxy.pool_counters(0).forward_errors, 1);
        world.assert_idle("after the error");
    }
}

#[test]
fn a_servers_own_error_is_the_answer_and_the_connection_goes_on() {
    let mut world = world(2, &limits());
    for server in &mut world.servers {
        server.garbage = Some(b"-OOM command not allowed\r\n".to_vec());
    }
    // One with a value that is passed on, in the first place and behind others.
    let mut large = pairs(3, 20);
    large.extend([key(9), vec![b'x'; 50_000]]);
    large.extend(pairs(100, 100));
    let requests = [
        command(b"MSET", &pairs(100, 100)),
        command(b"MSET", &large[6..]),
        command(b"MSET", &large),
        resp(&[b"PING"]),
    ];
    let client = world.connect(requests.concat());
    world.settle(50_000);
    let error = "-OOM command not allowed\r\n";
    assert_eq!(
        text(&world.clients[client].got),
        format!("{}+PONG\r\n", error.repeat(3))
    );
    world.assert_idle("after the errors");
}

#[test]
fn a_large_value_that_is_refused_early_fails_the_request_and_its_rest_is_dropped() {
    let mut world = world(2, &limits());
    let mut all = vec![key(9), vec![b'x'; 50_000]];
    all.extend(pairs(100, 100));
    let request = command(b"MSET", &all);
    let client = world.connect(request[..20_000].to_vec());
    world.settle(500);
    let busy = usize::from(world.server_slots(0).is_empty());
    world.say(busy, b"-ERR value too large\r\n");
    world.settle(500);
    assert!(
        world.server_slots(busy).is_empty(),
        "a connection with half a SET is of no use"
    );
    world.clients[client].to_send = [&request[20_000..], &resp(&[b"PING"])].concat();
    world.settle(10_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR value too large\r\n+PONG\r\n"
    );
    assert!(stored(&world).is_empty());
    world.assert_idle("after the error");
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_value_fails_the_request() {
    let mut world = world(2, &limits());
    let mut all = pairs(10, 100);
    all.extend([key(20), vec![b'x'; 50_000]]);
    let request = command(b"MSET", &all);
    let client = world.connect(request[..20_000].to_vec());
    world.settle(500);
    world.crash(0);
    world.crash(1);
    world.settle(500);
    world.clients[client].to_send = [&request[20_000..], &resp(&[b"PING"])].concat();
    world.settle(10_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR Connection reset by peer\r\n+PONG\r\n"
    );
    world.assert_idle("after the error");
}

/// A world in which an MGET has had its first elements sent, the client, and the second half of the request, which is not sent.
fn half_an_mget(limits: &WorkerConfig) -> (World, usize, Vec<u8>) {
    mget_up_to(12_000, limits)
}

/// The same with the given place of the cut.
fn mget_up_to(cut: usize, limits: &WorkerConfig) -> (World, usize, Vec<u8>) {
    let mut world = world(3, limits);
    let setter = world.connect(command(b"MSET", &pairs(2_000, 10)));
    world.settle(20_000);
    assert_eq!(world.clients[setter].got, b"+OK\r\n");
    let request = command(b"MGET", &keys(2_000));
    let client = world.connect(request[..cut].to_vec());
    world.settle(5_000);
    let got = world.clients[client].got.clone();
    assert!(
        got.starts_with(b"*2000\r\n$10\r\naaaa"),
        "the elements come before the end of the request is there"
    );
    (world, client, request[cut..].to_vec())
}

#[test]
fn elements_are_sent_as_they_come_and_a_later_failure_ends_the_connection() {
    let (mut world, client, rest) = half_an_mget(&limits());
    let got = world.clients[client].got.len();
    for server in 0..3 {
        world.streams.refuse.push(ServerId(server));
        world.crash(server as usize);
    }
    world.clients[client].to_send = [rest, resp(&[b"PING"])].concat();
    world.settle(10_000);
    assert!(world.clients[client].closed.is_some());
    assert_eq!(world.clients[client].got.len(), got, "and not a word more");
    world.assert_idle("after the connection");
}

#[test]
fn a_failure_of_the_last_elements_ends_the_connection_as_well() {
    let (mut world, client, rest) = mget_up_to(26_000, &limits());
    for server in &mut world.servers {
        server.stopped = true;
    }
    world.clients[client].to_send = rest;
    world.settle(1_000);
    assert!(world.clients[client].to_send.is_empty() && world.proxy.owed() > 0);
    assert_eq!(world.proxy.tables_in_use().request_holds, 0, "all is sent");
    let got = world.clients[client].got.len();
    for server in 0..3 {
        world.crash(server);
    }
    world.settle(1_000);
    assert!(world.clients[client].closed.is_some());
    assert_eq!(world.clients[client].got.len(), got);
    world.assert_idle("after the connection");
}

#[test]
fn a_malformed_rest_is_refused_and_ends_the_connection() {
    let wrong_header = (&b"-ERR Malformed end of request\r\n"[..], &b":17\r\n"[..]);
    let wrong_length = (
        &b"-ERR Protocol error: invalid bulk length\r\n"[..],
        &b"$-1\r\n"[..],
    );
    let wrong_end = (
        &b"-ERR Protocol error: expected CRLF after bulk string\r\n"[..],
        &b"$3\r\nabcXX"[..],
    );
    for (error, wrong) in [wrong_header, wrong_length, wrong_end] {
        for request in [
            command(b"MSET", &pairs(300, 100)),
            command(b"DEL", &keys(2_000)),
        ] {
            let mut world = world(3, &limits());
            // The cut is in front of a header.
            let cut = 12_000
                + request[12_000..]
                    .windows(6)
                    .position(|w| w == b"\r\n$5\r\n" || w == b"\r\n$7\r\n" || w == b"\r\n$8\r\n")
                    .unwrap()
                + 2;
            let bad = [&request[..cut], wrong].concat();
            let client = world.connect([bad, resp(&[b"PING"])].concat());
            world.settle(10_000);
            assert_eq!(text(&world.clients[client].got), text(error));
            assert!(world.clients[client].finished);
            assert_eq!(world.proxy.pool_counters(0).clients_closed_protocol, 1);
            world.assert_idle("after the error");
        }
    }
    let (mut world, client, rest) = half_an_mget(&limits());
    let got = world.clients[client].got.len();
    let at = rest.windows(3).position(|w| w == b"\r\n$").unwrap() + 2;
    world.clients[client].to_send = [&rest[..at], b"*1\r\n"].concat();
    world.settle(10_000);
    assert!(world.clients[client].closed.is_some());
    assert_eq!(world.clients[client].got.len(), got);
    world.assert_idle("after the connection");
}

#[test]
fn a_value_without_its_line_end_is_refused_and_not_stored() {
    let mut world = world(2, &limits());
    let mut all = pairs(10, 100);
    all.extend([key(20), vec![b'x'; 50_000]]);
    let mut request = command(b"MSET", &all);
    let end = request.len() - 2;
    request[end..].copy_from_slice(b"xx");
    let client = world.connect([request, resp(&[b"PING"])].concat());
    world.settle(10_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-ERR Protocol error: expected CRLF after bulk string\r\n"
    );
    assert!(world.clients[client].finished);
    assert!(!stored(&world).contains_key(&key(20)));
    world.assert_idle("after the error");
}

#[test]
fn a_key_larger_than_a_hold_gets_an_error_and_the_connection_goes_on() {
    for place in [0, 1, 60] {
        let mut long = keys(200);
        long.insert(place, vec![b'k'; 6_000]);
        let mut pairs = pairs(200, 30);
        pairs.splice(2 * place..2 * place, [vec![b'k'; 6_000], b"v".to_vec()]);
        for request in [command(b"EXISTS", &long), command(b"MSET", &pairs)] {
            let mut world = world(3, &limits());
            let client = world.connect([request, resp(&[b"PING"])].concat());
            world.settle(10_000);
            assert_eq!(
                text(&world.clients[client].got),
                "-ERR Request too large to be held by the proxy (limit request_hold_bytes)\r\n+PONG\r\n"
            );
            assert_eq!(world.proxy.pool_counters(0).requests_refused, 1);
            world.assert_idle("after the error");
        }
    }
}

/// Requests that stop at different steps, with the bytes after which they do.
fn half_requests() -> Vec<Vec<u8>> {
    let mut large = pairs(10, 100);
    large.extend([key(9_999), vec![b'x'; 50_000]]);
    vec![
        command(b"MSET", &pairs(300, 100))[..15_000].to_vec(),
        command(b"MSET", &large)[..30_000].to_vec(),
        command(b"MGET", &keys(2_000))[..15_000].to_vec(),
        command(b"DEL", &keys(2_000))[..15_000].to_vec(),
        command(b"DEL", &keys(2_000))[..6_000].to_vec(),
    ]
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    for (number, half) in half_requests().iter().enumerate() {
        for steps in [1, 3, 10, 30, 100, 400] {
            for stopped in [false, true] {
                let mut world = world(3, &limits());
                let client = world.connect(half.clone());
                for _ in 0..steps {
                    world.step();
                }
                for server in &mut world.servers {
                    server.stopped = stopped;
                }
                world.settle(300);
                world.vanish(client);
                for server in &mut world.servers {
                    server.stopped = false;
                }
                world.settle(1_000);
                let what = format!("request {number} after {steps}");
                world.assert_idle(&what);
                let next = world.connect(command(b"EXISTS", &keys(600)));
                world.settle(3_000);
                assert!(world.clients[next].got.starts_with(b":"), "{what}");
                assert!(!stored(&world).contains_key(&key(9_999)), "{what}");
            }
        }
    }
}

#[test]
fn a_client_that_sends_fin_in_the_middle_is_closed_at_once() {
    for (number, half) in half_requests().into_iter().enumerate() {
        let mut world = world(3, &limits());
        let client = world.connect(half);
        world.clients[client].half_close_when_sent = true;
        world.settle(2_000);
        assert!(world.clients[client].closed.is_some(), "{number}");
        world.assert_idle("after the connection");
    }
}

#[test]
fn a_client_that_stalls_in_the_middle_is_closed_in_time() {
    let limits = WorkerConfig {
        client_stall_ms: 500,
        ..limits()
    };
    for (number, half) in half_requests().into_iter().enumerate() {
        let mut world = world(3, &limits);
        let client = world.connect(half);
        world.pass(400_000);
        assert!(world.clients[client].closed.is_none(), "{number}");
        world.pass(400_000);
        assert!(world.clients[client].closed.is_some(), "{number}");
        assert_eq!(world.proxy.pool_counters(0).clients_closed_stalled, 1);
        world.assert_idle("after the connection");
    }
}

#[test]
fn a_server_that_is_slow_is_not_taken_for_a_client_that_stalls() {
    let limits = WorkerConfig {
        client_stall_ms: 200,
        ..limits()
    };
    for slow_us in [170_000, 1_000_000] {
        let mut world = world(3, &limits);
        let request = command(b"DEL", &keys(1_000));
        let client = world.connect(request[..2_000].to_vec());
        // From here on its time counts, until a chunk is whole.
        world.pass(20_000);
        for server in &mut world.servers {
            server.stopped = true;
        }
        // The first chunk fills the hold, and nothing is left in the receive buffer.
        let chunk = 4_096 + b"*1001\r\n$3\r\nDEL\r\n".len();
        world.clients[client].to_send = request[2_000..chunk].to_vec();
        world.pass(slow_us);
        for server in &mut world.servers {
            server.stopped = false;
        }
        // And its time starts anew when it is its turn again.
        world.pass(100_000);
        assert!(world.clients[client].closed.is_none(), "{slow_us}");
        world.clients[client].to_send = request[chunk..].to_vec();
        world.settle(10_000);
        assert_eq!(text(&world.clients[client].got), ":0\r\n");
    }
}

#[test]
fn a_client_that_does_not_take_its_elements_stops_its_own_request() {
    let limits = WorkerConfig {
        client_stall_ms: 500,
        ..limits()
    };
    let (mut world, client, rest) = half_an_mget(&limits);
    world.clients[client].deaf = true;
    world.clients[client].to_send = rest;
    world.settle(3_000);
    let asked: usize = world.servers.iter().map(|server| server.requests).sum();
    world.settle(1_000);
    let other = world.connect(command(b"EXISTS", &keys(600)));
    world.settle(2_000);
    assert_eq!(text(&world.clients[other].got), ":600\r\n");
    assert!(asked > 0 && world.clients[client].closed.is_none());
    world.pass(1_000_000);
    assert!(world.clients[client].closed.is_some());
    world.assert_idle("after the connection");
}

#[test]
fn a_chunk_that_times_out_is_an_error_and_its_late_replies_are_swallowed() {
    let mut world = World::new(&[pool(Protocol::Redis, 3)], &limits(), 5);
    let setter = world.connect(command(b"MSET", &pairs(2_000, 10)));
    world.settle(20_000);
    let slow = owner(&world, &key(0));
    world.servers[slow].stopped = true;
    let requests = [
        command(b"DEL", &keys(2_000)),
        command(b"MGET", &keys(1_000)),
    ];
    let clients = requests.map(|request| world.connect([request, resp(&[b"PING"])].concat()));
    world.pass(500_000);
    world.servers[slow].stopped = false;
    world.settle(10_000);
    for client in clients {
        assert_eq!(
            text(&world.clients[client].got),
            "-ERR Connection timed out\r\n+PONG\r\n"
        );
    }
    assert!(world.proxy.pool_counters(0).late_replies > 0);
    world.clients[setter].to_send = command(b"EXISTS", &keys(2_000));
    world.settle(10_000);
    assert!(text(&world.clients[setter].got).starts_with("+OK\r\n:1"));
    world.assert_idle("after the last reply");
}

#[test]
fn a_pool_with_the_habits_of_twemproxy_keeps_them_in_chunks() {
    let habits = PoolConfig {
        compat: Compat::Twemproxy,
        ..pool(Protocol::Redis, 3)
    };
    let mut half = command(b"DEL", &keys(2_000))[..12_000].to_vec();
    // It ends in front of a header.
    let end = half.windows(3).rposition(|w| w == b"\r\n$").unwrap() + 2;
    half.truncate(end);
    let cases = [
        // A failed read ends the connection behind its error, a failed write does not.
        (
            command(b"MGET", &keys(2_000)),
            "-ERR Connection refused\r\n",
        ),
        (
            command(b"MSET", &pairs(400, 100)),
            "-ERR Connection refused\r\n+PONG\r\n",
        ),
        // What is malformed ends it without a word.
        ([half, b":17\r\n".to_vec()].concat(), ""),
    ];
    for (number, (request, reply)) in cases.into_iter().enumerate() {
        let mut world = World::new(std::slice::from_ref(&habits), &limits(), 5);
        if number < 2 {
            world.streams.refuse.push(ServerId(1));
        }
        let client = world.connect([request, resp(&[b"PING"])].concat());
        world.settle(20_000);
        assert_eq!(text(&world.clients[client].got), reply);
        assert_eq!(world.clients[client].finished, number != 1);
        world.assert_idle("after the answer");
    }
}
