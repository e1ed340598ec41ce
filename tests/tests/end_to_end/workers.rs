//! The death of a worker touches its own connections, nothing else, and shows.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidegate_tests::client::eventually;
use tidegate_tests::client::resp::{self, Redis, Value};
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::{both_drivers, drivers_with_processes};

const CONNECTIONS: u16 = 8;

/// A connection that `worker` serves.
fn connection_of(scene: &mut Scene, worker: u16, number: u16) -> Redis {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    let connection = scene.connection_of(worker, number, to);
    Redis { connection }
}

drivers_with_processes!(a_killed_worker_costs_only_its_own_connections_and_is_started_again);

fn a_killed_worker_costs_only_its_own_connections_and_is_started_again(scene: &mut Scene) {
    let before = scene.appliance.status().unwrap().workers();
    let mut connections = |worker| -> Vec<Redis> {
        (0..CONNECTIONS)
            .map(|number| connection_of(scene, worker, number))
            .collect()
    };
    let (mut victims, mut survivors) = (connections(0), connections(1));
    for (number, client) in victims.iter_mut().chain(&mut survivors).enumerate() {
        assert_eq!(
            client.words(&format!("SET w{number} before")).unwrap(),
            Value::ok()
        );
    }

    kill(Pid::from_raw(before[0].pid), Signal::SIGKILL).unwrap();
    for round in 0..50 {
        for (number, client) in survivors.iter_mut().enumerate() {
            let value = format!("{round}-{number}");
            assert_eq!(
                client.words(&format!("SET s{number} {value}")).unwrap(),
                Value::ok(),
                "worker 1 is not concerned"
            );
            assert_eq!(
                client.words(&format!("GET s{number}")).unwrap(),
                Value::bulk(value.as_bytes())
            );
        }
    }
    let status = scene.wait_for_status("a new worker 0", |status| {
        let workers = status.workers();
        workers.len() == 2 && workers[0].state == "running" && workers[0].pid != before[0].pid
    });
    let after = status.workers();
    assert_eq!(after[0].restarts, before[0].restarts + 1);
    assert_eq!(after[1], before[1], "worker 1 goes on as it was");
    assert!(
        after[0].last_exit.contains("SIGKILL") || after[0].last_exit.contains('9'),
        "{:?}",
        after[0].last_exit
    );
    let shown = scene.appliance.status_text().unwrap();
    assert!(
        shown.contains(&after[0].pid.to_string()),
        "tidegate status does not show the new worker:\n{shown}"
    );

    // The new worker does not know the old connections and says so.
    for client in &mut victims {
        let _ = client.connection.send(b"*1\r\n$4\r\nPING\r\n");
        assert!(
            client.connection.rest().is_ok(),
            "the old connection hangs instead of ending"
        );
    }
    for number in 0..CONNECTIONS {
        let mut client = connection_of(scene, 0, CONNECTIONS + number);
        assert_eq!(
            client.words(&format!("SET n{number} x")).unwrap(),
            Value::ok()
        );
    }
    for client in &mut survivors {
        assert_eq!(
            client.words("PING").unwrap(),
            Value::Simple("PONG".to_owned())
        );
    }
}

/// Kills `worker`, for the `death`th time, and waits until another one serves.
fn kill_again(scene: &mut Scene, worker: usize, death: u64) {
    let pid = scene.appliance.status().unwrap().workers()[worker].pid;
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    scene.wait_for_status("a new worker", |status| {
        let worker = &status.workers()[worker];
        worker.state == "running" && worker.restarts == death && worker.pid != pid
    });
}

/// The sum over all servers of a line of INFO.
fn servers_say(scene: &Scene, field: &str) -> u64 {
    let of_server = |address| -> u64 {
        let text = Redis::open(address).unwrap().words("INFO clients").unwrap();
        let Value::Bulk(Some(text)) = text else {
            panic!("INFO is answered by a text: {text:?}");
        };
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|rest| rest.strip_prefix(':')?.parse().ok());
        number.unwrap_or_else(|| panic!("no {field} in:\n{text}"))
    };
    let servers = scene.servers(ServerKind::Redis).iter();
    let addresses: Vec<_> = servers.map(|server| server.address(Family::V4)).collect();
    scene.on_server(|| addresses.into_iter().map(of_server).sum())
}

/// Acknowledgements that this host's kernel dropped without an answer because their timestamp was too old, where it counts them.
fn outdated_acknowledgements() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split(' ').zip(values.split(' '));
    let found = pairs.find(|(name, _)| *name == "PAWSOldAck");
    found.map_or(0, |(_, value)| value.parse().unwrap())
}

both_drivers!(who_only_waits_learns_that_its_worker_died);

/// Nobody here has anything to send, or asks by keep-alive whether his connection is still there: clients that wait, those that are
/// idle, and servers.
fn who_only_waits_learns_that_its_worker_died(scene: &mut Scene) {
    const LISTS: u16 = 12;
    let mut waiting = Vec::new();
    for number in 0..LISTS {
        let mut client = connection_of(scene, 0, number);
        let blpop = resp::command(&[b"BLPOP", format!("wait-{number}").as_bytes(), b"0"]);
        client.connection.send(&blpop).unwrap();
        waiting.push(client);
    }
    for number in LISTS..LISTS + 3 {
        let mut subscriber = connection_of(scene, 0, number);
        subscriber.words("SUBSCRIBE news").unwrap();
        waiting.push(subscriber);
        let mut idle = connection_of(scene, 0, number + 3);
        assert_eq!(idle.words("SET idle x").unwrap(), Value::ok());
        waiting.push(idle);
    }
    eventually("servers that hold what waits", || {
        servers_say(scene, "blocked_clients") == u64::from(LISTS)
    });
    let connected = servers_say(scene, "connected_clients");
    let before = scene.appliance.status().unwrap().workers();
    let outdated = |scene: &Scene| {
        scene.on_client(outdated_acknowledgements) + scene.on_server(outdated_acknowledgements)
    };
    let outdated_before = outdated(scene);

    kill(Pid::from_raw(before[0].pid), Signal::SIGKILL).unwrap();
    for (number, client) in waiting.iter_mut().enumerate() {
        let rest = client.connection.rest();
        assert!(rest.is_ok(), "client {number} waits for ever: {rest:?}");
    }
    eventually("servers that wait for nobody", || {
        servers_say(scene, "blocked_clients") == 0
    });
    assert_eq!(outdated(scene), outdated_before, "the first probe counts");
    // Whatever is pushed now is for those who come.
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        for number in 0..LISTS {
            let pushed = client.words(&format!("RPUSH wait-{number} x")).unwrap();
            assert_eq!(pushed, Value::Integer(1), "wait-{number}");
        }
        for number in 0..LISTS {
            let length = client.words(&format!("LLEN wait-{number}")).unwrap();
            assert_eq!(length, Value::Integer(1), "wait-{number}");
        }
    });

    for death in 2..=4 {
        kill_again(scene, 0, death);
        let mut client = connection_of(scene, 0, LISTS + 6 + death as u16);
        for number in 0..LISTS {
            let length = client.words(&format!("LLEN wait-{number}")).unwrap();
            assert_eq!(length, Value::Integer(1));
        }
    }
    eventually("no connection more than before", || {
        servers_say(scene, "connected_clients") <= connected
    });
}

both_drivers!(a_worker_that_dies_again_and_again_is_started_again_and_again);

fn a_worker_that_dies_again_and_again_is_started_again_and_again(scene: &mut Scene) {
    for death in 1..=3 {
        kill_again(scene, 1, death);
        let reply = connection_of(scene, 1, death as u16).words("PING").unwrap();
        assert_eq!(reply, Value::Simple("PONG".to_owned()));
    }
}
