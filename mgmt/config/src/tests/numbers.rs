//! Numbers: their ranges, their relations, and what zero means.

use super::{MINIMAL, REDIS, assert_one, faults, faults_with, parse};
use crate::limits;

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
fn clients_of_a_pool_are_limited_where_the_file_says_so() {
    let one = |text: String, parts: &[&str]| assert_one(&faults(&text), parts);
    assert_eq!(parse(MINIMAL).pools[0].clients_max, None);
    let config = parse(&format!("{MINIMAL}clients_max = 16384\n"));
    assert_eq!(config.pools[0].clients_max, Some(16_384));
    assert_eq!(parse(&config.effective_toml()), config);
    one(
        format!("{MINIMAL}clients_max = 0\n"),
        &["clients_max = 0 must be between 1 and 1048576"],
    );
    one(
        format!("{MINIMAL}client_max = 3\n"),
        &["did you mean \"clients_max\"?"],
    );
    let line = MINIMAL.lines().count() + 1;
    for (worker, limit) in [("", 16_384), ("[worker]\nclients_max = 10\n", 10)] {
        one(
            format!("{MINIMAL}clients_max = {}\n{worker}", limit + 1),
            &[
                &format!("{line}:15"),
                "pool \"sessions\": ",
                &format!("must not exceed clients_max = {limit} of [worker]"),
            ],
        );
    }
    // What is wrong by itself is told once.
    one(
        format!("{MINIMAL}clients_max = 100\n[worker]\nclients_max = 0\n"),
        &["worker: clients_max = 0"],
    );
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
fn more_than_there_may_be_is_the_only_fault() {
    // All of them listen on the same address, which is not told a thousand times.
    let mut text = "[[port]]\ndriver = \"kernel\"\n".to_owned();
    for number in 0..=limits::LISTENERS_MAX {
        text += "[[pool]]\nname = \"p";
        text += &number.to_string();
        text += "\"\nprotocol = \"redis\"\nlisten = \"127.0.0.1:1\"\nservers = [\"127.0.0.1:1\"]\n";
    }
    text += "[worker]\nserver_connections_max = 2048\n";
    assert_one(&faults(&text), &["more than 1024 listening addresses"]);
}
