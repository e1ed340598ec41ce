//! What no text may do, whatever is in it.

use super::{MINIMAL, REDIS, parse};
use crate::{Config, QueueMap};
use proptest::prelude::*;

/// Lines that are nearly a configuration: words, values and headers of the real thing in any order.
fn nearly() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = vec![
        "[[port]]",
        "[[pool]]",
        "[worker]",
        "[port]",
        "\n",
        "\n",
        "\n",
        " = ",
        "=",
        ",",
        "{",
        "}",
        "[",
        "]",
        "name",
        "interface",
        "queues",
        "listen",
        "servers",
        "protocol",
        "hash_tag",
        "source_ports",
        "ring_size",
        "clients_max",
        "\"eth1\"",
        "\"auto\"",
        "\"10.0.0.1:1\"",
        "\"::1:1:1 a\"",
        "\"[::1]:2\"",
        "driver = \"kernel\"\n",
        "workers",
        "backlog",
        "\"/run/a.sock 0660\"",
        "\"/run/a.sock:1 b\"",
        "\"redis\"",
        "\"1024-65535\"",
        "\"",
        "'''",
        "0",
        "-1",
        "4096",
        "18446744073709551616",
        "0x10",
        "1e9",
        "true",
        "1979-05-27",
        "# c",
        "é",
        "\u{0}",
        "a.b",
        "{ 0 = 2, 1 = 3 }",
        "\r\n",
        "\t",
    ];
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat())
}

const KEYS: [&str; 9] = [
    "clients_max",
    "half_open_max",
    "client_buffer_bytes",
    "server_buffer_bytes",
    "requests_max",
    "client_requests_max",
    "request_hold_bytes",
    "reply_hold_bytes",
    "client_reply_hold_bytes",
];

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = Config::parse(&text, "t.toml");
    }

    #[test]
    fn nothing_that_is_nearly_a_configuration_panics(text in nearly()) {
        if let Err(errors) = Config::parse(&text, "t.toml") {
            prop_assert!(!errors.faults.is_empty());
            let lines = text.split('\n').count();
            for fault in errors.faults {
                prop_assert!((1..=lines).contains(&fault.line), "line {} of {}", fault.line, lines);
            }
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_a_fault_or_a_configuration(cut in 0..REDIS.len()) {
        let text = &REDIS[..cut];
        match Config::parse(text, "t.toml") {
            Ok(config) => prop_assert!(!config.pools.is_empty() && !config.ports.is_empty()),
            Err(errors) => {
                // Which cut it was is all that may be told of the password.
                prop_assert!(!errors.to_string().contains("hunter"));
            }
        }
    }

    #[test]
    fn what_parses_keeps_every_relation(
        exponents in (0..=20, 0..=16, 11..=20, 12..=22, 6..=24, 0..=20, 12..=24, 16..=30, 12..=30),
        ports in (1_000..=u16::MAX, 1_000..=u16::MAX),
        listen in any::<u16>(),
        pool_clients in 0..=20,
    ) {
        let (a, b, c, d, e, f, g, h, i) = exponents;
        let numbers: Vec<String> = KEYS
            .iter()
            .zip([a, b, c, d, e, f, g, h, i])
            .map(|(key, exponent)| format!("{key} = {}", 1_u64 << exponent))
            .collect();
        let text = format!(
            "{}clients_max = {}\n[worker]\n{}\nsource_ports = \"{}-{}\"\n",
            MINIMAL.replace("10:11211", &format!("10:{listen}")),
            1_u64 << pool_clients,
            numbers.join("\n"),
            ports.0,
            ports.1
        );
        match Config::parse(&text, "t.toml") {
            Err(errors) => prop_assert!(!errors.faults.is_empty()),
            Ok(config) => {
                let Config { worker, ports, pools, .. } = &config;
                prop_assert!(worker.half_open_max <= worker.clients_max);
                prop_assert!(pools[0].clients_max.is_some_and(|clients| clients <= worker.clients_max));
                prop_assert!(worker.client_requests_max <= worker.requests_max);
                prop_assert!(worker.request_hold_bytes >= worker.client_buffer_bytes);
                prop_assert!(worker.request_hold_bytes <= worker.server_buffer_bytes / 2);
                prop_assert!(worker.client_reply_hold_bytes <= worker.reply_hold_bytes);
                let (first, last) = worker.source_ports;
                prop_assert!(1_024 <= first && first <= last);
                prop_assert!(!(first..=last).contains(&pools[0].listen[0].endpoint.ip().expect("an address").port()));
                prop_assert!(worker.server_buffer_bytes / 536 <= ports[0].ring_size);
                prop_assert_eq!(parse(&config.effective_toml()), config);
            }
        }
    }

    #[test]
    fn no_map_panics(text in "[a-z:=,0-9 -]{0,24}") {
        let _ = text.parse::<QueueMap>();
    }
}
