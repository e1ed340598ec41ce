//! `driver = "kernel"`: what only it can do, and what it cannot.

use super::{MINIMAL, assert_one, faults, parse};
use crate::{Driver, Endpoint, KERNEL_PORT, QueueMap, Queues};
use std::collections::BTreeMap;

const LOCAL: &str = r#"
[[port]]
driver = "kernel"

[[pool]]
name = "sessions"
listen = ["127.0.0.1:22121", "[::1]:22121", "/run/user/1000/cache.sock 0660"]
protocol = "redis"
servers = ["127.0.0.1:6379:1", "/var/run/redis.sock:2", "/var/run/other.sock:1 b"]
"#;

/// The faults with `line` added to the port.
fn of_port(line: &str) -> Vec<String> {
    faults(&LOCAL.replace("\n\n[[pool]]", &format!("\n{line}\n\n[[pool]]")))
}

/// The faults with these words in place of the listening addresses.
fn of_listen(words: &str) -> Vec<String> {
    let written = r#"["127.0.0.1:22121", "[::1]:22121", "/run/user/1000/cache.sock 0660"]"#;
    faults(&LOCAL.replace(written, words))
}

#[test]
fn addresses_and_paths_become_endpoints() {
    let config = parse(LOCAL);
    let port = config.kernel_port().expect("a port of kernel sockets");
    assert_eq!(port.interface, KERNEL_PORT);
    assert_eq!((port.driver, port.workers), (Driver::Kernel, None));
    assert!(port.reuseport && port.queues == Queues::Auto);
    let pool = &config.pools[0];
    assert_eq!(pool.backlog, 1_024);
    assert_eq!(pool.listen[0].endpoint.to_string(), "127.0.0.1:22121");
    assert_eq!(
        pool.listen[2].endpoint,
        Endpoint::Unix("/run/user/1000/cache.sock".into())
    );
    assert_eq!(pool.listen[2].mode, Some(0o660));
    let servers: Vec<(&str, u32)> = pool
        .servers
        .iter()
        .map(|server| (server.name.as_str(), server.weight))
        .collect();
    assert_eq!(
        servers,
        [("127.0.0.1:6379", 1), ("/var/run/redis.sock:", 2), ("b", 1)]
    );
    assert_eq!(
        config.warnings(),
        Vec::<String>::new(),
        "loopback is fine here"
    );
}

#[test]
fn it_parses_to_itself_again() {
    for text in [
        LOCAL.to_owned(),
        LOCAL.replace("\"kernel\"", "\"kernel\"\nworkers = 3\nreuseport = false"),
        LOCAL.replace(
            "\"kernel\"",
            "\"kernel\"\nqueues = { 0 = 2 }\nack = \"with-reply\"",
        ),
        LOCAL.replace("protocol", "backlog = 7\nprotocol"),
    ] {
        let config = parse(&text);
        assert_eq!(parse(&config.effective_toml()), config);
        let json = serde_json::to_string(&config).expect("JSON");
        assert_eq!(
            serde_json::from_str::<crate::Config>(&json).expect("a configuration"),
            config
        );
    }
}

#[test]
fn what_only_a_nic_has_is_a_fault_with_its_line() {
    for key in [
        "interface = \"eth1\"",
        "rss = \"auto\"",
        "ring_size = 8192",
        "mtu_bytes = 1500",
        "require_zero_copy = false",
    ] {
        let name = key.split(' ').next().unwrap_or_default();
        let part = format!("{name} has no meaning with driver = \"kernel\"");
        assert_one(&of_port(key), &["4:", &part]);
    }
    assert_one(
        &of_port("[[port]]\ninterface = \"eth1\""),
        &["4:1 port \"eth1\"", "has one [[port]]"],
    );
    assert_one(
        &of_port("[[port]]\ndriver = \"kernel\""),
        &["has one [[port]]"],
    );
}

#[test]
fn what_only_kernel_sockets_have_is_a_fault_of_a_nic() {
    let with = |line: &str| faults(&MINIMAL.replace("[[pool]]", &format!("{line}\n[[pool]]")));
    assert_one(&with("workers = 2"), &["workers needs driver = \"kernel\""]);
    assert_one(
        &with("reuseport = true"),
        &["reuseport needs driver = \"kernel\""],
    );
    assert_one(
        &faults(&format!("{MINIMAL}backlog = 9\n")),
        &["backlog needs driver = \"kernel\""],
    );
    let listen = MINIMAL.replace("10.0.0.10:11211", "/run/a.sock 0600");
    assert_one(
        &faults(&listen),
        &["listen /run/a.sock", "driver = \"kernel\""],
    );
    let server = MINIMAL.replace("10.0.1.11:11211:1", "/run/a.sock:1");
    assert_one(
        &faults(&server),
        &["server /run/a.sock", "driver = \"kernel\""],
    );
}

#[test]
fn workers_are_a_number_or_a_map() {
    assert_eq!(of_port("workers = 2"), Vec::<String>::new());
    assert_one(
        &of_port("workers = 2\nqueues = { 0 = 1 }"),
        &["workers are not pinned"],
    );
    assert_one(&of_port("workers = 0"), &["between 1 and 256"]);
    let mut config = parse(&LOCAL.replace("\"kernel\"", "\"kernel\"\nworkers = 2"));
    let map: QueueMap = "kernel:0=2,1=3".parse().expect("a map");
    config.apply_maps(&[map]).expect("the port is there");
    assert_eq!(config.queue_map(), Some(&BTreeMap::from([(0, 2), (1, 3)])));
    assert_eq!(config.kernel_port().and_then(|port| port.workers), None);
}

#[test]
fn every_address_may_be_listened_on() {
    assert_eq!(
        of_listen(r#"["0.0.0.0:22121", "[::]:22121"]"#),
        Vec::<String>::new()
    );
    assert_one(
        &of_listen(r#"["0.0.0.0:22121", "127.0.0.1:22121"]"#),
        &["listen 127.0.0.1:22121 is taken by line 7"],
    );
    assert_one(
        &of_listen("\"0.0.0.0:6379\""),
        &["server 127.0.0.1:6379 is the listening address of line 7"],
    );
    assert_one(
        &of_listen(r#""/var/run/redis.sock""#),
        &["server /var/run/redis.sock is the listening address"],
    );
    assert_one(
        &of_listen(r#"["/run/a.sock", "/run/a.sock 0600"]"#),
        &["is taken by line 7"],
    );
}

#[test]
fn paths_that_cannot_be_are_named() {
    let long = format!("\"/{}\"", "x".repeat(107));
    for (words, part) in [
        ("\"/run/a.sock 0999\"", "\"0999\" are not octal digits"),
        ("\"/run/a.sock 7777\"", "from 0000 to 0777"),
        ("\"run/a.sock\"", "has to be absolute"),
        ("\"@cache\"", "abstract socket"),
        (&long, "108 bytes"),
        ("\"/run/\"", "is not the path of a Unix socket"),
    ] {
        assert_one(&of_listen(words), &["7:10", part]);
    }
}

#[test]
fn limits_of_packets_do_not_count() {
    // Of frames the ring would be too small for this buffer, and the listening port would be a source port.
    let text = LOCAL.replace("22121\"", "61000\"") + "[worker]\nserver_buffer_bytes = 16777216\n";
    assert_eq!(faults(&text), Vec::<String>::new());
    let text = format!(
        "{LOCAL}[worker]\nsource_ports = \"40000-40001\"\nhalf_open_max = 3\nclients_max = 8\n"
    );
    let warnings = parse(&text).warnings();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    for (warning, key) in warnings.iter().zip(["source_ports", "half_open_max"]) {
        assert!(warning.contains(key), "{warning}");
    }
}
