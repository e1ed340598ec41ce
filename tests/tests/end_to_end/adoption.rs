//! Workers outlive their manager: nothing is lost, the next one adopts them, and then everything is as before.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::lab::state::process_started;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;
use tidegate_tests::{both_drivers, drivers_with_processes};

const CONNECTIONS: u16 = 4;
/// Turns a hang into a failure; far above what a process takes to end.
const PATIENCE: Duration = Duration::from_mins(1);
/// Requests that a connection sends at most: what a test that goes wrong may cost.
const REQUESTS_MAX: u64 = 2_000_000;

fn outliving(stage: &dyn Stage) -> LabConfig {
    LabConfig::new(stage, Family::V4).outliving()
}

/// A connection that `worker` serves.
fn connection_of(scene: &mut Scene, worker: u16, number: u16) -> Redis {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    let connection = scene.connection_of(worker, number, to);
    Redis { connection }
}

fn connections(scene: &mut Scene, worker: u16) -> Vec<Redis> {
    (0..CONNECTIONS)
        .map(|number| connection_of(scene, worker, number))
        .collect()
}

fn set_and_get(client: &mut Redis, key: &str, value: &str) {
    let (key, value) = (key.as_bytes(), value.as_bytes());
    assert_eq!(client.ask(&[b"SET", key, value]).unwrap(), Value::ok());
    assert_eq!(client.ask(&[b"GET", key]).unwrap(), Value::bulk(value));
}

fn requests(scene: &mut Scene, expected: u64) -> u64 {
    let status = scene.wait_for_status("all requests counted", |status| {
        status.pool_total("redis", "requests") >= expected
    });
    status.pool_total("redis", "requests")
}

both_drivers!(
    a_killed_manager_costs_no_request_and_the_next_one_goes_on,
    LabOptions::default(),
    outliving,
    a_killed_manager_costs_no_request_and_the_next_one_goes_on
);

fn a_killed_manager_costs_no_request_and_the_next_one_goes_on(scene: &mut Scene) {
    let mut clients = connections(scene, 0);
    clients.extend(connections(scene, 1));
    let before = scene.appliance.status().unwrap();
    let counted_before = before.pool_total("redis", "requests");
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let enough = |more: u64| {
        let from = sent.load(Ordering::Relaxed);
        while sent.load(Ordering::Relaxed) < from + more {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || {
                for round in 0..REQUESTS_MAX / 2 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    set_and_get(client, &format!("k{number}"), &format!("{round}"));
                    sent.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        enough(500);
        scene.appliance.kill_manager().unwrap();
        // Without a manager.
        enough(500);
        scene.appliance.run_again().unwrap();
        enough(500);
        stop.store(true, Ordering::Relaxed);
    });

    let expected = counted_before + sent.load(Ordering::Relaxed);
    assert_eq!(requests(scene, expected), expected, "counters go on");
    let after = scene.appliance.status().unwrap();
    assert_eq!(
        after.workers(),
        before.workers(),
        "the same processes, as they were"
    );
    assert_eq!(after.0["state"], "running");
    for (worker, before) in before.0["workers"].as_array().unwrap().iter().enumerate() {
        let after = &after.0["workers"][worker];
        assert!(after["uptime_s"].as_u64() >= before["uptime_s"].as_u64());
        assert_eq!(after["queues"][0]["mode"], before["queues"][0]["mode"]);
        assert_eq!(after["core"], before["core"]);
    }
    // It is a manager like the first: it drains.
    let log = scene.appliance.log();
    assert!(log.contains("goes on"), "{log}");
    let mut owed = clients.remove(0);
    let value = vec![b'v'; 1 << 20];
    assert_eq!(owed.ask(&[b"SET", b"owed", &value]).unwrap(), Value::ok());
    let get = b"*2\r\n$3\r\nGET\r\n$4\r\nowed\r\n";
    owed.connection.send(&get.repeat(4)).unwrap();
    assert_eq!(owed.reply().unwrap(), Value::bulk(&value));
    let manager = scene.appliance.process().pid();
    kill(Pid::from_raw(manager), Signal::SIGTERM).unwrap();
    for _ in 1..4 {
        assert_eq!(owed.reply().unwrap(), Value::bulk(&value), "it was owed");
    }
    drop((owed, clients));
    let ended = scene.appliance.end_with(Signal::SIGCONT).unwrap();
    assert_eq!(ended.code(), Some(0));
    for worker in after.workers() {
        assert_eq!(process_started(worker.pid), None, "worker {}", worker.index);
    }
}

drivers_with_processes!(
    a_worker_that_dies_without_a_manager_is_mended_by_the_next,
    LabOptions::default(),
    outliving,
    a_worker_that_dies_without_a_manager_is_mended_by_the_next
);

fn a_worker_that_dies_without_a_manager_is_mended_by_the_next(scene: &mut Scene) {
    let before = scene.appliance.status().unwrap().workers();
    let mut survivors = connections(scene, 1);
    scene.appliance.kill_manager().unwrap();
    kill(Pid::from_raw(before[0].pid), Signal::SIGKILL).unwrap();
    for (number, client) in survivors.iter_mut().enumerate() {
        set_and_get(client, &format!("a{number}"), "alone");
    }
    // A process that was killed is there until the kernel has taken it apart.
    let killed = Instant::now();
    while process_started(before[0].pid).is_some() {
        assert!(killed.elapsed() < PATIENCE, "it does not end");
        std::thread::yield_now();
    }
    scene.appliance.run_again().unwrap();
    let after = scene.appliance.status().unwrap().workers();
    assert_eq!(after[1], before[1], "the other one was adopted");
    assert_ne!(after[0].pid, before[0].pid);
    assert_eq!(after[0].restarts, 1);
    assert_eq!(after[0].last_exit, "ended while there was no manager");
    let mut clients = connections(scene, 0);
    for (number, client) in survivors.iter_mut().chain(&mut clients).enumerate() {
        set_and_get(client, &format!("b{number}"), "again");
    }

    // An adopted worker that dies is started again like any other.
    kill(Pid::from_raw(after[1].pid), Signal::SIGKILL).unwrap();
    scene.wait_for_status("a successor of the adopted worker", |status| {
        let worker = &status.workers()[1];
        worker.state == "running" && worker.restarts == 1 && worker.pid != after[1].pid
    });
    for number in CONNECTIONS..2 * CONNECTIONS {
        let mut client = connection_of(scene, 1, number);
        set_and_get(&mut client, &format!("c{number}"), "once more");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        set_and_get(client, &format!("d{number}"), "not concerned");
    }

    // A manager after that one knows everything of both.
    let before = scene.appliance.status().unwrap().workers();
    scene.appliance.kill_manager().unwrap();
    scene.appliance.run_again().unwrap();
    assert_eq!(scene.appliance.status().unwrap().workers(), before);
    for (number, client) in clients.iter_mut().enumerate() {
        set_and_get(client, &format!("e{number}"), "still there");
    }
}

both_drivers!(
    clean_up_ends_workers_that_nobody_adopts,
    LabOptions::default(),
    outliving,
    clean_up_ends_workers_that_nobody_adopts
);

fn clean_up_ends_workers_that_nobody_adopts(scene: &mut Scene) {
    let workers = scene.appliance.status().unwrap().workers();
    let name = scene.stage().name().to_owned();
    let clean_up = ["clean-up", "--name", &name];
    let refused = scene.appliance.ask(&clean_up).unwrap();
    assert!(!refused.status.success(), "its manager lives");
    scene.appliance.kill_manager().unwrap();
    for worker in &workers {
        assert!(
            process_started(worker.pid).is_some(),
            "worker {}",
            worker.index
        );
    }
    let done = scene.appliance.ask(&clean_up).unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}");
    for worker in &workers {
        assert!(text.contains(&worker.pid.to_string()), "{text}");
        assert_eq!(process_started(worker.pid), None, "worker {}", worker.index);
    }
    let again = scene.appliance.ask(&clean_up).unwrap();
    assert!(!again.status.success(), "nothing is left");
    // Nothing is in the way of a new start, and it adopts nobody.
    scene.appliance.run_again().unwrap();
    let status = scene.appliance.status().unwrap();
    for (before, after) in workers.iter().zip(status.workers()) {
        assert_ne!(before.pid, after.pid);
        assert_eq!(after.restarts, 0);
    }
    let mut client = connection_of(scene, 0, 0);
    set_and_get(&mut client, "f", "served");
}

/// Stops a process, all of it: a thread stops when it next has a core, and until then it may still answer.
fn stop(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let is_stopped = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap();
        // Behind the name, which is in parentheses.
        stat.rsplit(") ").next().unwrap().starts_with('T')
    };
    let started = Instant::now();
    loop {
        let mut threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        if threads.all(|thread| is_stopped(thread.unwrap())) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "process {pid} goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
}

drivers_with_processes!(
    a_worker_that_does_not_answer_is_replaced,
    LabOptions::default(),
    outliving,
    a_worker_that_does_not_answer_is_replaced
);

fn a_worker_that_does_not_answer_is_replaced(scene: &mut Scene) {
    let before = scene.appliance.status().unwrap().workers();
    let mut survivors = connections(scene, 1);
    scene.appliance.kill_manager().unwrap();
    stop(before[0].pid);
    scene.appliance.run_again().unwrap();
    let after = scene.appliance.status().unwrap().workers();
    assert_eq!(after[1], before[1]);
    assert_ne!(after[0].pid, before[0].pid);
    assert_eq!(process_started(before[0].pid), None);
    for (number, client) in survivors.iter_mut().enumerate() {
        set_and_get(client, &format!("g{number}"), "not concerned");
    }
    let mut client = connection_of(scene, 0, 0);
    set_and_get(&mut client, "h", "served");

    // If none of them answers, everything begins anew.
    scene.appliance.kill_manager().unwrap();
    for worker in &after {
        stop(worker.pid);
    }
    scene.appliance.run_again().unwrap();
    for (before, after) in after
        .iter()
        .zip(scene.appliance.status().unwrap().workers())
    {
        assert_eq!(process_started(before.pid), None);
        assert_eq!((after.restarts, &*after.last_exit), (0, ""));
    }
    for worker in 0..2 {
        let mut client = connection_of(scene, worker, CONNECTIONS);
        set_and_get(&mut client, "i", "served");
    }
}

both_drivers!(
    the_program_is_replaced_while_it_serves,
    LabOptions::default(),
    outliving,
    the_program_is_replaced_while_it_serves
);

fn the_program_is_replaced_while_it_serves(scene: &mut Scene) {
    let name = scene.stage().name().to_owned();
    let before = scene.appliance.status().unwrap();
    let mut clients = connections(scene, 0);
    clients.extend(connections(scene, 1));
    for (number, client) in clients.iter_mut().enumerate() {
        set_and_get(client, &format!("a{number}"), "before");
    }
    let upgrade = ["upgrade", "--name", &name, "--manager-only"];
    let done = scene.appliance.ask(&upgrade).unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let after = scene.appliance.status().unwrap();
    assert_eq!(after.workers(), before.workers(), "nobody noticed");
    assert_eq!(after.0["pid"], before.0["pid"], "it is the same process");
    for (number, client) in clients.iter_mut().enumerate() {
        set_and_get(client, &format!("b{number}"), "the new manager");
    }

    let done = scene.appliance.ask(&upgrade[..3]).unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_eq!(text.matches("was drained").count(), 2, "{text}");
    for (before, after) in before
        .workers()
        .iter()
        .zip(scene.appliance.status().unwrap().workers())
    {
        assert_ne!(before.pid, after.pid);
        assert_eq!((after.restarts, &*after.last_exit), (1, "exit code 0"));
    }
    for client in &mut clients {
        assert!(client.connection.is_closed(), "in order");
    }
    for worker in 0..2 {
        let mut client = connection_of(scene, worker, CONNECTIONS);
        set_and_get(&mut client, "c", "the new workers");
    }

    // What the workers counted that have ended, the next manager knows.
    let counted = |scene: &mut Scene| {
        let stats = scene.appliance.ask(&["stats", "--name", &name, "--json"]);
        let stats: serde_json::Value = serde_json::from_slice(&stats.unwrap().stdout).unwrap();
        let pools = stats["pools"].as_array().unwrap().iter();
        let requests = pools.filter_map(|pool| pool["counters"]["requests"].as_u64());
        requests.sum::<u64>()
    };
    // Two rounds of all clients, and one of the new ones, which may not have been published.
    let asked = 2 * u64::from(2 * CONNECTIONS) * 2;
    let before = counted(scene);
    assert!(before >= asked, "{before} of {asked}");
    scene.appliance.kill_manager().unwrap();
    scene.appliance.run_again().unwrap();
    assert!(counted(scene) >= before, "{before} before");
}

both_drivers!(
    a_manager_with_a_changed_file_adopts_the_workers_with_what_they_have,
    LabOptions::default(),
    outliving,
    a_manager_with_a_changed_file_adopts_the_workers_with_what_they_have
);

fn a_manager_with_a_changed_file_adopts_the_workers_with_what_they_have(scene: &mut Scene) {
    let before = scene.appliance.status().unwrap().workers();
    let mut clients = connections(scene, 0);
    scene.appliance.kill_manager().unwrap();
    let file = scene.appliance.config_file().to_owned();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "this is no configuration").unwrap();
    assert!(
        scene.appliance.run_again().is_err(),
        "a manager that cannot start"
    );
    for client in &mut clients {
        set_and_get(client, "a", "the workers go on");
    }
    std::fs::write(
        &file,
        text.replace("[worker]", "[worker]\ndrain_timeout_ms = 4321"),
    )
    .unwrap();
    scene.appliance.run_again().unwrap();
    assert_eq!(scene.appliance.status().unwrap().workers(), before);
    for client in &mut clients {
        set_and_get(client, "b", "the new manager");
    }
    let log = scene.appliance.log();
    assert!(log.contains("drain_timeout_ms was 10000, is 4321"), "{log}");
}
