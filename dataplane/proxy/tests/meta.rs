//! memcached's meta commands: flags pass, and what the flag `q` hides is hidden by the proxy.

use crate::model::dialects::answers;
use crate::model::{Rng, World, limits, pool};
use tidegate_config::{PoolConfig, Protocol};
use tidegate_proxy::streams::ServerId;

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

fn traffic(rng: &mut Rng, prefix: &str, requests: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for number in 0..requests {
        let key = format!("{prefix}{}", rng.below(9));
        let quiet = if rng.one_in(2) { " q" } else { "" };
        let opaque = if rng.one_in(3) {
            format!(" O{number}")
        } else {
            String::new()
        };
        let request = match rng.below(6) {
            0 => {
                let mode = if rng.one_in(2) { " ME" } else { "" };
                let value = "v".repeat(rng.below(300));
                format!(
                    "ms {key} {}{quiet}{mode}{opaque}\r\n{value}\r\n",
                    value.len()
                )
            }
            1 => format!("md {key}{opaque}{quiet}\r\n"),
            2 => format!("mg {key}{opaque}{quiet}\r\n"),
            3 if rng.one_in(4) => "mn\r\n".to_owned(),
            _ => format!("mg {key}{quiet} v{opaque}\r\n"),
        };
        stream.extend(request.into_bytes());
    }
    stream.extend(b"mn\r\n");
    stream
}

#[test]
fn replies_come_in_order_whatever_is_quiet_and_whoever_is_slow() {
    for seed in 0..30 {
        let mut world = patient_world(3, seed);
        world.piece = [5, 60, 700][seed as usize % 3];
        world.servers[seed as usize % 3].trickles = true;
        let mut rng = Rng::new(seed);
        let streams: Vec<Vec<u8>> = (0..6)
            .map(|client| traffic(&mut rng, &format!("c{client}:"), 150))
            .collect();
        let clients: Vec<usize> = streams.iter().map(|s| world.connect(s.clone())).collect();
        world.settle(400_000);
        for (&client, stream) in clients.iter().zip(&streams) {
            let got = String::from_utf8_lossy(&world.clients[client].got);
            assert_eq!(
                got,
                String::from_utf8_lossy(&answers(stream)),
                "seed {seed}"
            );
            world.vanish(client);
        }
        world.settle(1_000);
        world.assert_idle(&format!("seed {seed}"));
    }
}

#[test]
fn a_large_value_is_streamed_and_its_reply_still_hidden() {
    let mut world = world(2, 5);
    let value = "v".repeat(100_000);
    let requests = format!(
        "ms a 100000 q\r\n{value}\r\nmg none q\r\nms a 100000 ME q\r\n{value}\r\nmg a v\r\nmn\r\n"
    );
    let client = world.connect(requests.clone().into_bytes());
    world.settle(100_000);
    let got = &world.clients[client].got;
    assert!(*got == answers(requests.as_bytes()), "{} bytes", got.len());
    assert_eq!(world.proxy.pool_counters(0).requests_streamed, 2);
}

#[test]
fn a_key_in_base64_finds_the_server_of_its_bytes() {
    let mut world = world(3, 5);
    let client = world.connect(Vec::new());
    for (text, encoded) in [
        ("apple", "YXBwbGU="),
        ("banana", "YmFuYW5h"),
        ("kiwi", "a2l3aQ=="),
        ("fig", "Zmln"),
    ] {
        let before: Vec<usize> = world.servers.iter().map(|server| server.requests).collect();
        world.clients[client].to_send =
            format!("mg {text} v\r\nmg {encoded} b v k\r\n").into_bytes();
        world.settle(1_000);
        let asked = world
            .servers
            .iter()
            .zip(before)
            .map(|(server, before)| server.requests - before);
        let mut asked: Vec<usize> = asked.collect();
        asked.sort_unstable();
        assert_eq!(asked, [0, 0, 2], "{text}");
    }
    world.clients[client].got.clear();
    world.clients[client].to_send = b"mg YXBwbG b v\r\nms !!!! 2 b\r\nxx\r\nmn\r\n".to_vec();
    world.settle(1_000);
    assert_eq!(
        String::from_utf8_lossy(&world.clients[client].got),
        "CLIENT_ERROR error decoding key\r\nCLIENT_ERROR error decoding key\r\nMN\r\n"
    );
}

#[test]
fn errors_of_the_proxy_are_never_hidden() {
    let mut world = world(1, 5);
    world.streams.refuse.push(ServerId(0));
    let client = world.connect(b"mg a q\r\nms a 1 q\r\nx\r\nmn\r\n".to_vec());
    world.settle(2_000);
    assert_eq!(
        String::from_utf8_lossy(&world.clients[client].got),
        "SERVER_ERROR Connection refused\r\nSERVER_ERROR Connection refused\r\nMN\r\n"
    );
}

#[test]
fn a_reply_that_is_none_ends_the_connection_to_the_server() {
    for garbage in [
        "VA x\r\n",
        "VA 3\r\nabcd\r\n",
        "VA 1 f0\nx\r\n",
        "?\r\n",
        "VA 99999999999\r\n",
    ] {
        let mut world = world(1, 5);
        let client = world.connect(b"mg a v q\r\nmn\r\n".to_vec());
        world.servers[0].garbage = Some(garbage.as_bytes().to_vec());
        world.settle(2_000);
        let state = &world.clients[client];
        let got = String::from_utf8_lossy(&state.got);
        let is_told = got == "SERVER_ERROR Invalid reply from server\r\nMN\r\n";
        // What was passed on already cannot be taken back.
        assert!(
            is_told || state.closed.is_some() && garbage.starts_with("VA 3"),
            "{garbage:?}: {got:?}"
        );
        assert_eq!(
            world.proxy.server_counters(0).protocol_errors,
            1,
            "{garbage:?}"
        );
    }
}
