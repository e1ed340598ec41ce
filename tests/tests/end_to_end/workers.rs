//! The death of a worker touches its own connections, nothing else, and shows.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidegate_tests::client::resp::{Redis, Value};
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

both_drivers!(a_worker_that_dies_again_and_again_is_started_again_and_again);

fn a_worker_that_dies_again_and_again_is_started_again_and_again(scene: &mut Scene) {
    for death in 1..=3 {
        let pid = scene.appliance.status().unwrap().workers()[1].pid;
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        scene.wait_for_status("a new worker 1", |status| {
            let worker = &status.workers()[1];
            worker.state == "running" && worker.restarts == death && worker.pid != pid
        });
        let reply = connection_of(scene, 1, death as u16).words("PING").unwrap();
        assert_eq!(reply, Value::Simple("PONG".to_owned()));
    }
}
