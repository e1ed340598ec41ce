//! Whole files: what they become, and what is wrong with them.

mod changes;
mod http;
mod kernel;
mod made;
mod random;
mod shipped;

use crate::{Compat, Config, HashKind, Partial, Protocol, QueueMap, Queues, Secret, limits};
use std::collections::BTreeMap;

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
fn passwords_stand_in_no_output() {
    let config = parse(REDIS);
    assert_eq!(
        config.pools[0]
            .redis_auth
            .as_ref()
            .map(crate::Secret::reveal),
        Some("hunter2")
    );
    let outputs = [
        config.effective_toml(),
        config.to_string(),
        format!("{config:?}"),
    ];
    for output in outputs {
        assert!(!output.contains("hunter"), "{output}");
    }
    // Nor in any fault, wherever the password went wrong.
    for broken in [
        REDIS.replace("\"redis\"", "\"memcached\""),
        REDIS.replace("redis_auth", "redis_aut"),
        REDIS.replace("\"hunter2\"", "\"hunter2"),
        REDIS.replace("\"hunter2\"", "hunter2"),
        REDIS.replace("\"hunter2\"", "[\"hunter2\"]"),
        REDIS.replace("redis_auth =", "redis_auth"),
        REDIS.replace("10.0.1.21:6379:2", "redis://:hunter4@10.0.1.21:6379"),
        REDIS.replace("10.0.0.10:6379", "user:hunter4@10.0.0.10:6379"),
        REDIS.replace("hash_tag", "x = 1\nserver_auth"),
    ] {
        let found = faults(&broken);
        assert!(!found.is_empty(), "{broken}");
        assert!(!found.concat().contains("hunter"), "{found:#?}");
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
fn the_command_line_replaces_the_queues_of_a_port() {
    let mut config = parse(MINIMAL);
    let maps: [QueueMap; 1] = ["eth1:0=4,1=5".parse().expect("a map")];
    config.apply_maps(&maps).expect("the port is there");
    assert_eq!(config.queue_map(), Some(&BTreeMap::from([(0, 4), (1, 5)])));
}

#[test]
fn maps_that_do_not_fit_are_all_reported_and_change_nothing() {
    let text = format!("[[port]]\ninterface = \"eth2\"\nqueues = {{ 0 = 2 }}\n{MINIMAL}");
    let before = parse(&text);
    let mut config = before.clone();
    let maps: Vec<QueueMap> = ["eth1:0=3", "eth9:0=1", "eth1:0=2,1=3"]
        .iter()
        .map(|map| map.parse().expect("a map"))
        .collect();
    let errors = config.apply_maps(&maps).expect_err("three faults");
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(
        errors[0].contains("\"eth9\"; the file has eth2, eth1"),
        "{errors:#?}"
    );
    assert!(
        errors[1].contains("\"eth1\" is mapped twice"),
        "{errors:#?}"
    );
    assert!(
        errors[2].contains("eth1 lacks a queue that eth2 has"),
        "{errors:#?}"
    );
    assert_eq!(config, before);
}

#[test]
fn ports_with_other_queues_or_cores_are_faults() {
    let second = |queues: &str| {
        faults(&format!(
            "{REDIS}\n[[port]]\ninterface = \"eth2\"\nqueues = {queues}\n"
        ))
    };
    assert_eq!(second("\"auto\""), Vec::<String>::new());
    assert_eq!(second("{ 0 = 2, 1 = 3 }"), Vec::<String>::new());
    assert_one(
        &second("{ 0 = 2 }"),
        &["17:10", "port \"eth2\"", "worker 1 owns queue 1"],
    );
    assert_one(
        &second("{ 0 = 2, 1 = 7 }"),
        &["queue 1 is on core 7, but on core 3 for eth1"],
    );
}

#[test]
fn queues_may_be_a_table_of_their_own() {
    let text = MINIMAL.replace("[[pool]]", "[port.queues]\n0 = 2\n1 = 3\n[[pool]]");
    assert_eq!(
        parse(&text).queue_map(),
        Some(&BTreeMap::from([(0, 2), (1, 3)]))
    );
}

#[test]
fn each_mistake_in_queues_is_named() {
    let with = |queues: &str| {
        faults(&MINIMAL.replace("\"eth1\"", &format!("\"eth1\"\nqueues = {queues}")))
    };
    let cases = [
        ("{}", "name at least queue 0"),
        ("\"all\"", "must be \"auto\" or a table"),
        ("2", "must be \"auto\" or a table"),
        (
            "{ 0 = 1024 }",
            "core \"1024\" is not a number from 0 to 1023",
        ),
        ("{ 0 = -1 }", "core \"-1\" is not a number"),
        ("{ rx0 = 1 }", "queue \"rx0\" is not a number below 256"),
        ("{ 0 = 1, 00 = 2 }", "queue 0 is named twice"),
        ("{ 1 = 1 }", "queue 0 has no core"),
    ];
    for (queues, part) in cases {
        assert_one(&with(queues), &["port \"eth1\": queues", part]);
    }
}

#[test]
fn an_interface_twice_is_a_fault() {
    assert_one(
        &faults_with("[[port]]", "interface = \"eth1\""),
        &["12:13", "port of line 3"],
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
fn numbers_have_ranges_and_relations() {
    let cases = [
        ("clients_max = 0", "must be between 1 and 1048576"),
        ("clients_max = -5", "clients_max = -5 must be between"),
        ("clients_max = 99999999999999999999999", "must be between"),
        ("clients_max = 1.5", "must be an integer, not of type float"),
        (
            "client_buffer_bytes = 5000",
            "power of two, for example 4096 or 8192",
        ),
        (
            "clients_max = 100\nhalf_open_max = 101",
            "must not exceed clients_max = 100",
        ),
        (
            "client_reply_hold_bytes = 67108865",
            "must not exceed reply_hold_bytes",
        ),
        (
            "request_hold_bytes = 4096\nclient_buffer_bytes = 8192",
            "at least client_buffer_bytes",
        ),
        ("source_ports = \"70-80\"", "within 1024-65535"),
        ("source_ports = \"5000-4000\"", "first not above last"),
        ("source_ports = \"5000\"", "FIRST-LAST"),
        ("source_ports = \"5000-5003\"", "4 ports for 1 workers"),
        ("source_ports = \"11000-12000\"", "lies within source_ports"),
        ("user = \"root\"", "unprivileged user"),
        ("source_address = \"here\"", "\"here\" is not an IP address"),
        (
            "server_buffer_bytes = 16777216",
            "ring_size must be at least 32768",
        ),
    ];
    for (line, part) in cases {
        assert_one(&faults_with("[worker]", line), &[part]);
    }
}

#[test]
fn a_default_follows_a_smaller_limit_that_is_written() {
    let config = parse(&format!(
        "{MINIMAL}[worker]\nclients_max = 10\nrequests_max = 64\nreply_hold_bytes = 65536\nclient_buffer_bytes = 1048576\n"
    ));
    assert_eq!(config.worker.half_open_max, 10);
    assert_eq!(config.worker.client_requests_max, 64);
    assert_eq!(config.worker.client_reply_hold_bytes, 65_536);
    assert_eq!(config.worker.request_hold_bytes, 1_048_576);
    assert_eq!(config.worker.server_buffer_bytes, 2_097_152);
}

#[test]
fn server_connections_have_to_fit_the_worker() {
    assert_one(
        &faults(&format!(
            "{MINIMAL}server_connections = 10\n[worker]\nserver_connections_max = 9\n"
        )),
        &["server_connections_max = 9 is less than the 10 connections"],
    );
}

#[test]
fn a_small_mtu_is_a_fault_only_with_ipv6() {
    let small = |text: &str| faults(&text.replace("interface", "mtu_bytes = 1000\ninterface"));
    assert_eq!(small(MINIMAL), Vec::<String>::new());
    assert_one(&small(REDIS), &["3:13", "which need 1280"]);
}

#[test]
fn zero_turns_timeouts_and_probes_off() {
    let config = parse(&format!(
        "{MINIMAL}timeout_ms = 0\nclient_keepalive_s = 0\n"
    ));
    assert_eq!(config.pools[0].timeout_ms, None);
    assert_eq!(config.pools[0].client_keepalive_s, None);
}

#[test]
fn more_servers_than_numbers_is_a_fault() {
    let servers: Vec<String> = (0..=limits::SERVERS_MAX)
        .map(|n| {
            format!(
                "\"10.{}.{}.{}:1:1\"",
                1 + (n >> 16),
                (n >> 8) & 255,
                n & 255
            )
        })
        .collect();
    let text = MINIMAL.replace("\"10.0.1.11:11211:1\"", &servers.join(","));
    let text = format!("{text}[worker]\nserver_connections_max = 65536\n");
    assert_one(&faults(&text), &["more than 65535 servers"]);
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
fn users_of_memcached_have_a_name_and_a_password() {
    let both = "memcached_auth = \"hunter2\"\nmemcached_user = \"alice\"\n";
    let config = parse(&format!("{MINIMAL}\n{both}"));
    let pool = &config.pools[0];
    assert_eq!(pool.memcached_user.as_deref(), Some("alice"));
    assert_eq!(
        pool.memcached_auth.as_ref().map(Secret::reveal),
        Some("hunter2")
    );
    let effective = config.effective_toml();
    assert!(effective.contains("memcached_user = \"alice\"") && !effective.contains("hunter2"));
    for (text, expected) in [
        (
            format!("{MINIMAL}\nmemcached_auth = \"x\"\n"),
            "memcached_auth needs memcached_user",
        ),
        (
            format!("{MINIMAL}\nmemcached_user = \"x\"\n"),
            "memcached_user needs memcached_auth",
        ),
        (
            format!("{MINIMAL}\ncompat = \"twemproxy\"\n{both}"),
            "memcached_auth is not for pools with compat",
        ),
        (
            format!("{MINIMAL}\n{both}").replace("hunter2", "a b"),
            "memcached_auth must be 1 to 255 bytes without blanks",
        ),
        (
            format!("{REDIS}{both}"),
            "memcached_auth needs protocol = \"memcached\"",
        ),
    ] {
        let faults = faults(&text);
        assert!(
            faults.iter().any(|fault| fault.contains(expected)),
            "{expected}: {faults:#?}"
        );
        assert!(faults.iter().all(|fault| !fault.contains("hunter2")));
    }
}

#[test]
fn users_and_databases_are_those_of_redis() {
    let users = "redis_user = \"alice\"\nserver_user = \"proxy\"\ndatabases = 4\ndatabase = 3\n";
    let config = parse(&format!("{REDIS}{users}"));
    let pool = &config.pools[0];
    assert_eq!(pool.redis_user.as_deref(), Some("alice"));
    assert_eq!(pool.server_user.as_deref(), Some("proxy"));
    assert_eq!((pool.databases, pool.database), (4, 3));
    let effective = config.effective_toml();
    for line in users.lines() {
        assert!(effective.contains(line), "{line} in {effective}");
    }
    let pool = &parse(REDIS).pools[0];
    assert_eq!((pool.databases, pool.database), (16, 0));
    for (text, expected) in [
        (format!("{REDIS}databases = 0\n"), "databases = 0"),
        (format!("{REDIS}databases = 1025\n"), "databases = 1025"),
        (
            format!("{REDIS}database = 16\n"),
            "database = 16 is none of the 16 databases",
        ),
        (
            REDIS.replace(
                "protocol = \"redis\"",
                "protocol = \"memcached\"\ndatabase = 2",
            ),
            "database needs protocol = \"redis\"",
        ),
        (
            format!("{REDIS}redis_user = \"a b\"\n"),
            "redis_user = \"a b\" must be",
        ),
        (
            format!("{REDIS}server_user = \"\"\n"),
            "server_user = \"\" must be",
        ),
        (
            format!("{REDIS}redis_user = \"{}\"\n", "x".repeat(256)),
            "must be 1 to 255 bytes",
        ),
        (
            format!("{REDIS}redis_user = \"a\"\n").replace("redis_auth", "#redis_auth"),
            "redis_user needs redis_auth",
        ),
        (
            REDIS.replace(
                "protocol = \"redis\"",
                "protocol = \"memcached\"\ndatabases = 2",
            ),
            "databases needs protocol = \"redis\"",
        ),
    ] {
        let found = faults(&text);
        assert!(
            found.iter().any(|fault| fault.contains(expected)),
            "{expected}: {found:#?}"
        );
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
