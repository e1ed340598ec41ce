//! The mapping against an observed twemproxy, and what happens when servers come and go.

use super::{Router, value};
use serde::Deserialize;
use std::collections::BTreeMap;
use tidegate_config::{
    Compat, Distribution, Endpoint, HashKind, Partial, PoolConfig, Protocol, ServerConfig,
};

/// What nutcracker did: for each pool, one digit per key that names the server it went to.
#[derive(Deserialize)]
struct Vectors {
    servers_named: Vec<String>,
    servers_plain: Vec<String>,
    keys_hex: Vec<String>,
    pools: BTreeMap<String, VectorPool>,
}

#[derive(Deserialize)]
struct VectorPool {
    hash: HashKind,
    distribution: Distribution,
    servers: String,
    hash_tag: Option<String>,
    map: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/data/twemproxy-vectors.json"))
        .expect("the fixture is valid JSON")
}

fn server(text: &str) -> ServerConfig {
    let (address, rest) = text.rsplit_once(':').expect("host:port:weight");
    let (weight, name) = match rest.split_once(' ') {
        Some((weight, name)) => (weight, name),
        None => (rest, address.strip_suffix(":11211").unwrap_or(address)),
    };
    ServerConfig {
        address: Endpoint::Ip(address.parse().expect("an address")),
        name: name.to_owned(),
        weight: weight.parse().expect("a weight"),
    }
}

fn pool(
    distribution: Distribution,
    hash: HashKind,
    tag: Option<[u8; 2]>,
    servers: &[String],
) -> PoolConfig {
    PoolConfig {
        name: "pool".to_owned(),
        listen: vec![],
        backlog: 1024,
        protocol: Protocol::Memcached,
        distribution,
        hash,
        hash_tag: tag,
        servers: servers.iter().map(|text| server(text)).collect(),
        timeout_ms: None,
        slowlog_us: None,
        server_connections: 1,
        clients_max: None,
        own_connections_max: 128,
        preconnect: false,
        auto_eject_hosts: true,
        server_retry_timeout_ms: 30_000,
        server_failure_limit: 2,
        client_keepalive_s: None,
        databases: 1,
        database: 0,
        redis_auth: None,
        redis_user: None,
        memcached_auth: None,
        memcached_user: None,
        server_auth: None,
        server_user: None,
        partial: Partial::Error,
        compat: Compat::None,
    }
}

fn keys(vectors: &Vectors) -> Vec<Vec<u8>> {
    let byte = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).expect("ASCII");
        u8::from_str_radix(digits, 16).expect("hexadecimal digits")
    };
    vectors
        .keys_hex
        .iter()
        .map(|hex| hex.as_bytes().chunks(2).map(byte).collect())
        .collect()
}

/// Compares every vector; returns how many were compared and how many went elsewhere under `alter`ed hashes.
fn compare(alter: impl Fn(HashKind) -> HashKind) -> (usize, usize) {
    let vectors = vectors();
    let keys = keys(&vectors);
    let (mut compared, mut differing) = (0, 0);
    for pool_vectors in vectors.pools.values() {
        let servers = match pool_vectors.servers.as_str() {
            "named_w123" => &vectors.servers_named,
            "plain" => &vectors.servers_plain,
            other => panic!("unknown set of servers {other}"),
        };
        let tag = pool_vectors
            .hash_tag
            .as_ref()
            .map(|tag| tag.as_bytes().try_into().expect("two bytes"));
        let config = pool(
            pool_vectors.distribution,
            alter(pool_vectors.hash),
            tag,
            servers,
        );
        let mut router = Router::new(&config, 0);
        assert_eq!(pool_vectors.map.len(), keys.len());
        for (key, digit) in keys.iter().zip(pool_vectors.map.bytes()) {
            compared += 1;
            differing += usize::from(router.route(key) != Some(usize::from(digit - b'0')));
        }
    }
    (compared, differing)
}

#[test]
fn every_vector_of_twemproxy_maps_to_the_same_server() {
    assert_eq!(compare(|hash| hash), (29 * 71, 0));
}

#[test]
fn the_vectors_notice_any_altered_hash() {
    let used: Vec<HashKind> = vectors().pools.values().map(|pool| pool.hash).collect();
    for altered in used {
        let other = if altered == HashKind::Murmur {
            HashKind::Jenkins
        } else {
            HashKind::Murmur
        };
        let (_, differing) = compare(|hash| if hash == altered { other } else { hash });
        assert!(differing > 10, "{altered:?}: {differing}");
    }
}

fn three() -> Vec<String> {
    vectors().servers_named
}

#[test]
fn a_server_that_is_out_gets_nothing_and_the_others_keep_their_keys() {
    for hash in [HashKind::Md5, HashKind::Murmur] {
        let config = pool(Distribution::Ketama, hash, None, &three());
        let mut router = Router::new(&config, 0);
        let keys: Vec<String> = (0..2_000).map(|n| format!("user:{n}")).collect();
        let before: Vec<_> = keys
            .iter()
            .map(|key| router.route(key.as_bytes()))
            .collect();
        router.set_live(1, false);
        assert_eq!(router.live(), 2);
        let mut moved = 0;
        for (key, owner) in keys.iter().zip(&before) {
            let now = router.route(key.as_bytes());
            assert_ne!(now, Some(1));
            moved += usize::from(*owner != Some(1) && now != *owner);
        }
        // Shares are whole digests, so they shift a little with the number of live servers; most keys stay.
        assert!(moved < keys.len() / 5, "{moved}");
        router.set_live(1, true);
        let after: Vec<_> = keys
            .iter()
            .map(|key| router.route(key.as_bytes()))
            .collect();
        assert_eq!(before, after);
    }
}

#[test]
fn with_every_server_out_no_distribution_routes() {
    for distribution in [
        Distribution::Ketama,
        Distribution::Modula,
        Distribution::Random,
    ] {
        for servers in 1..=3 {
            let config = pool(distribution, HashKind::Fnv1a64, None, &three()[..servers]);
            let mut router = Router::new(&config, 1);
            for server in 0..servers {
                assert!(router.route(b"key").is_some());
                router.set_live(server, false);
            }
            assert_eq!(router.route(b"key"), None);
            assert_eq!(router.route(b""), None);
            router.set_live(servers - 1, true);
            assert_eq!(router.route(b"key"), Some(servers - 1));
        }
    }
}

#[test]
fn an_only_server_owns_every_key() {
    for distribution in [
        Distribution::Ketama,
        Distribution::Modula,
        Distribution::Random,
    ] {
        let config = pool(distribution, HashKind::Md5, Some(*b"{}"), &three()[..1]);
        let mut router = Router::new(&config, 1);
        assert_eq!(router.route(b""), Some(0));
        assert_eq!(router.route(b"{a}b"), Some(0));
    }
}

#[test]
fn an_empty_key_has_the_value_0_without_hashing() {
    assert_eq!(value(HashKind::Md5, None, b""), 0);
    assert_eq!(value(HashKind::Jenkins, Some(*b"{}"), b""), 0);
    // The shortest name comes first in twemproxy's order: "b" is the second server of the file.
    let config = pool(Distribution::Modula, HashKind::Md5, None, &three());
    assert_eq!(Router::new(&config, 0).route(b""), Some(1));
}

#[test]
fn the_order_is_length_first_then_bytes() {
    let servers: Vec<String> = ["bb", "a", "ba", "ccc", "b"]
        .iter()
        .enumerate()
        .map(|(n, name)| format!("127.0.0.{}:11211:1 {name}", n + 1))
        .collect();
    let config = pool(Distribution::Modula, HashKind::Crc32, None, &servers);
    let router = Router::new(&config, 0);
    let order: Vec<u32> = router.members.iter().map(|m| m.position).collect();
    assert_eq!(order, [1, 4, 2, 0, 3]);
}

#[test]
fn the_same_seed_makes_the_same_random_choices() {
    let config = pool(Distribution::Random, HashKind::Md5, None, &three());
    let choices = |seed| {
        let mut router = Router::new(&config, seed);
        (0..64).map(|_| router.route(b"key")).collect::<Vec<_>>()
    };
    assert_eq!(choices(5), choices(5));
    assert_ne!(choices(5), choices(6));
}
