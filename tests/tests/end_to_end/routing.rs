//! Keys land on the server that twemproxy would choose, seen from the servers.

use serde_json::Value as Json;
use std::net::SocketAddr;
use std::path::Path;
use tidegate_tests::both_drivers;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::{LabConfig, PoolText};
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;

/// Where each key of each pool went when twemproxy itself was asked.
fn vectors() -> Json {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dataplane/proxy/tests/data/twemproxy-vectors.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn text(value: &Json) -> &str {
    value.as_str().expect("the vectors hold a string here")
}

/// The name by which twemproxy hashes a server, and its weight: the words after the address, or the address itself, of which
/// libmemcached leaves out the port 11211.
fn name_and_weight(server: &str) -> (String, &str) {
    let (address, name) = server.split_once(' ').unwrap_or((server, ""));
    let (address, weight) = address.rsplit_once(':').unwrap();
    let default = address.strip_suffix(":11211").unwrap_or(address);
    (
        if name.is_empty() { default } else { name }.to_owned(),
        weight,
    )
}

/// The pool `number` of the vectors, with the names and weights of its servers but the addresses of the stage's.
fn pool(stage: &dyn Stage, vectors: &Json, number: usize, (name, pool): (&str, &Json)) -> PoolText {
    let addresses: Vec<SocketAddr> = stage
        .servers(ServerKind::Redis)
        .iter()
        .map(|server| server.address(Family::V4))
        .collect();
    let mut text_pool = PoolText::extra(stage.plan(), number, name, ServerKind::Redis, &addresses);
    let list = if text(&pool["servers"]).starts_with("named") {
        "servers_named"
    } else {
        "servers_plain"
    };
    let named = vectors[list].as_array().unwrap();
    text_pool.servers = addresses
        .iter()
        .zip(named)
        .map(|(address, server)| {
            let (name, weight) = name_and_weight(text(server));
            let weight = if text(&pool["servers"]).ends_with("w111") {
                "1"
            } else {
                weight
            };
            format!("{address}:{weight} {name}")
        })
        .collect();
    text_pool
        .lines
        .push(format!("hash = \"{}\"", text(&pool["hash"])));
    text_pool.lines.push(format!(
        "distribution = \"{}\"",
        text(&pool["distribution"])
    ));
    if let Some(tag) = pool["hash_tag"].as_str() {
        text_pool.lines.push(format!("hash_tag = \"{tag}\""));
    }
    text_pool
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

/// The pools of the vectors, with their names.
fn pools(vectors: &Json) -> impl Iterator<Item = (&str, &Json)> {
    let pools = vectors["pools"]
        .as_object()
        .expect("the vectors have pools");
    pools.iter().map(|(name, pool)| (name.as_str(), pool))
}

both_drivers!(
    every_key_of_every_pool_lands_on_twemproxys_server,
    LabOptions {
        memcached: 0,
        ..LabOptions::default()
    },
    |stage| {
        let vectors = vectors();
        pools(&vectors)
            .enumerate()
            .map(|(number, entry)| pool(stage, &vectors, number, entry))
            .fold(LabConfig::without_pools(stage), LabConfig::pool)
    },
    every_key_of_every_pool_lands_on_twemproxys_server
);

fn every_key_of_every_pool_lands_on_twemproxys_server(scene: &mut Scene) {
    let vectors = vectors();
    let pools: Vec<(&str, &Json)> = pools(&vectors).collect();
    let keys: Vec<Vec<u8>> = vectors["keys_hex"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| unhex(text(key)))
        .collect();

    let mut checked = 0;
    for (number, (name, shape)) in pools.iter().enumerate() {
        let listener = scene.plan().extra_pool(number, Family::V4);
        scene.on_client(|| {
            let mut client = Redis::open(listener).unwrap();
            for key in &keys {
                assert_eq!(client.ask(&[b"SET", key, b"1"]).unwrap(), Value::ok());
            }
        });
        let map = text(&shape["map"]);
        scene.on_server(|| {
            for server in scene.servers(ServerKind::Redis) {
                let mut direct = Redis::open(server.address(Family::V4)).unwrap();
                for (key, owner) in keys.iter().zip(map.bytes()) {
                    let owned = usize::from(owner - b'0') == server.index;
                    let held = direct.ask(&[b"EXISTS", key]).unwrap();
                    assert_eq!(
                        held,
                        Value::Integer(owned.into()),
                        "pool {name}, key {}, server {}",
                        key.escape_ascii(),
                        server.index
                    );
                    checked += 1;
                }
                assert_eq!(direct.words("FLUSHALL").unwrap(), Value::ok());
            }
        });
    }
    assert_eq!(checked, pools.len() * keys.len() * 3);
    assert!(
        pools.len() >= 29 && keys.len() >= 71,
        "the vectors have shrunk"
    );
}
