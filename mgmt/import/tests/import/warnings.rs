//! What is not carried over as it stands is said, each time with its line.

use super::{config, import_with, imported, parse, pool_with, shown, usual};
use tidegate_config::Config;

/// The warnings that `lines` bring to a pool.
#[track_caller]
fn warnings(lines: &str) -> Vec<String> {
    imported(&pool_with(lines))
        .warnings
        .iter()
        .map(shown)
        .collect()
}

#[test]
fn what_is_carried_over_brings_no_warning() {
    let lines = "  hash: md5\n  hash_tag: ab\n  distribution: modula\n  timeout: 400\n  backlog: 7\n  redis: true\n  redis_db: 0\n  \
                 preconnect: true\n  auto_eject_hosts: true\n  server_connections: 2\n  server_retry_timeout: 1\n  \
                 server_failure_limit: 1\n  tcpkeepalive: false\n";
    assert_eq!(warnings(lines), Vec::<String>::new());
}

#[test]
fn every_option_without_a_counterpart_is_named() {
    for (lines, expected) in [
        (
            "  client_connections: 0\n",
            "3:23 pool \"a\": client_connections",
        ),
        ("  reuseport: true\n", "3:14 pool \"a\": reuseport"),
        ("  redis_db: 3\n", "3:13 pool \"a\": redis_db"),
        (
            "  redis: true\n  redis_db: 1024\n",
            "4:13 pool \"a\": redis_db is NOT carried over",
        ),
        ("  redis: true\n  redis_auth: hunter2\n", "4:15 redis_auth"),
        (
            "  timeout: 3600001\n",
            "3:12 pool \"a\": timeout = 3600001 becomes 3600000",
        ),
        ("  backlog: 0\n", "3:12 pool \"a\": backlog = 0 becomes 1"),
        (
            "  server_connections: 2000\n",
            "3:23 pool \"a\": server_connections = 2000 becomes 1024",
        ),
        (
            "  server_retry_timeout: 0\n",
            "3:25 pool \"a\": server_retry_timeout = 0 becomes 1",
        ),
        (
            "  server_failure_limit: 0\n",
            "3:25 pool \"a\": server_failure_limit = 0 becomes 1",
        ),
    ] {
        let found = warnings(lines);
        assert_eq!(found.len(), 1, "{lines}{found:#?}");
        assert!(found[0].starts_with(expected), "{}", found[0]);
        assert!(!found[0].contains("hunter2"), "{}", found[0]);
    }
}

#[test]
fn a_database_is_carried_over() {
    for (number, expected) in [
        (3, "database = 3\n"),
        (40, "databases = 41\ndatabase = 40\n"),
    ] {
        let lines = format!("  redis: true\n  redis_db: {number}\n");
        assert_eq!(warnings(&lines), Vec::<String>::new());
        let toml = imported(&pool_with(&lines)).toml;
        assert!(toml.contains(expected), "{toml}");
        parse(&toml);
    }
}

#[test]
fn a_database_that_twemproxy_never_selected_is_no_loss() {
    let both = "  redis: true\n  redis_auth: hunter2\n  redis_db: 3\n";
    let found = warnings(both);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[1].contains("nothing changes"), "{}", found[1]);
    let toml = imported(&pool_with(both)).toml;
    assert!(!toml.contains("database"), "{toml}");
}

#[test]
fn permissions_and_names_that_mean_something_else_are_named() {
    for (from, to, expected, becomes) in [
        (
            "127.0.0.1:22121",
            "/run/a.sock 0",
            "2:11",
            "\"/run/a.sock\"",
        ),
        ("a:\n", "é:\n", "1:1", "\"pool\""),
        ("a:\n", "-x y:\n", "1:1", "\"x-y\""),
        (
            "11211:1",
            "6379:1 b\n    - ::5:1:11211",
            "5:7",
            "\"[::5]:1:11211 ::5:1\"",
        ),
        (
            "127.0.0.1:11211:1",
            "'[::1]:6379:1'",
            "4:7",
            "\"[::1]:6379:1 [::1]:6379\"",
        ),
    ] {
        let imported = imported(&pool_with("").replacen(from, to, 1));
        assert_eq!(imported.warnings.len(), 1, "{:#?}", imported.warnings);
        let warning = shown(&imported.warnings[0]);
        assert!(warning.starts_with(expected), "{warning}");
        assert!(
            imported.toml.contains(becomes),
            "{becomes}\n{}",
            imported.toml
        );
    }
}

#[test]
fn names_of_pools_stay_apart() {
    let texts = ["a-b", "a b", "a?b", "é", "漢", "pool", "pool-2"];
    let long = ["n".repeat(100), "n".repeat(101)];
    let names = texts.into_iter().chain(long.iter().map(String::as_str));
    let pools = names
        .enumerate()
        .map(|(n, name)| {
            let port = n + 1;
            format!("{name}:\n listen: 127.0.0.1:{port}\n servers:\n - 10.0.0.1:1:1\n")
        })
        .collect::<Vec<_>>();
    let config = config(&pools.concat());
    let names: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    let n = "n".repeat(56);
    let numbered = format!("{n}-2");
    assert_eq!(
        names,
        [
            "a-b", "a-b-2", "a-b-3", "pool-3", "pool-4", "pool", "pool-2", &n, &numbered
        ]
    );
}

#[test]
fn on_af_xdp_there_is_no_backlog() {
    let afxdp = || super::Options {
        port: super::Port::Afxdp {
            interface: "eth1".to_owned(),
        },
        ..usual()
    };
    let text = pool_with("").replace("127.0.0.1", "10.0.0.1");
    let imported = import_with(&text.replace("10.0.0.1:11211", "10.0.0.2:11211"), afxdp()).unwrap();
    assert_eq!(imported.warnings, []);
    assert_eq!(parse(&imported.toml).ports[0].interface, "eth1");
    let with_backlog = text.replace("  servers", "  backlog: 9\n  servers");
    let imported = import_with(&with_backlog, afxdp()).unwrap();
    assert_eq!(imported.warnings.len(), 1);
    assert!(shown(&imported.warnings[0]).contains("half_open_max"));
}

#[test]
fn many_server_connections_are_allowed_for() {
    let limit = |connections: usize| {
        let servers = (0..connections)
            .map(|n| format!("    - 10.0.{}.{}:1:1\n", n / 256, n % 256))
            .collect::<Vec<_>>()
            .concat();
        let text = pool_with("").replace("    - 127.0.0.1:11211:1\n", &servers);
        let config: Config = config(&text);
        config.worker.server_connections_max
    };
    assert_eq!(limit(10), 256);
    assert_eq!(limit(192), 256);
    assert_eq!(limit(193), 257);
    assert_eq!(limit(1_000), 1_064);
}
