//! The 40 ms stall of socket proxies: a client that sends a request in two pieces with Nagle's algorithm on holds the second
//! back until the first is acknowledged, and a receiver that delays acknowledgements lets it wait.

use tidegate_tests::client::Connection;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::addresses::{self, Family};
use tidegate_tests::lab::{Lab, LabOptions};
use tidegate_tests::scene::{Scene, redis_vip, source_port};

/// A connection that worker 0 serves; each has another number.
fn connect(number: u16) -> Redis {
    let (from, to) = (addresses::client(Family::V4, 0), redis_vip(Family::V4));
    let connection = Connection::open_from(from, source_port(0, number, to), to);
    Redis {
        connection: connection.expect("the pool accepts"),
    }
}

fn half_a_request_is_acknowledged_at_once(ack: &'static str) {
    let scene = Scene::raise(
        LabOptions {
            memcached: 0,
            ..LabOptions::default()
        },
        |lab: &Lab| {
            let mut config = LabConfig::new(lab, Family::V4);
            config.port_lines.push(format!("ack = \"{ack}\""));
            config
        },
    );
    let Some(scene) = scene else { return };
    let client_host = &scene.lab.hosts.client;
    let (mut split, mut clock) = client_host.run(|| (connect(0), connect(1)));
    split.connection.stream().set_nodelay(false).unwrap();
    let port = source_port(0, 0, redis_vip(Family::V4));
    let command = b"*3\r\n$3\r\nSET\r\n$5\r\nnagle\r\n$4\r\nheld\r\n";
    for round in 0..10 {
        split.connection.send(&command[..20]).unwrap();
        // These requests take the same queue behind the first half. When their replies are here, so is the acknowledgement,
        // unless it was delayed: no clock is needed to tell.
        for _ in 0..2 {
            assert_eq!(
                clock.words("PING").unwrap(),
                Value::Simple("PONG".to_owned())
            );
        }
        let sockets = client_host
            .shell(&format!("ss -tniH state established sport = :{port}"))
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

#[test]
fn immediate_mode_acknowledges_half_a_request_at_once() {
    half_a_request_is_acknowledged_at_once("immediate");
}

#[test]
fn with_reply_mode_acknowledges_half_a_request_at_once() {
    half_a_request_is_acknowledged_at_once("with-reply");
}
