//! The 40 ms stall of socket proxies: a client that sends a request in two pieces with Nagle's algorithm on holds the second
//! back until the first is acknowledged, and a receiver that delays acknowledgements lets it wait.

use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;
use tidegate_tests::{both_drivers, client::Connection};

fn no_memcached() -> LabOptions {
    LabOptions {
        memcached: 0,
        ..LabOptions::default()
    }
}

fn configure(stage: &dyn Stage, ack: &str) -> LabConfig {
    let mut config = LabConfig::new(stage, Family::V4);
    config.port_lines.push(format!("ack = \"{ack}\""));
    config
}

fn half_a_request_is_acknowledged_at_once(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    let client = |connection: Connection| Redis { connection };
    let mut split = client(scene.connection_of(0, 0, to));
    let mut clock = client(scene.connection_of(0, 1, to));
    let port = split.connection.stream().local_addr().unwrap().port();
    split.connection.stream().set_nodelay(false).unwrap();
    let command = b"*3\r\n$3\r\nSET\r\n$5\r\nnagle\r\n$4\r\nheld\r\n";
    for round in 0..10 {
        split.connection.send(&command[..20]).unwrap();
        // These requests reach the same worker behind the first half. When their replies are here, so is the acknowledgement,
        // unless it was delayed: no clock is needed to tell.
        for _ in 0..2 {
            assert_eq!(
                clock.words("PING").unwrap(),
                Value::Simple("PONG".to_owned())
            );
        }
        let sockets = scene
            .client_host()
            .shell(&format!(
                "ss -tniH state established sport = :{port} and dport = :{}",
                to.port()
            ))
            .unwrap();
        assert!(
            sockets.contains(&port.to_string()),
            "ss does not show the connection: {sockets:?}"
        );
        assert!(
            !sockets.contains("unacked:"),
            "round {round}: the first half is not acknowledged: {sockets}"
        );
        split.connection.send(&command[20..]).unwrap();
        assert_eq!(split.reply().unwrap(), Value::ok());
    }
}

both_drivers!(
    immediate_mode_acknowledges_half_a_request_at_once,
    no_memcached(),
    |stage| configure(stage, "immediate"),
    half_a_request_is_acknowledged_at_once
);

both_drivers!(
    with_reply_mode_acknowledges_half_a_request_at_once,
    no_memcached(),
    |stage| configure(stage, "with-reply"),
    half_a_request_is_acknowledged_at_once
);
