//! The link address of a port changes under load: connections go on, neighbours are told, the operator is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegate_tests::client::eventually;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::addresses::{Family, on_server_leg, vip};
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::lab::topology::{CLIENT_SIDE, SERVER_SIDE};
use tidegate_tests::lab::{Lab, LabOptions};
use tidegate_tests::netns::Namespace;
use tidegate_tests::scene::Scene;

/// Requests that every client has to get through after each change.
const REQUESTS: u64 = 50;
const CLIENTS: u16 = 2;

/// Clients that ask until they are told to stop.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    /// Requests answered, by client.
    answered: [AtomicU64; 2 * CLIENTS as usize],
}

/// Tells them, also when the thread that watches them fails.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Load {
    fn ask(&self, number: usize, mut client: Redis) {
        let key = format!("station-{number}");
        let mut value = 0_u64;
        while !self.stop.load(Ordering::Relaxed) {
            value += 1;
            let text = value.to_string();
            let set = client.words(&format!("SET {key} {text}")).unwrap();
            assert_eq!(set, Value::ok(), "client {number}");
            let got = client.words(&format!("GET {key}")).unwrap();
            assert_eq!(got, Value::bulk(text.as_bytes()), "client {number}");
            self.answered[number].store(value, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> Vec<u64> {
        let counts = self.answered.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every client has got through some more.
    fn goes_on(&self, when: &str) {
        let before = self.counts();
        eventually(&format!("requests {when}"), || {
            let now = self.counts();
            now.iter()
                .zip(&before)
                .all(|(now, before)| *now >= before + REQUESTS)
        });
    }
}

fn set_address(host: &Namespace, interface: &str, mac: &str) {
    let command = format!("ip link set {interface} address {mac}");
    host.shell(&command).unwrap();
}

/// Whether a line of the log tells of a change.
fn tells(line: &str, interface: &str, mac: &str) -> bool {
    line.contains(&format!("{interface}: its link address changed"))
        && line.contains(&format!("→ {mac}"))
}

/// Gives ports of the appliance other addresses, and waits until that was noticed: before, frames for the old ones are still taken.
fn move_ports(scene: &Scene, moves: &[(&str, &str)]) {
    for (interface, mac) in moves {
        set_address(&scene.lab().hosts.appliance, interface, mac);
    }
    for (interface, mac) in moves {
        let told = |line: &str| tells(line, interface, mac);
        scene
            .appliance
            .wait_for_log(&format!("{interface} → {mac}"), told);
    }
}

/// Waits until `host` knows that `address` is at `mac`.
fn knows(host: &Namespace, address: &impl ToString, mac: &str) {
    let address = address.to_string();
    eventually(&format!("{address} at {mac}"), || {
        let shown = host.shell(&format!("ip neigh show {address}")).unwrap();
        shown.contains(mac)
    });
}

fn scene(family: Family) -> Option<Scene> {
    let options = LabOptions {
        needs_ipv6: true,
        ..LabOptions::default()
    };
    let configure = |lab: &Lab| LabConfig::new(lab, family).outliving();
    Scene::raise_lab(options, configure)
}

/// Clients over both families on both workers, and `changes` meanwhile.
fn under_load(scene: &mut Scene, changes: impl FnOnce(&mut Scene, &Load)) {
    let load = Load::default();
    let mut clients = Vec::new();
    for (family, worker) in Family::BOTH.into_iter().flat_map(|f| [(f, 0), (f, 1)]) {
        let to = scene.plan().pool(ServerKind::Redis, family);
        let connection = scene.connection_of(worker, 0, to);
        clients.push(Redis { connection });
    }
    std::thread::scope(|scope| {
        for (number, client) in clients.into_iter().enumerate() {
            let load = &load;
            scope.spawn(move || load.ask(number, client));
        }
        let _stop = Stop(&load);
        load.goes_on("at first");
        changes(scene, &load);
    });
}

fn connections_go_on(servers: Family) {
    let Some(mut scene) = scene(servers) else {
        return;
    };
    under_load(&mut scene, |scene, load| {
        let hosts = scene.lab().hosts.clone();
        move_ports(scene, &[(CLIENT_SIDE, "02:77:00:00:01:01")]);
        load.goes_on("after the clients' side moved");
        for family in Family::BOTH {
            knows(&hosts.client, &vip(family), "02:77:00:00:01:01");
        }
        move_ports(scene, &[(SERVER_SIDE, "02:77:00:00:02:01")]);
        load.goes_on("after the servers' side moved");
        let source = on_server_leg(servers, 1);
        knows(&hosts.server, &source, "02:77:00:00:02:01");
        let both = [
            (CLIENT_SIDE, "02:77:00:00:01:02"),
            (SERVER_SIDE, "02:77:00:00:02:02"),
        ];
        move_ports(scene, &both);
        load.goes_on("after both moved");
    });
    let log = scene.appliance.log();
    for (interface, mac) in [
        (CLIENT_SIDE, "02:77:00:00:01:01"),
        (SERVER_SIDE, "02:77:00:00:02:01"),
        (CLIENT_SIDE, "02:77:00:00:01:02"),
        (SERVER_SIDE, "02:77:00:00:02:02"),
    ] {
        let told = log.lines().filter(|line| tells(line, interface, mac));
        assert_eq!(told.count(), 1, "{interface} → {mac} in\n{log}");
    }
    let status = scene.appliance.status().unwrap();
    assert!(status.workers().iter().all(|worker| worker.restarts == 0));
    scene.on_client(|| {
        let mut client = Redis::open(scene.plan().pool(ServerKind::Redis, Family::V4)).unwrap();
        assert_eq!(client.words("SET after it").unwrap(), Value::ok());
    });
}

#[test]
fn connections_go_on_when_a_link_address_changes_ipv4() {
    connections_go_on(Family::V4);
}

#[test]
fn connections_go_on_when_a_link_address_changes_ipv6() {
    connections_go_on(Family::V6);
}

#[test]
fn a_change_while_there_is_no_manager_is_noticed_by_the_next() {
    let Some(mut scene) = scene(Family::V4) else {
        return;
    };
    under_load(&mut scene, |scene, load| {
        scene.appliance.kill_manager().unwrap();
        load.goes_on("without a manager");
        let (port, mac) = (CLIENT_SIDE, "02:77:00:00:01:03");
        set_address(&scene.lab().hosts.appliance, port, mac);
        scene.appliance.run_again().unwrap();
        let told = |line: &str| tells(line, port, mac);
        scene.appliance.wait_for_log("the address", told);
        load.goes_on("with the next manager");
    });
    // A worker that starts now knows it from the start.
    let pid = scene.appliance.status().unwrap().workers()[0].pid;
    scene
        .lab()
        .hosts
        .appliance
        .shell(&format!("kill -9 {pid}"))
        .unwrap();
    scene.wait_for_status("another process", |status| {
        let worker = &status.workers()[0];
        worker.restarts == 1 && worker.state == "running"
    });
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    for worker in [0, 1] {
        let connection = scene.connection_of(worker, 9, to);
        let mut client = Redis { connection };
        assert_eq!(client.words("SET after it").unwrap(), Value::ok());
    }
}
