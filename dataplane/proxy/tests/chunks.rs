//! Divided Redis requests that are larger than a hold, or have more keys than the tables take at once: what they do.

use crate::model::many::{Store, command, key, keys, pairs, stored, text, world};
use crate::model::server::redis;
use crate::model::traffic::resp;
use crate::model::{Rng, World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret, WorkerConfig};

#[test]
fn requests_larger_than_a_hold_do_what_one_server_would() {
    for servers in [1, 3] {
        let mut world = world(servers, &limits());
        let requests = [
            command(b"MSET", &pairs(300, 100)),
            command(b"MGET", &keys(600)),
            command(b"EXISTS", &keys(600)),
            resp(&[b"GET", b"key:7"]),
            command(b"touch", &keys(500)),
            command(b"DEL", &keys(550)),
            command(b"UNLINK", &keys(550)),
            resp(&[b"PING"]),
        ];
        let mut store = Store::new();
        let answer = |request: &Vec<u8>| redis(&mut store, request).unwrap().1;
        let expected: Vec<u8> = requests[..7].iter().flat_map(answer).collect();
        let client = world.connect(requests.concat());
        world.clients[client].half_close_when_sent = true;
        world.settle(100_000);
        let expected = [&expected[..], b"+PONG\r\n"].concat();
        assert_eq!(text(&world.clients[client].got), text(&expected));
        assert!(world.clients[client].got == expected);
        assert!(world.clients[client].finished);
        assert_eq!(world.proxy.pool_counters(0).requests, 8);
        world.assert_idle("after the last reply");
    }
}

#[test]
fn a_value_that_alone_is_larger_than_a_hold_passes_in_its_turn() {
    for large in [4_000, 4_096, 5_000, 300_000] {
        let mut world = world(3, &limits());
        let mut all = pairs(40, 50);
        // The last pair of a key is the one that counts, whichever way it goes.
        all.extend([key(3), vec![b'L'; large], key(3), b"last".to_vec()]);
        all.extend([key(4), vec![b'M'; large]]);
        let requests = [
            command(b"MSET", &all),
            command(b"MGET", &[key(3), key(4), key(5)]),
        ];
        let client = world.connect(requests.concat());
        world.settle(200_000);
        let mut store = Store::new();
        let expected: Vec<u8> = requests
            .iter()
            .flat_map(|request| redis(&mut store, request).unwrap().1)
            .collect();
        assert_eq!(text(&world.clients[client].got), text(&expected));
        assert!(world.clients[client].got == expected, "{large}");
        assert_eq!(stored(&world), store);
        world.assert_idle("after the last reply");
    }
}

/// A random divided request. Some are small, most are larger than a hold.
fn random_request(rng: &mut Rng) -> Vec<u8> {
    let count = 2 + rng.below(400);
    let name: &[u8] = [&b"MSET"[..], b"MSET", b"MGET", b"DEL", b"exists", b"TOUCH"][rng.below(6)];
    if name != b"MSET" {
        let pad = rng.below(40);
        let keys: Vec<Vec<u8>> = (0..count)
            .map(|_| format!("{:0pad$}", rng.below(300)).into_bytes())
            .collect();
        return command(name, &keys);
    }
    let most = 1 + rng.below(300);
    let huge = if rng.one_in(3) { 1 + rng.below(60) } else { 0 };
    let pairs: Vec<Vec<u8>> = (0..=count / 4)
        .flat_map(|_| {
            let bytes = match huge {
                0 => rng.below(most),
                one_in if rng.one_in(one_in) => rng.below(20_000),
                _ => rng.below(most),
            };
            let pad = rng.below(40);
            let key = format!("{:0pad$}", rng.below(300)).into_bytes();
            [key, vec![b'0' + rng.below(70) as u8; bytes]]
        })
        .collect();
    command(name, &pairs)
}

#[test]
fn random_requests_under_random_limits_do_what_one_server_would() {
    for seed in 1..120 {
        let mut rng = Rng::new(seed);
        let hold = 1024 + rng.below(6_000) as u32;
        let limits = WorkerConfig {
            request_hold_bytes: hold,
            server_buffer_bytes: 2 * hold,
            split_keys_max: 1 + rng.below(600) as u32,
            requests_max: 1 + rng.below(40) as u32,
            ..limits()
        };
        let patient = PoolConfig {
            timeout_ms: None,
            server_connections: 1 + rng.below(2) as u32,
            ..pool(Protocol::Redis, 1 + rng.below(4))
        };
        let what = format!("seed {seed} {limits:?}");
        let mut world = World::new(&[patient], &limits, seed);
        world.piece = [7, 700, 9_000][rng.below(3)];
        let requests: Vec<Vec<u8>> = (0..6).map(|_| random_request(&mut rng)).collect();
        let mut store = Store::new();
        let expected: Vec<u8> = requests
            .iter()
            .flat_map(|request| redis(&mut store, request).unwrap().1)
            .collect();
        let client = world.connect(requests.concat());
        world.clients[client].half_close_when_sent = true;
        // Somebody else, whose small requests go on meanwhile.
        let other = world.connect(resp(&[b"GET", b"of nobody"]).repeat(20));
        world.settle(3_000_000);
        let got = &world.clients[client].got;
        let differs = got.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(
            *got == expected,
            "{what}: {} of {} bytes, differs at {differs:?}",
            got.len(),
            expected.len()
        );
        assert!(world.clients[client].finished, "{what}");
        assert_eq!(stored(&world), store, "{what}");
        assert_eq!(world.clients[other].got, b"$-1\r\n".repeat(20), "{what}");
        world.assert_idle(&what);
    }
}

#[test]
fn a_request_in_chunks_waits_for_earlier_ones_and_keeps_later_ones_waiting() {
    let mut world = world(3, &limits());
    let first = resp(&[b"SET", b"key:0", b"before"]);
    let last = resp(&[b"SET", b"key:0", b"after"]);
    let requests = [first, command(b"MSET", &pairs(200, 60)), last];
    let client = world.connect(requests.concat());
    world.settle(20_000);
    assert_eq!(world.clients[client].got, b"+OK\r\n".repeat(3));
    assert_eq!(stored(&world)[&key(0)], b"after");
    world.assert_idle("after the last reply");
}

#[test]
fn a_large_value_does_not_overtake_an_earlier_request() {
    let mut world = world(1, &limits());
    world.servers[0].stopped = true;
    let first = resp(&[b"SET", &key(9), b"before"]);
    let mut all = vec![key(9), vec![b'x'; 50_000]];
    all.extend(pairs(3, 10));
    let client = world.connect([first, command(b"MSET", &all)].concat());
    world.settle(1_000);
    assert_eq!(world.streams.connects, 1, "the SET alone is under way");
    world.servers[0].stopped = false;
    world.settle(5_000);
    assert_eq!(text(&world.clients[client].got), "+OK\r\n+OK\r\n");
    assert_eq!(stored(&world)[&key(9)].len(), 50_000);
}

#[test]
fn another_client_that_does_not_read_does_not_hold_up_the_next_chunk() {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 1_000,
        ..limits()
    };
    let mut world = world(1, &limits);
    let big = vec![b'v'; 200_000];
    world.servers[0].store.insert(b"big".to_vec(), big);
    let request = command(b"DEL", &keys(1_000));
    let client = world.connect(request[..8_000].to_vec());
    world.settle(1_000);
    let deaf = world.connect(resp(&[b"GET", b"big"]));
    world.clients[deaf].deaf = true;
    world.settle(1_000);
    assert!(world.proxy.tables_in_use().links_relieved > 0);
    world.clients[client].to_send = request[8_000..].to_vec();
    world.settle(1_000);
    assert_eq!(text(&world.clients[client].got), ":0\r\n");
}

#[test]
fn draining_lets_a_request_that_was_begun_end() {
    let requests = [
        command(b"MSET", &pairs(300, 100)),
        command(b"MGET", &keys(2_000)),
        command(b"DEL", &keys(2_000)),
    ];
    for (request, reply) in requests.into_iter().zip(["+OK", "*2000", ":0"]) {
        let mut world = world(3, &limits());
        let client = world.connect(request);
        for _ in 0..40 {
            world.step();
        }
        assert!(!world.clients[client].to_send.is_empty(), "it is under way");
        let now = world.now_us;
        world.proxy.drain(&mut world.streams, now);
        world.settle(20_000);
        assert!(text(&world.clients[client].got).starts_with(reply));
        assert!(world.clients[client].finished);
        assert!(world.proxy.is_drained());
        world.assert_idle("after draining");
    }
}

#[test]
fn a_client_that_has_not_said_its_password_gets_nothing_of_it_done() {
    let guarded = PoolConfig {
        redis_auth: Some(Secret::new("open sesame".into())),
        ..pool(Protocol::Redis, 2)
    };
    let mut world = World::new(&[guarded], &limits(), 5);
    let requests = [
        command(b"MSET", &pairs(300, 100)),
        resp(&[b"AUTH", b"open sesame"]),
        command(b"MSET", &pairs(300, 100)),
    ];
    let client = world.connect(requests.concat());
    world.settle(10_000);
    assert_eq!(
        text(&world.clients[client].got),
        "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n"
    );
    assert_eq!(stored(&world).len(), 300);
    world.assert_idle("after the last reply");
}

#[test]
fn more_requests_in_chunks_than_holds_wait_for_each_other() {
    let limits = WorkerConfig {
        clients_max: 200,
        ..limits()
    };
    let mut world = world(3, &limits);
    let clients: Vec<usize> = (0..180)
        .map(|n| {
            let keys: Vec<Vec<u8>> = (0..300)
                .flat_map(|k| [format!("{n}:{k}").into_bytes(), b"0123456789".to_vec()])
                .collect();
            world.connect(command(b"MSET", &keys))
        })
        .collect();
    world.settle(100_000);
    for client in clients {
        assert_eq!(text(&world.clients[client].got), "+OK\r\n");
    }
    assert_eq!(stored(&world).len(), 180 * 300);
    world.assert_idle("after the last reply");
}
