//! memcached's binary protocol and the pool as a whole: what is asked of all servers, who may ask, and beside whom.

use crate::model::dialects::{FLUSH, FLUSHQ, GET, GETQ, NOOP, SET, SETQ, STAT, frame, frames};
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret};
use tidegate_proxy::streams::ServerId;

const TEMPORARY_FAILURE: u16 = 0x86;

fn world(servers: usize, seed: u64) -> World {
    World::new(&[pool(Protocol::Memcached, servers)], &limits(), seed)
}

#[test]
fn text_and_binary_clients_share_a_pool_and_no_connection() {
    let mut world = world(1, 5);
    let text = world.connect(b"set a 0 0 1\r\nx\r\nget a\r\n".to_vec());
    world.settle(1_000);
    let binary = world.connect(frame(GET, b"a", b"", 1));
    let text_again = world.connect(b"get a\r\n".to_vec());
    world.settle(1_000);
    assert_eq!(
        world.clients[text].got,
        b"STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n"
    );
    assert_eq!(
        frames(&world.clients[binary].got).0,
        [(GET, 0, 1, b"\0\0\0\0x".to_vec())]
    );
    assert_eq!(
        world.clients[text_again].got,
        b"VALUE a 0 1\r\nx\r\nEND\r\n"
    );
    assert_eq!(world.streams.connects, 2);
}

/// The frames that a client gets for requests.
fn ask(world: &mut World, requests: &[Vec<u8>]) -> Vec<(u8, u16, u32, Vec<u8>)> {
    let client = world.connect(requests.concat());
    world.settle(5_000);
    let (got, rest) = frames(&world.clients[client].got);
    assert_eq!(rest, 0);
    got
}

#[test]
fn a_flush_reaches_every_server() {
    for (opcode, quiet) in [(FLUSH, false), (FLUSHQ, true)] {
        for servers in [1, 3] {
            let mut world = world(servers, 5);
            let mut requests: Vec<Vec<u8>> = (0..20)
                .map(|n| frame(SETQ, format!("k{n}").as_bytes(), b"v", n))
                .collect();
            requests.push(frame(NOOP, b"", b"", 1));
            ask(&mut world, &requests);
            assert!(world.servers.iter().all(|server| !server.store.is_empty()));
            let got = ask(
                &mut world,
                &[frame(opcode, b"", b"", 7), frame(NOOP, b"", b"", 8)],
            );
            assert!(world.servers.iter().all(|server| server.store.is_empty()));
            let mut expected = vec![(FLUSH, 0, 7, Vec::new()), (NOOP, 0, 8, Vec::new())];
            expected.drain(..usize::from(quiet));
            assert_eq!(got, expected);
        }
    }
}

#[test]
fn a_flush_that_misses_a_server_says_so() {
    let mut world = world(3, 5);
    world.streams.refuse.push(ServerId(1));
    let got = ask(
        &mut world,
        &[
            frame(FLUSHQ, b"", b"", 7),
            frame(STAT, b"", b"", 8),
            frame(NOOP, b"", b"", 9),
        ],
    );
    let told: Vec<_> = got
        .iter()
        .map(|(opcode, status, opaque, body)| {
            (
                *opcode,
                *status,
                *opaque,
                String::from_utf8_lossy(body).into_owned(),
            )
        })
        .collect();
    let lost = "server server-1: Connection refused";
    assert_eq!(
        told,
        [
            (
                FLUSHQ,
                TEMPORARY_FAILURE,
                7,
                format!("{lost}; carried out by 2 servers")
            ),
            (STAT, TEMPORARY_FAILURE, 8, lost.to_owned()),
            (NOOP, 0, 9, String::new()),
        ]
    );
    world.assert_idle("a lost server");
}

#[test]
fn statistics_of_all_servers_are_added() {
    for servers in [1, 3] {
        let mut world = world(servers, 5);
        let mut requests: Vec<Vec<u8>> = (0..20)
            .map(|n| frame(SETQ, format!("k{n}").as_bytes(), b"v", n))
            .collect();
        requests.push(frame(STAT, b"", b"", 21));
        requests.push(frame(STAT, b"nothing", b"", 22));
        requests.push(frame(GETQ, b"none", b"", 23));
        requests.push(frame(STAT, b"detail on", b"", 24));
        let got = ask(&mut world, &requests);
        let expected = [
            (STAT, 0, 21, b"pid7".to_vec()),
            (STAT, 0, 21, b"curr_items20".to_vec()),
            (STAT, 0, 21, Vec::new()),
            (STAT, 1, 22, b"Not found".to_vec()),
            (STAT, 1, 24, b"Not found".to_vec()),
        ];
        assert_eq!(got, expected, "{servers} servers");
        world.assert_idle("statistics");
    }
}

fn guarded() -> World {
    let guarded = PoolConfig {
        memcached_auth: Some(Secret::new("secret".into())),
        memcached_user: Some("user".into()),
        ..pool(Protocol::Memcached, 1)
    };
    World::new(&[guarded], &limits(), 5)
}

#[test]
fn a_client_proves_who_it_is_by_sasl() {
    const LIST: u8 = 0x20;
    const AUTH: u8 = 0x21;
    const STEP: u8 = 0x22;
    let mut world = guarded();
    let client = world.connect(
        [
            frame(LIST, b"", b"", 1),
            frame(AUTH, b"PLAIN", b"\0user\0wrong", 2),
            frame(AUTH, b"CRAM-MD5", b"\0user\0secret", 3),
            frame(AUTH, b"PLAIN", b"user", 4),
            frame(STEP, b"PLAIN", b"\0user\0secret", 5),
            frame(AUTH, b"PLAIN", b"\0user\0secret", 6),
            frame(SETQ, b"a", b"1", 7),
            frame(GET, b"a", b"", 8),
        ]
        .concat(),
    );
    world.settle(2_000);
    let (got, _) = frames(&world.clients[client].got);
    let shown: Vec<_> = got
        .iter()
        .map(|(_, status, opaque, body)| (*status, *opaque, &body[..]))
        .collect();
    let no = &b"Auth failure."[..];
    assert_eq!(
        shown,
        [
            (0, 1, &b"PLAIN"[..]),
            (0x20, 2, no),
            (0x20, 3, no),
            (0x20, 4, no),
            (0x20, 5, no),
            (0, 6, b"Authenticated"),
            (0, 8, b"\0\0\0\x001")
        ]
    );

    for request in [
        frame(GET, b"a", b"", 9),
        frame(NOOP, b"", b"", 9),
        frame(SET, b"a", &[b'x'; 9000], 9),
    ] {
        let stranger = world.connect(request);
        world.settle(2_000);
        let (got, _) = frames(&world.clients[stranger].got);
        assert_eq!((got.len(), got[0].1, got[0].2), (1, 0x20, 9));
        assert!(world.clients[stranger].finished, "as memcached does");
    }
    assert_eq!(world.servers[0].store[&b"a"[..]], b"1");
}

#[test]
fn a_client_proves_who_it_is_in_text() {
    let mut world = guarded();
    let unknown = "CLIENT_ERROR unauthenticated\r\n";
    let failure = "CLIENT_ERROR authentication failure\r\n";
    let client = world.connect(
        [
            &b"get a\r\nmg a v\r\nmn\r\nset x 0 0 9\r\nuser wron\r\nset x 0 0 4\r\nuser\r\nset x 0 0 11 noreply\r\nuser secret\r\n"[..],
            b"set a 0 0 1\r\n1\r\nget a\r\n",
        ]
        .concat(),
    );
    world.settle(2_000);
    let expected = [
        unknown,
        unknown,
        unknown,
        failure,
        failure,
        "STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nEND\r\n",
    ]
    .concat();
    assert_eq!(
        String::from_utf8_lossy(&world.clients[client].got),
        expected
    );
    let long =
        world.connect(format!("set x 0 0 9000\r\n{}\r\nget a\r\n", "y".repeat(9000)).into_bytes());
    world.settle(3_000);
    assert_eq!(
        String::from_utf8_lossy(&world.clients[long].got),
        [unknown, unknown].concat()
    );
}
