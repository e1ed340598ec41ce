//! The same keys go to the same servers: against what an observed twemproxy did.

use super::{Options, Port, config, import_with, parse, usual};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use tidegate_config::{Compat, Config};
use tidegate_proxy::routing::Router;

/// What nutcracker did: for each pool, one digit per key that names the server it went to, by its position in the file.
#[derive(Deserialize)]
struct Vectors {
    servers_named: Vec<String>,
    servers_plain: Vec<String>,
    keys_hex: Vec<String>,
    pools: BTreeMap<String, VectorPool>,
}

#[derive(Deserialize)]
struct VectorPool {
    hash: String,
    distribution: String,
    servers: String,
    hash_tag: Option<String>,
    map: String,
}

fn vectors() -> Vectors {
    let text = include_str!("../../../../dataplane/proxy/tests/data/twemproxy-vectors.json");
    serde_json::from_str(text).unwrap()
}

impl Vectors {
    fn keys(&self) -> Vec<Vec<u8>> {
        let byte =
            |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        let keys = self.keys_hex.iter();
        keys.map(|hex| hex.as_bytes().chunks(2).map(byte).collect())
            .collect()
    }

    fn servers(&self, pool: &VectorPool) -> &[String] {
        match pool.servers.as_str() {
            "named_w123" => &self.servers_named,
            "plain" => &self.servers_plain,
            other => panic!("unknown set of servers {other}"),
        }
    }

    /// A file of twemproxy with all the pools, their servers in the order that `order` makes of theirs.
    fn file(&self, order: impl Fn(&mut Vec<&String>)) -> String {
        let mut text = String::new();
        for (number, (name, pool)) in self.pools.iter().enumerate() {
            let port = 20_000 + number;
            writeln!(text, "{name}:\n  listen: 192.0.2.10:{port}").unwrap();
            // Defaults are left out: the import has to know them.
            if pool.hash != "fnv1a_64" {
                writeln!(text, "  hash: {}", pool.hash).unwrap();
            }
            if pool.distribution != "ketama" {
                writeln!(text, "  distribution: {}", pool.distribution).unwrap();
            }
            if let Some(tag) = &pool.hash_tag {
                writeln!(text, "  hash_tag: \"{tag}\"").unwrap();
            }
            writeln!(text, "  servers:").unwrap();
            let mut servers: Vec<&String> = self.servers(pool).iter().collect();
            order(&mut servers);
            for server in servers {
                writeln!(text, "   - {server}").unwrap();
            }
        }
        text
    }

    /// How many keys go to the server that twemproxy chose, which is known by its address.
    fn compare(&self, config: &Config) -> usize {
        let keys = self.keys();
        let mut compared = 0;
        for (pool, (name, expected)) in config.pools.iter().zip(&self.pools) {
            assert_eq!(&pool.name, name);
            let mut router = Router::new(pool, 0);
            for (key, digit) in keys.iter().zip(expected.map.bytes()) {
                let owner = &self.servers(expected)[usize::from(digit - b'0')];
                let found = router.route(key).unwrap();
                let address = pool.servers[found].address.to_string();
                assert!(
                    owner.starts_with(&format!("{address}:")),
                    "{name}: {} goes to {address} instead of {owner}",
                    key.escape_ascii()
                );
                compared += 1;
            }
        }
        compared
    }
}

#[test]
fn every_vector_of_twemproxy_maps_to_the_same_server() {
    let vectors = vectors();
    let config = config(&vectors.file(|_| {}));
    assert_eq!(vectors.compare(&config), 29 * 71);
}

#[test]
fn the_order_of_servers_in_the_file_decides_nothing() {
    let vectors = vectors();
    let files = [
        vectors.file(|servers| servers.reverse()),
        vectors.file(|servers| servers.rotate_left(1)),
    ];
    for file in files {
        assert_eq!(vectors.compare(&config(&file)), 29 * 71);
    }
}

#[test]
fn neither_driver_nor_habits_nor_workers_move_a_key() {
    let vectors = vectors();
    let ports = [
        Port::Kernel { workers: 7 },
        Port::Afxdp {
            interface: "eth1".to_owned(),
        },
    ];
    for port in ports {
        let options = Options {
            port,
            compat: Compat::None,
            ..usual()
        };
        let imported = import_with(&vectors.file(|_| {}), options).unwrap();
        let config = parse(&imported.toml);
        assert!(config.pools.iter().all(|pool| pool.compat == Compat::None));
        assert_eq!(vectors.compare(&config), 29 * 71);
    }
}

#[test]
fn the_name_that_is_hashed_is_always_twemproxys() {
    for (server, name) in [
        ("10.0.0.1:11211:1", "10.0.0.1"),
        ("10.0.0.1:011211:1", "10.0.0.1"),
        ("10.0.0.1:06379:1", "10.0.0.1:06379"),
        ("10.0.0.1:6379:01", "10.0.0.1:6379"),
        ("10.0.0.1:6379:1 a", "a"),
        ("::1:11211:1", "::1"),
        ("2001:DB8:0::1:6379:1", "2001:DB8:0::1:6379"),
        ("\"[::1]:11211:1\"", "[::1]"),
        ("::ffff:10.0.0.1:11211:1", "::ffff:10.0.0.1"),
        ("/run/a.sock:1", "/run/a.sock:"),
        ("/run/a.sock:3 é", "é"),
        ("0.0.0.0:11211:1", "0.0.0.0"),
    ] {
        let text = format!("a:\n listen: 127.0.0.1:1\n servers:\n - {server}\n");
        assert_eq!(config(&text).pools[0].servers[0].name, name, "{server}");
    }
}

#[test]
fn the_keys_of_a_name_that_is_looked_up_stay_its_own() {
    let text =
        "a:\n listen: cache:1\n servers:\n - cache:11211:1\n - cache:6379:1\n - cache:6380:1 c\n";
    let mut asked = Vec::new();
    let mut resolve = |name: &str| {
        asked.push(name.to_owned());
        Ok([10, 0, 0, 7].into())
    };
    let imported = import_with(text, super::looking_up(&mut resolve)).unwrap();
    assert_eq!(asked, ["cache"], "once");
    let config = parse(&imported.toml);
    let pool = &config.pools[0];
    assert_eq!(pool.listen[0].to_string(), "10.0.0.7:1");
    let names: Vec<&str> = pool.servers.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["cache", "cache:6379", "c"]);
    assert_eq!(imported.warnings.len(), 4, "{:#?}", imported.warnings);
    assert_eq!(super::imported(&super::pool_with("")).warnings, []);
}
