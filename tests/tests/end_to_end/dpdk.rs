//! What is DPDK's own: one process for all queues, and a link layer that the kernel does not have.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidegate_tests::appliance::Status;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::{Family, vip};
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Driver;

fn raise(driver: Driver) -> Option<Scene> {
    Scene::raise(driver, LabOptions::default(), |stage| {
        LabConfig::new(stage, Family::V4)
    })
}

fn set_and_get(scene: &Scene, family: Family, key: &str) {
    let to = scene.plan().pool(ServerKind::Redis, family);
    let mut client = scene.on_client(|| Redis::open(to).expect("the pool accepts"));
    assert_eq!(
        client.words(&format!("SET {key} {key}")).unwrap(),
        Value::ok()
    );
    let value = client.words(&format!("GET {key}")).unwrap();
    assert_eq!(value, Value::bulk(key.as_bytes()));
}

#[test]
fn on_dpdk_a_process_that_dies_takes_all_queues_with_it_and_is_started_again() {
    for driver in [Driver::DpdkPacket, Driver::DpdkXdp] {
        let Some(mut scene) = raise(driver) else {
            return;
        };
        let before = scene.appliance.status().unwrap().workers();
        assert_eq!(before[0].pid, before[1].pid, "one process");
        set_and_get(&scene, Family::V4, "before");
        kill(Pid::from_raw(before[0].pid), Signal::SIGKILL).unwrap();
        scene.wait_for_status("a new process", |status: &Status| {
            let workers = status.workers();
            let new = |worker: usize| {
                workers[worker].state == "running" && workers[worker].pid != before[0].pid
            };
            workers.len() == 2 && new(0) && new(1)
        });
        let after = scene.appliance.status().unwrap().workers();
        // A queue of AF_XDP may still be busy at the first try.
        assert!(after[0].restarts >= 1 && after[0].restarts == after[1].restarts);
        let log = scene.appliance.log();
        assert!(
            log.contains(
                "the process of all 2 workers ended, and the connections of all queues with it"
            ),
            "{log}"
        );
        for key in ["after", "and", "again"] {
            set_and_get(&scene, Family::V4, key);
        }
    }
}

#[test]
fn on_dpdk_the_first_worker_answers_for_our_addresses() {
    let Some(mut scene) = raise(Driver::DpdkPacket) else {
        return;
    };
    for family in Family::BOTH {
        let ping = format!("ping -c 3 -i 0.2 -W 5 {}", vip(family));
        let answers = scene.lab().hosts.client.shell(&ping).unwrap();
        assert!(answers.contains("3 received"), "{answers}");
        set_and_get(&scene, family, "pinged");
    }
    let status = scene.wait_for_status("six echoes", |status: &Status| {
        link(status, "frames_echoed") == 6
    });
    assert!(link(&status, "frames_answered") >= 2, "{status:?}");
    assert!(link(&status, "frames_learned") >= 6, "{status:?}");
    let sum: u64 = [
        "frames_answered",
        "frames_echoed",
        "frames_learned",
        "frames_conflicting",
        "frames_malformed",
        "frames_not_ours",
        "frames_ignored",
        "frames_limited",
        "frames_tx_full",
    ]
    .iter()
    .map(|name| link(&status, name))
    .sum();
    assert_eq!(link(&status, "frames_in"), sum, "each is counted once");
}

fn link(status: &Status, counter: &str) -> u64 {
    status.0["workers"][0]["link"][counter].as_u64().unwrap()
}

#[test]
fn on_dpdk_a_map_that_moves_threads_needs_a_restart() {
    let Some(scene) = raise(Driver::DpdkPacket) else {
        return;
    };
    let name = scene.appliance.status().unwrap().0["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let said = scene
        .appliance
        .ask(&["queues", "set", "--name", &name, "eth1", "0=1", "1=0"])
        .unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        !said.status.success() && text.contains("needs a restart"),
        "{text}"
    );
    set_and_get(&scene, Family::V4, "as-before");
}

#[test]
fn on_dpdk_an_orderly_end_leaves_nothing_on_the_interface_that_it_had_alone() {
    let Some(mut scene) = raise(Driver::DpdkXdp) else {
        return;
    };
    let link = |scene: &Scene| {
        let appliance = &scene.lab().hosts.appliance;
        appliance.shell("ip link show dev eth1").unwrap()
    };
    assert!(link(&scene).contains("prog/xdp"), "{}", link(&scene));
    let status = scene.appliance.status().unwrap();
    let name = status.0["name"].as_str().unwrap().to_owned();
    let pid = status.workers()[0].pid;
    // Another instance is told whose the interface is, and is not begun.
    let text = std::fs::read_to_string(scene.appliance.config_file()).unwrap();
    let other = scene.stage().directory().join("other.toml");
    let mine = format!("name = \"{name}\"");
    assert!(text.contains(&mine), "{text}");
    std::fs::write(&other, text.replace(&mine, "name = \"tg-other\"")).unwrap();
    for command in ["check", "run"] {
        let said = scene
            .appliance
            .ask(&[command, "-c", other.to_str().unwrap()]);
        let said = said.unwrap();
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        let expected = format!("eth1 is served by the instance {name:?} (process ");
        assert!(!said.status.success() && text.contains(&expected), "{text}");
    }
    set_and_get(&scene, Family::V4, "as-before");
    let ended = scene.appliance.end_with(Signal::SIGTERM).unwrap();
    assert!(ended.success(), "{}", scene.appliance.log());
    assert!(!link(&scene).contains("xdp"), "{}", link(&scene));
    let directory = format!("/var/run/dpdk/{name}-{pid}");
    assert!(!std::path::Path::new(&directory).exists(), "{directory}");
}

#[test]
fn on_dpdk_what_a_killed_instance_left_on_the_interface_is_cleaned_up() {
    let Some(mut scene) = raise(Driver::DpdkXdp) else {
        return;
    };
    let status = scene.appliance.status().unwrap();
    let name = status.0["name"].as_str().unwrap().to_owned();
    scene.appliance.kill_manager().unwrap();
    let said = scene.appliance.ask(&["clean-up", "--name", &name]).unwrap();
    assert!(said.status.success(), "{said:?}");
    let appliance = &scene.lab().hosts.appliance;
    let link = appliance.shell("ip link show dev eth1").unwrap();
    assert!(!link.contains("xdp"), "{link}");
    scene.appliance.run_again().unwrap();
    set_and_get(&scene, Family::V4, "again");
}
