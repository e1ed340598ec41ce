//! Real clients and real servers: what goes in comes out, over either family, one interface or two.

use tidegate_tests::both_drivers;
use tidegate_tests::client::memcached::{Memcached, items};
use tidegate_tests::client::resp::{Redis, Value, command};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::lab::topology::Nics;
use tidegate_tests::scene::{Scene, play};
use tidegate_tests::stage::Driver;

/// Connections of each client loop: enough that both queues get some whatever source ports the kernel draws.
const CONNECTIONS: usize = 16;

fn both_protocols_carry_traffic(scene: &Scene, family: Family) {
    let plan = scene.plan();
    scene.on_client(|| {
        for connection in 0..CONNECTIONS {
            memcached_round(&mut plan.memcached(family), connection);
            redis_round(&mut plan.redis(family), connection);
        }
    });
    every_server_got_keys(scene, family);
}

fn memcached_round(client: &mut Memcached, round: usize) {
    for number in 0..20 {
        let key = format!("key-{round}-{number}");
        let value = format!("value-{round}-{number}");
        assert_eq!(
            client
                .set(key.as_bytes(), number, value.as_bytes())
                .unwrap(),
            "STORED"
        );
        let items = client.get(&[key.as_bytes()]).unwrap();
        assert_eq!(items.len(), 1, "{key} was stored");
        assert_eq!(
            (items[0].flags, items[0].value.as_slice()),
            (number, value.as_bytes())
        );
    }
    assert_eq!(
        client.line(&format!("delete key-{round}-0")).unwrap(),
        "DELETED"
    );
    assert_eq!(
        client.get(&[format!("key-{round}-0").as_bytes()]).unwrap(),
        []
    );
}

fn redis_round(client: &mut Redis, round: usize) {
    for number in 0..20 {
        let key = format!("key-{round}-{number}");
        let value = format!("value-{round}-{number}");
        assert_eq!(
            client
                .ask(&[b"SET", key.as_bytes(), value.as_bytes()])
                .unwrap(),
            Value::ok()
        );
        assert_eq!(
            client.ask(&[b"GET", key.as_bytes()]).unwrap(),
            Value::bulk(value.as_bytes())
        );
    }
    assert_eq!(
        client.words(&format!("DEL key-{round}-0")).unwrap(),
        Value::Integer(1)
    );
    assert_eq!(
        client.words(&format!("GET key-{round}-0")).unwrap(),
        Value::Bulk(None)
    );
}

/// Asks the servers themselves: the proxy has to spread keys over all of them.
fn every_server_got_keys(scene: &Scene, family: Family) {
    scene.on_server(|| {
        for server in scene.servers(ServerKind::Redis) {
            let keys = Redis::open(server.address(family))
                .unwrap()
                .words("DBSIZE")
                .unwrap();
            assert!(
                matches!(keys, Value::Integer(count) if count > 0),
                "redis {} holds {keys:?}",
                server.index
            );
        }
        for server in scene.servers(ServerKind::Memcached) {
            let statistics = stats(&mut Memcached::open(server.address(family)).unwrap());
            let keys = statistics
                .iter()
                .find(|line| line.starts_with("STAT curr_items "))
                .unwrap();
            assert_ne!(keys, "STAT curr_items 0", "memcached {}", server.index);
        }
    });
}

fn stats(client: &mut Memcached) -> Vec<String> {
    client.connection.send(b"stats\r\n").unwrap();
    let mut lines = Vec::new();
    loop {
        let line = String::from_utf8(client.connection.line().unwrap()).unwrap();
        if line == "END\r\n" {
            return lines;
        }
        lines.push(line.trim_end().to_owned());
    }
}

/// Servers are reached over IPv6.
fn over_ipv6() -> LabOptions {
    LabOptions {
        needs_ipv6: true,
        ..LabOptions::default()
    }
}

both_drivers!(
    both_protocols_pass_over_ipv4,
    LabOptions::default(),
    |stage| LabConfig::new(stage, Family::V4),
    |scene| both_protocols_carry_traffic(scene, Family::V4)
);

both_drivers!(
    both_protocols_pass_over_ipv6,
    over_ipv6(),
    |stage| LabConfig::new(stage, Family::V6),
    |scene| both_protocols_carry_traffic(scene, Family::V6)
);

/// With one interface for clients and servers.
fn one_nic_carries(family: Family) {
    let options = LabOptions {
        nics: Nics::One,
        ..LabOptions::default()
    };
    play(
        Driver::Afxdp,
        options,
        |stage| LabConfig::new(stage, family),
        |scene| both_protocols_carry_traffic(scene, family),
    );
}

#[test]
fn one_nic_carries_both_protocols_over_ipv4() {
    one_nic_carries(Family::V4);
}

#[test]
fn one_nic_carries_both_protocols_over_ipv6() {
    one_nic_carries(Family::V6);
}

both_drivers!(pipelined_requests_are_answered_in_their_order);

fn pipelined_requests_are_answered_in_their_order(scene: &mut Scene) {
    const REQUESTS: usize = 5_000;
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        let sets: Vec<u8> = (0..REQUESTS)
            .flat_map(|number| {
                command(&[
                    b"SET",
                    format!("p{number}").as_bytes(),
                    format!("v{number}").as_bytes(),
                ])
            })
            .collect();
        client.connection.send(&sets).unwrap();
        for number in 0..REQUESTS {
            assert_eq!(client.reply().unwrap(), Value::ok(), "SET p{number}");
        }
        let gets: Vec<u8> = (0..REQUESTS)
            .flat_map(|number| command(&[b"GET", format!("p{number}").as_bytes()]))
            .collect();
        client.connection.send(&gets).unwrap();
        for number in 0..REQUESTS {
            assert_eq!(
                client.reply().unwrap(),
                Value::bulk(format!("v{number}").as_bytes())
            );
        }

        let mut client = plan.memcached(Family::V4);
        let sets: Vec<u8> = (0..REQUESTS)
            .flat_map(|number| format!("set p{number} {number} 0 3\r\nabc\r\n").into_bytes())
            .collect();
        client.connection.send(&sets).unwrap();
        for _ in 0..REQUESTS {
            assert_eq!(client.reply().unwrap(), b"STORED\r\n");
        }
        let gets: Vec<u8> = (0..REQUESTS)
            .flat_map(|number| format!("get p{number}\r\n").into_bytes())
            .collect();
        client.connection.send(&gets).unwrap();
        for number in 0..REQUESTS {
            let expected = format!("VALUE p{number} {number} 3\r\nabc\r\nEND\r\n");
            assert_eq!(
                String::from_utf8(client.reply().unwrap()).unwrap(),
                expected
            );
        }
    });
}

both_drivers!(a_client_that_finishes_sending_still_gets_its_replies);

fn a_client_that_finishes_sending_still_gets_its_replies(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.memcached(Family::V4);
        client
            .connection
            .send(b"set half 7 0 4\r\nshut\r\nget half\r\n")
            .unwrap();
        client.connection.finish_sending().unwrap();
        assert_eq!(client.reply().unwrap(), b"STORED\r\n");
        assert_eq!(items(&client.reply().unwrap()).unwrap()[0].value, b"shut");
        assert!(client.connection.is_closed());
    });
}

#[test]
fn a_connection_is_served_by_the_worker_of_its_queue() {
    let Some(mut scene) = Scene::usual() else {
        return;
    };
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    let mut expected = [0, 0];
    for worker in 0..2_u16 {
        for number in 0..CONNECTIONS as u16 {
            let connection = scene.connection_of(worker, number, to);
            assert_eq!(
                Redis { connection }.words("PING").unwrap(),
                Value::Simple("PONG".to_owned())
            );
        }
        expected[usize::from(worker)] = CONNECTIONS as u64;
        scene.wait_for_status("the connections' count", |status| {
            [status.stack(0, "accepted"), status.stack(1, "accepted")] == expected
        });
    }
}
