//! Whole files: what they become, and what is wrong with them.

mod changes;
mod dpdk;
mod http;
mod kernel;
mod made;
mod numbers;
mod queues;
mod random;
mod shipped;
mod users;

use crate::{Compat, Config, HashKind, Partial, Protocol, Queues, limits};

/// The least that is a configuration.
const MINIMAL: &str = r#"
[[port]]
interface = "eth1"

[[pool]]
name = "sessions"
listen = "10.0.0.10:11211"
protocol = "memcached"
servers = ["10.0.1.11:11211:1"]
"#;

const REDIS: &str = r#"
[[port]]
interface = "eth1"
queues = { 0 = 2, 1 = 3 }

[[pool]]
name = "catalogue"
listen = ["10.0.0.10:6379", "[2001:db8::10]:6379"]
protocol = "redis"
servers = ["10.0.1.21:6379:2 a", "[2001:db8::22]:6379"]
hash_tag = "{}"
redis_auth = "hunter2"
server_auth = "hunter3"
"#;

fn parse(text: &str) -> Config {
    Config::parse(text, "t.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

/// The faults of a text, as `line:column what`.
fn faults(text: &str) -> Vec<String> {
    match Config::parse(text, "t.toml") {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .faults
            .iter()
            .map(|fault| format!("{}:{} {}", fault.line, fault.column, fault.what))
            .collect(),
    }
}

/// The faults of the least configuration with `key = value` added to its last table, or under `header`.
fn faults_with(header: &str, line: &str) -> Vec<String> {
    faults(&format!("{MINIMAL}\n{header}\n{line}\n"))
}

#[track_caller]
fn assert_one(faults: &[String], parts: &[&str]) {
    assert_eq!(faults.len(), 1, "{faults:#?}");
    for part in parts {
        assert!(faults[0].contains(part), "{part:?} not in {:?}", faults[0]);
    }
}

#[test]
fn the_least_file_gets_every_default() {
    let config = parse(MINIMAL);
    assert_eq!(config.name, "tidegate");
    assert_eq!(config.ports[0].queues, Queues::Auto);
    assert_eq!(
        u64::from(config.ports[0].ring_size),
        limits::RING_SIZE.default
    );
    assert_eq!(config.ports[0].mtu_bytes, None);
    assert_eq!(config.pools[0].protocol, Protocol::Memcached);
    assert_eq!(config.pools[0].hash, HashKind::Fnv1a64);
    assert_eq!(config.pools[0].timeout_ms, Some(5_000));
    assert_eq!(config.pools[0].servers[0].name, "10.0.1.11");
    assert_eq!(config.worker.source_ports, limits::SOURCE_PORTS);
    assert_eq!(config.queue_map(), None);
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn listeners_and_servers_are_numbered_over_all_pools_in_file_order() {
    let second = REDIS.replace(
        "[[port]]\ninterface = \"eth1\"\nqueues = { 0 = 2, 1 = 3 }",
        "",
    );
    let config = parse(&format!("{MINIMAL}{second}"));
    let listeners: Vec<(usize, String)> = config
        .listeners()
        .map(|(pool, listen)| (pool, listen.to_string()))
        .collect();
    assert_eq!(
        listeners,
        [
            (0, "10.0.0.10:11211".to_owned()),
            (1, "10.0.0.10:6379".to_owned()),
            (1, "[2001:db8::10]:6379".to_owned()),
        ]
    );
    let servers: Vec<(usize, &str)> = config
        .servers()
        .map(|(pool, server)| (pool, server.name.as_str()))
        .collect();
    assert_eq!(
        servers,
        [(0, "10.0.1.11"), (1, "a"), (1, "2001:db8::22:6379")]
    );
}

#[test]
fn every_fault_of_a_file_is_reported_at_once_with_its_place() {
    let text = r#"name = "a b"
colour = "red"

[[port]]
interface = "eth1"
queues = { 0 = 2, 2 = 3 }
ring_size = 1000

[[pool]]
name = "one"
listen = "0.0.0.0:11211"
protocol = "memcache"
hash = "fnv1a64"
hash_tag = "{"
servers = ["10.0.1.1:11211:0", "cache-2:11211:1"]
timeout = 400

[[pool]]
name = "one"
listen = "10.0.0.10:61000"
protocol = "memcached"
redis_auth = "hunter2"

[worker]
requests_max = 100
client_requests_max = 200
source_ports = "60000-62000"
idle = 3
"#;

    let found = faults(text);

    let expected = [
        "1:8 name = \"a b\" must be",
        "2:1 unknown key \"colour\"",
        "6:10 port \"eth1\": queues: queue 1 has no core",
        "7:13 port \"eth1\": ring_size = 1000 must be a power of two, for example 512 or 1024",
        "11:10 pool \"one\": listen \"0.0.0.0:11211\": 0.0.0.0 means every address",
        "12:12 pool \"one\": protocol = \"memcache\" is not one of memcached, redis; did you mean \"memcached\"?",
        "13:8 pool \"one\": hash = \"fnv1a64\" is not one of",
        "14:12 pool \"one\": hash_tag = \"{\" must be exactly two bytes",
        "15:12 pool \"one\": server \"10.0.1.1:11211:0\": weight \"0\" is not a number between 1",
        "15:32 pool \"one\": server \"cache-2:11211:1\": \"cache-2\" is not an IP address",
        "16:1 pool \"one\": unknown key \"timeout\"",
        "18:1 pool \"one\": servers is missing",
        "19:8 pool \"one\": the name is that of the pool of line 10",
        "20:10 pool \"one\": listen 10.0.0.10:61000 lies within source_ports",
        "22:14 pool \"one\": redis_auth needs protocol = \"redis\"",
        "26:23 worker: client_requests_max = 200 must not exceed requests_max = 100",
        "28:8 worker: idle must be a string in quotes, not of type integer",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found:?} is not {expected:?}");
    }
}

#[test]
fn an_error_prints_file_line_and_column() {
    let errors = Config::parse("x = 1\n", "/etc/t.toml").expect_err("faults");
    assert!(
        errors.to_string().starts_with("/etc/t.toml:1:1: "),
        "{errors}"
    );
}

#[test]
fn broken_syntax_is_reported_together_with_what_could_still_be_read() {
    let text = "[[port]]\ninterface = \"eth1\nring_size = 1000\n[[pool]]\nname = \nhash = \"x\"\n";
    let found = faults(text);
    assert!(
        found.iter().any(|fault| fault.starts_with("2:")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|fault| fault.starts_with("5:")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|fault| fault.contains("1000")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|fault| fault.contains("hash = \"x\"")),
        "{found:#?}"
    );
    assert!(
        !found.iter().any(|fault| fault.contains("missing")),
        "{found:#?}"
    );
}

#[test]
fn a_key_twice_is_a_fault() {
    assert_one(
        &faults(&format!("name = \"a\"\nname = \"b\"\n{MINIMAL}")),
        &["2:1", "duplicate key"],
    );
}

#[test]
fn an_empty_file_says_what_it_needs() {
    let found = faults("");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("no [[port]]") && found[1].contains("no [[pool]]"),
        "{found:#?}"
    );
}

#[test]
fn tables_of_the_wrong_shape_say_how_to_write_them() {
    let found = faults("worker = 1\nport = \"eth1\"\n[pool]\nname = \"a\"\n");
    assert_eq!(found.len(), 3, "{found:#?}");
    for (found, part) in found.iter().zip(["[worker]", "[[port]]", "[[pool]]"]) {
        assert!(found.contains(part), "{found}");
    }
}

#[test]
fn a_pool_keeps_its_own_habits_or_those_of_twemproxy() {
    let compat = |line: &str| parse(&format!("{MINIMAL}{line}")).pools[0].compat;
    assert_eq!(compat(""), Compat::None);
    assert_eq!(compat("compat = \"none\"\n"), Compat::None);
    assert_eq!(compat("compat = \"twemproxy\"\n"), Compat::Twemproxy);
    let faults = faults(&format!("{MINIMAL}compat = \"nutcracker\"\n"));
    assert_one(&faults, &["compat", "nutcracker", "none, twemproxy"]);
}

#[test]
fn a_pool_says_what_becomes_of_replies_that_lack_a_part() {
    let partial = |line: &str| parse(&format!("{MINIMAL}{line}")).pools[0].partial;
    assert_eq!(partial(""), Partial::Error);
    assert_eq!(partial("partial = \"error\"\n"), Partial::Error);
    assert_eq!(partial("partial = \"misses\"\n"), Partial::Misses);
    let faults = faults(&format!("{MINIMAL}partial = \"yes\"\n"));
    assert_one(&faults, &["partial", "yes", "error, misses"]);
    let both = format!("{MINIMAL}partial = \"misses\"\ncompat = \"twemproxy\"\n");
    let warnings = parse(&both).warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains("partial")),
        "{warnings:#?}"
    );
}

#[test]
fn the_effective_configuration_parses_to_the_same_one() {
    for text in [
        MINIMAL.to_owned(),
        format!("{MINIMAL}compat = \"twemproxy\"\n"),
        REDIS.replace(
            "redis_auth = \"hunter2\"\nserver_auth = \"hunter3\"",
            "databases = 3",
        ),
        format!("{MINIMAL}partial = \"misses\"\n"),
        format!("{MINIMAL}[worker]\nuser = \"cache\"\nsource_address = \"2001:db8::1\"\n"),
        format!("name = \"edge-1\"\nstats_listen = \"[::1]:22222\"\n{MINIMAL}")
            .replace("interface", "mtu_bytes = 1400\ninterface"),
        MINIMAL
            .replace("11211:1\"", r#"11211:1 "\\odd"\"#)
            .replace(r#""\\odd"\"#, r#"\"\\odd\"""#),
    ] {
        let config = parse(&text);
        assert_eq!(parse(&config.effective_toml()), config);
    }
}

#[test]
fn a_configuration_travels_as_json() {
    let config = parse(REDIS);
    let json = serde_json::to_string(&config).expect("JSON");
    assert_eq!(
        serde_json::from_str::<Config>(&json).expect("a configuration"),
        config
    );
}

#[test]
fn a_listening_address_twice_is_a_fault_even_in_one_pool() {
    let text = MINIMAL.replace("\"10.0.0.10:11211\"", "[\"10.0.0.10:1\", \"10.0.0.10:1\"]");
    assert_one(&faults(&text), &["7:26", "taken by line 7"]);
}

#[test]
fn a_server_name_twice_in_a_pool_is_a_fault() {
    let text = MINIMAL.replace(":1\"]", ":1\", \"10.0.1.12:11211:1 10.0.1.11\"]");
    assert_one(
        &faults(&text),
        &["the name \"10.0.1.11\" is taken by the server of line 9"],
    );
}

#[test]
fn a_server_that_is_our_own_address_is_a_fault() {
    let text = MINIMAL.replace("10.0.1.11", "10.0.0.10");
    assert_one(
        &faults(&text),
        &["9:12", "is the listening address of line 7"],
    );
}

#[test]
fn warnings_name_what_is_seldom_meant() {
    let text = MINIMAL
        .replace(
            "interface = \"eth1\"",
            "interface = \"eth1\"\nqueues = { 0 = 2, 1 = 2 }",
        )
        .replace(":1\"]", ":1\", \"127.0.0.1:11211:1000000 big\"]");
    let config = parse(&format!("{text}timeout_ms = 60000\n"));
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    let parts = [
        "queues 0, 1 are all on core 2",
        "\"10.0.1.11\" gets no key",
        "loopback",
        "60000",
    ];
    for (warning, part) in warnings.iter().zip(parts) {
        assert!(warning.contains(part), "{warning}");
    }
}

#[test]
fn statistics_are_told_at_an_address_with_a_port() {
    let told = |line: &str| parse(&format!("{line}\n{MINIMAL}")).stats_listen;
    assert_eq!(told(""), None);
    let address = told("stats_listen = \"127.0.0.1:22222\"");
    assert_eq!(address, "127.0.0.1:22222".parse().ok());
    for wrong in ["here", "127.0.0.1", "127.0.0.1:0", ":22222"] {
        let found = faults(&format!("stats_listen = \"{wrong}\"\n{MINIMAL}"));
        assert!(
            found
                .iter()
                .any(|fault| fault.contains("an IP address and a port")),
            "{found:?}"
        );
    }
}

#[test]
fn frames_carry_no_loopback_addresses() {
    let refused = |old: &str, new: &str, parts: &[&str]| {
        assert_one(&faults(&MINIMAL.replace(old, new)), parts);
    };
    refused(
        "10.0.0.10",
        "127.0.0.1",
        &[
            "7:10",
            "127.0.0.1 is a loopback address",
            "driver = \"kernel\"",
        ],
    );
    refused(
        "10.0.0.10:",
        "[fe80::1]:",
        &["fe80::1 is a link-local address"],
    );
    refused("10.0.0.10", "169.254.1.2", &["a link-local address"]);
    assert_one(
        &faults_with("[worker]", "source_address = \"::1\""),
        &["source_address: ::1 is a loopback address"],
    );
    let on_sockets = "[[port]]\ndriver = \"kernel\"\n";
    let text = MINIMAL
        .replace("[[port]]\ninterface = \"eth1\"\n", on_sockets)
        .replace("10.0.0.10", "127.0.0.1")
        .replace("10.0.1.11", "127.0.0.2");
    assert_eq!(faults(&text), Vec::<String>::new());
}
