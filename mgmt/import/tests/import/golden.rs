//! A file that says everything, and exactly what becomes of it.

use super::{imported, parse, shown};
use tidegate_config::{Compat, Distribution, HashKind, Protocol, Secret};

const RICH: &str = include_str!("../data/rich.yml");

#[test]
fn a_file_that_says_everything_becomes_this_one() {
    let imported = imported(RICH);
    assert_eq!(imported.toml, include_str!("../data/rich.toml"));
    let warnings: Vec<String> = imported.warnings.iter().map(shown).collect();
    let expected: Vec<&str> = include_str!("../data/rich.warnings").lines().collect();
    assert_eq!(warnings, expected);
}

#[test]
fn what_it_became_means_what_it_said() {
    let config = parse(&imported(RICH).toml);
    let [sessions, plain, files, numbered] = config.pools.as_slice() else {
        panic!("{} pools", config.pools.len());
    };
    assert_eq!(sessions.protocol, Protocol::Redis);
    assert_eq!(sessions.hash, HashKind::Murmur);
    assert_eq!(sessions.hash_tag, Some(*b"{}"));
    assert_eq!(sessions.timeout_ms, Some(400));
    assert_eq!(sessions.client_keepalive_s, Some(7_200));
    for secret in [&sessions.redis_auth, &sessions.server_auth] {
        assert_eq!(secret.as_ref().map(Secret::reveal), Some("se\"cret"));
    }
    // twemproxy's defaults, where Tidegate has its own.
    assert_eq!(plain.protocol, Protocol::Memcached);
    assert_eq!((plain.timeout_ms, plain.client_keepalive_s), (None, None));
    assert_eq!((plain.backlog, plain.compat), (512, Compat::Twemproxy));
    assert_eq!(plain.redis_auth, None);
    assert_eq!(files.distribution, Distribution::Modula);
    assert_eq!(files.listen[0].mode, Some(0o660));
    assert_eq!(files.servers[0].name, "/run/cache/a.sock:");
    assert_eq!(numbered.listen.len(), 2, "IPv6 and IPv4");
    assert_eq!(numbered.servers[0].name, "0.0.0.0:6390");
    assert_eq!(numbered.servers[1].address.to_string(), "10.0.0.9:6391");
    assert_eq!(numbered.servers[1].name, "::ffff:10.0.0.9:6391");
}
