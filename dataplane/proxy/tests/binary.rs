//! memcached's binary protocol: every request under its own header, in order, and nothing where nothing is wanted.

use crate::model::dialects::{
    ADD, ADDQ, DELETE, DELETEQ, GET, GETK, GETKQ, GETQ, HEADER, NOOP, QUIT, QUITQ, SET, SETQ,
    VERSION, answers, frame, frames, raw_frame,
};
use crate::model::{Rng, World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};
use tidegate_proxy::streams::ServerId;

const TEMPORARY_FAILURE: u16 = 0x86;

fn world(servers: usize, seed: u64) -> World {
    World::new(&[pool(Protocol::Memcached, servers)], &limits(), seed)
}

/// The same with servers that may take their time.
fn patient_world(servers: usize, seed: u64) -> World {
    let patient = PoolConfig {
        timeout_ms: None,
        ..pool(Protocol::Memcached, servers)
    };
    World::new(&[patient], &limits(), seed)
}

/// Random requests on keys that begin with `prefix`, with a noop at the end.
fn traffic(rng: &mut Rng, prefix: &str, requests: usize, value_bytes: usize) -> Vec<u8> {
    let opcodes = [
        GET, SET, ADD, DELETE, GETQ, NOOP, GETK, GETKQ, SETQ, ADDQ, DELETEQ,
    ];
    let mut stream = Vec::new();
    for number in 0..requests {
        let opcode = opcodes[rng.below(opcodes.len())];
        let key = format!("{prefix}{}", rng.below(9));
        let (key, value) = match opcode {
            NOOP => (String::new(), Vec::new()),
            SET | ADD | SETQ | ADDQ => {
                let value = format!("{key}#{number}").into_bytes();
                let bytes = value.len() + rng.below(value_bytes);
                let value = value.into_iter().cycle().take(bytes).collect();
                (key, value)
            }
            _ => (key, Vec::new()),
        };
        stream.extend(frame(opcode, key.as_bytes(), &value, number as u32));
    }
    stream.extend(frame(NOOP, b"", b"", u32::MAX));
    stream
}

fn assert_got(world: &World, client: usize, expected: &[u8]) {
    let got = &world.clients[client].got;
    let at = got.iter().zip(expected).position(|(a, b)| a != b);
    assert!(
        got == expected,
        "client {client}: {} of {} bytes, differs at {at:?}",
        got.len(),
        expected.len()
    );
}

#[test]
fn replies_come_in_order_whatever_is_quiet_and_whoever_is_slow() {
    for seed in 0..30 {
        let mut world = patient_world(3, seed);
        world.piece = [5, 60, 700][seed as usize % 3];
        world.servers[seed as usize % 3].trickles = true;
        let mut rng = Rng::new(seed);
        let streams: Vec<Vec<u8>> = (0..6)
            .map(|client| traffic(&mut rng, &format!("c{client}:"), 150, 200))
            .collect();
        let clients: Vec<usize> = streams.iter().map(|s| world.connect(s.clone())).collect();
        world.settle(400_000);
        for (&client, stream) in clients.iter().zip(&streams) {
            assert_got(&world, client, &answers(stream));
        }
        for &client in &clients {
            world.vanish(client);
        }
        world.settle(1_000);
        world.assert_idle(&format!("seed {seed}"));
    }
}

#[test]
fn large_values_pass_in_both_directions() {
    let mut world = world(2, 3);
    let value: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    let requests = [
        frame(SETQ, b"a", &value, 1),
        frame(GETQ, b"none", b"", 2),
        frame(SET, b"b", &value, 3),
        frame(GETK, b"a", b"", 4),
        frame(GET, b"b", b"", 5),
        frame(NOOP, b"", b"", 6),
    ]
    .concat();
    let client = world.connect(requests.clone());
    world.settle(100_000);
    assert_got(&world, client, &answers(&requests));
    assert_eq!(world.proxy.pool_counters(0).requests_streamed, 2);
}

#[test]
fn a_client_that_does_not_read_holds_up_only_itself() {
    let limits = WorkerConfig {
        reply_hold_bytes: 64 * 1024,
        client_reply_hold_bytes: 16 * 1024,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits, 8);
    world.servers[0]
        .store
        .insert(b"a".to_vec(), vec![b'x'; 60_000]);
    let wanted = [
        frame(GET, b"a", b"", 1),
        frame(GETKQ, b"a", b"", 2),
        frame(NOOP, b"", b"", 3),
    ]
    .concat();
    let deaf = world.connect(wanted);
    world.clients[deaf].deaf = true;
    world.settle(2_000);
    let other = world.connect(
        frame(GETQ, b"b", b"", 7)
            .into_iter()
            .chain(frame(NOOP, b"", b"", 8))
            .collect(),
    );
    world.settle(2_000);
    assert_eq!(
        frames(&world.clients[other].got).0,
        [(NOOP, 0, 8, Vec::new())]
    );
    world.clients[deaf].deaf = false;
    world.settle(20_000);
    let (got, rest) = frames(&world.clients[deaf].got);
    let shown: Vec<_> = got
        .iter()
        .map(|(opcode, status, opaque, body)| (*opcode, *status, *opaque, body.len()))
        .collect();
    assert_eq!(rest, 0);
    assert_eq!(
        shown,
        [(GET, 0, 1, 60_004), (GETKQ, 0, 2, 60_005), (NOOP, 0, 3, 0)]
    );
}

#[test]
fn a_reply_that_cannot_wait_its_turn_becomes_a_frame_that_says_so() {
    let limits = WorkerConfig {
        client_reply_hold_bytes: 4096,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Memcached, 2)], &limits, 8);
    let keys: Vec<Vec<u8>> = (0..8).map(|n| format!("k{n}").into_bytes()).collect();
    let set: Vec<u8> = keys
        .iter()
        .flat_map(|key| frame(SETQ, key, &[b'v'; 6000], 0))
        .collect();
    world.connect(set);
    world.settle(10_000);
    let [of_slow, of_fast] =
        [0, 1].map(|server: usize| world.servers[server].store.keys().next().unwrap().clone());
    world.servers[0].stopped = true;
    let client =
        world.connect([frame(GET, &of_slow, b"", 1), frame(GET, &of_fast, b"", 2)].concat());
    world.pass(50_000);
    world.servers[0].stopped = false;
    world.settle(5_000);
    let (got, _) = frames(&world.clients[client].got);
    assert_eq!((got[0].1, got[0].2, got[0].3.len()), (0, 1, 6004));
    assert_eq!((got[1].0, got[1].1, got[1].2), (GET, TEMPORARY_FAILURE, 2));
    assert!(
        got[1].3.starts_with(b"Reply too large"),
        "{:?}",
        got[1].3.escape_ascii()
    );
}

#[test]
fn a_failing_server_costs_its_own_requests_a_frame_with_the_reason() {
    let mut world = world(2, 5);
    world.streams.refuse.push(ServerId(0));
    let requests: Vec<u8> = (0..20u32)
        .flat_map(|n| {
            frame(
                if n % 2 == 0 { SET } else { SETQ },
                format!("k{n}").as_bytes(),
                b"v",
                n,
            )
        })
        .collect();
    let client = world.connect([requests, frame(NOOP, b"", b"", 99)].concat());
    world.settle(10_000);
    let (got, rest) = frames(&world.clients[client].got);
    assert_eq!(rest, 0);
    assert_eq!(got.last(), Some(&(NOOP, 0, 99, Vec::new())));
    let stored = world.servers[1].store.len();
    let failed: Vec<_> = got.iter().filter(|frame| frame.1 != 0).collect();
    assert_eq!(failed.len() + stored, 20);
    assert!(!failed.is_empty() && stored > 0);
    for (opcode, status, opaque, body) in failed {
        assert_eq!(*opcode, if opaque % 2 == 0 { SET } else { SETQ });
        assert_eq!(
            (*status, &body[..]),
            (TEMPORARY_FAILURE, &b"Connection refused"[..])
        );
    }
}

#[test]
fn a_late_reply_is_swallowed_and_the_next_one_is_right() {
    let mut world = world(1, 5);
    world.servers[0]
        .store
        .insert(b"a".to_vec(), b"first".to_vec());
    let client = world.connect(frame(NOOP, b"", b"", 0));
    world.settle(1_000);
    world.servers[0].stopped = true;
    world.clients[client].to_send =
        [frame(GETQ, b"none", b"", 1), frame(GET, b"a", b"", 2)].concat();
    world.pass(500_000);
    world.servers[0].stopped = false;
    world.clients[client].to_send = frame(GETK, b"a", b"", 3);
    world.settle(1_000);
    let (got, rest) = frames(&world.clients[client].got);
    assert_eq!(rest, 0);
    let shown: Vec<_> = got
        .iter()
        .map(|frame| (frame.0, frame.1, frame.2))
        .collect();
    assert_eq!(
        shown,
        [
            (NOOP, 0, 0),
            (GETQ, TEMPORARY_FAILURE, 1),
            (GET, TEMPORARY_FAILURE, 2),
            (GETK, 0, 3)
        ]
    );
    assert_eq!(got[3].3, b"\0\0\0\0afirst");
    assert_eq!(world.streams.connects, 1, "one connection served all of it");
}

#[test]
fn a_server_whose_replies_are_not_its_own_is_cut_off() {
    let babble = [
        b"END\r\n".to_vec(),
        // Another request's.
        raw_frame(0x81, GET, 0, &[0; 4], b"", b"mine", 1_000_000),
        raw_frame(0x81, SET, 0, b"", b"", b"", 0),
        // A request.
        raw_frame(0x80, GET, 0, b"", b"", b"", 0),
        // More extras than body.
        [&[0x81, GET, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1][..], &[0; 13]].concat(),
        // More than any server has.
        [
            &[0x81, GET, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..],
            &[0; 12],
        ]
        .concat(),
    ];
    for garbage in babble {
        let mut world = world(1, 5);
        let clients = [1, 2].map(|n| world.connect(frame(GET, b"a", b"", n)));
        world.servers[0].garbage = Some(garbage.clone());
        world.settle(2_000);
        for (client, n) in clients.into_iter().zip([1, 2]) {
            let expected = (
                GET,
                TEMPORARY_FAILURE,
                n,
                b"Invalid reply from server".to_vec(),
            );
            let (got, _) = frames(&world.clients[client].got);
            assert_eq!(got, [expected], "{}", garbage.escape_ascii());
        }
        assert!(world.proxy.server_counters(0).protocol_errors > 0);
    }
}

#[test]
fn what_cannot_be_understood_is_answered_and_closed() {
    let long = vec![b'k'; 251];
    for (request, opcode, status) in [
        (frame(GET, b"", b"", 7), GET, 4),
        (frame(GET, &long, b"", 7), GET, 4),
        (frame(GET, b"a", b"value", 7), GET, 4),
        (raw_frame(0x80, SET, 0, &[0; 7], b"a", b"", 7), SET, 4),
        (raw_frame(0x80, 0x1c, 0, b"", b"a", b"", 7), 0x1c, 4),
        (frame(NOOP, b"a", b"", 7), NOOP, 4),
        (
            [
                &[0x80, GET, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1][..],
                &7u32.to_be_bytes(),
                &[0; 8],
            ]
            .concat(),
            GET,
            0x81,
        ),
        (
            [
                &[0x80, GET, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..],
                &7u32.to_be_bytes(),
                &[0; 8],
            ]
            .concat(),
            GET,
            4,
        ),
    ] {
        let mut world = world(1, 5);
        let client = world.connect(
            [
                frame(SETQ, b"a", b"1", 1),
                request.clone(),
                frame(NOOP, b"", b"", 9),
            ]
            .concat(),
        );
        world.settle(2_000);
        let (got, _) = frames(&world.clients[client].got);
        let shown: Vec<_> = got
            .iter()
            .map(|frame| (frame.0, frame.1, frame.2))
            .collect();
        assert_eq!(shown, [(opcode, status, 7)], "{}", request.escape_ascii());
        assert!(world.clients[client].finished, "{}", request.escape_ascii());
        assert_eq!(world.proxy.pool_counters(0).clients_closed_protocol, 1);
        world.assert_idle("closed");
    }
    // The dialect is decided by the first byte.
    let mut world = world(1, 5);
    let client =
        world.connect([frame(NOOP, b"", b"", 1), b"get a\r\n".to_vec(), vec![0; 30]].concat());
    world.settle(2_000);
    let (got, _) = frames(&world.clients[client].got);
    assert_eq!(got.len(), 2);
    assert_eq!((got[1].1, &got[1].3[..]), (4, &b"Invalid arguments"[..]));
    assert!(world.clients[client].finished);
}

#[test]
fn an_opcode_that_nobody_knows_costs_its_frame_and_no_memory() {
    let mut world = world(1, 5);
    let body = vec![b'x'; 300_000];
    let huge = [
        &[0x80, SET, 0, 1, 8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..],
        &5u32.to_be_bytes(),
        &[0; 8],
    ]
    .concat();
    let requests = [
        raw_frame(0x80, 0x40, 0, &[1, 2, 3], b"key", &body, 3),
        frame(0x1b, b"", b"", 4),
        frame(NOOP, b"", b"", 5),
        huge,
        body,
    ];
    let client = world.connect(requests.concat());
    world.settle(20_000);
    let (got, _) = frames(&world.clients[client].got);
    let shown: Vec<_> = got
        .iter()
        .map(|frame| (frame.0, frame.1, frame.2))
        .collect();
    assert_eq!(
        shown,
        [(0x40, 0x81, 3), (0x1b, 0x81, 4), (NOOP, 0, 5), (SET, 3, 5)]
    );
    assert_eq!(got[3].3, b"Too large.");
    // The rest of 4 GiB is measured away as it comes.
    assert!(!world.clients[client].finished);
    assert_eq!(world.proxy.tables_in_use().request_holds, 0);
}

#[test]
fn quit_ends_the_connection_behind_what_is_owed() {
    let mut world = world(2, 5);
    world.servers[0].trickles = true;
    for (opcode, replies) in [(QUIT, 3), (QUITQ, 2)] {
        let requests = [
            frame(SET, b"a", b"1", 1),
            frame(VERSION, b"", b"", 2),
            frame(opcode, b"", b"", 3),
            frame(NOOP, b"", b"", 4),
        ];
        let client = world.connect(requests.concat());
        world.settle(3_000);
        let (got, rest) = frames(&world.clients[client].got);
        assert_eq!((got.len(), rest), (replies, 0));
        assert!(world.clients[client].finished);
    }
}

#[test]
fn clients_and_servers_that_go_away_leave_nothing_behind() {
    for seed in 0..20 {
        let mut world = world(3, seed);
        world.piece = 90;
        let mut rng = Rng::new(seed);
        let clients: Vec<usize> = (0..8)
            .map(|client| {
                let stream = traffic(&mut rng, &format!("c{client}:"), 80, 3_000);
                world.connect(stream)
            })
            .collect();
        for _ in 0..40 {
            for _ in 0..rng.below(60) {
                world.step();
            }
            match rng.below(4) {
                0 => world.crash(rng.below(3)),
                1 => world.hang_up(rng.below(3)),
                2 => world.vanish(clients[rng.below(clients.len())]),
                _ => world.servers[rng.below(3)].stopped ^= true,
            }
        }
        for server in &mut world.servers {
            server.stopped = false;
        }
        world.settle(100_000);
        for &client in &clients {
            let state = &world.clients[client];
            if state.closed.is_none() {
                let (got, rest) = frames(&state.got);
                assert_eq!(rest, 0, "seed {seed}");
                assert!(
                    state.finished || got.last().is_some_and(|last| last.2 == u32::MAX),
                    "seed {seed}: client {client}"
                );
                // Each key names its client: nobody has got another's value.
                let own = format!("c{client}:");
                for (opcode, status, _, body) in got {
                    if matches!(opcode, GET | GETQ) && status == 0 {
                        assert!(
                            body[4..].starts_with(own.as_bytes()),
                            "seed {seed}: {}",
                            body.escape_ascii()
                        );
                    }
                }
            }
            world.vanish(client);
        }
        world.settle(2_000);
        world.assert_idle(&format!("seed {seed}"));
    }
    assert_eq!(HEADER, 24);
}
