//! Workers that outlive their manager, with listeners that they share and sockets that have files.

use crate::home::{Home, Instance, get_over, wait_until};
use nix::sys::signal::{Signal, kill};
use std::path::PathBuf;
use tidegate_tests::client::resp::{Redis, Value};

/// Ends what a failed test leaves.
struct CleanUp<'a>(&'a Home, &'static str);

impl Drop for CleanUp<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.output(&["clean-up", "--name", self.1]).1);
        }
    }
}

/// A configuration whose workers share a listener and a path.
fn config(home: &Home, path: &str) -> PathBuf {
    let listen = [home.address(22_121).to_string(), path.to_owned()];
    let pool = Home::pool("redis", &listen, &format!("{}:1", home.address(6379)));
    let file = home.config("workers = 2\nreuseport = false", &[pool]);
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("outlive_manager = false", "outlive_manager = true");
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn shared_listeners_and_paths_go_from_manager_to_manager() {
    let home = Home::new(15);
    let _clean_up = CleanUp(&home, "local-15");
    let _redis = home.redis();
    let path = home.path("clients.sock");
    let file = config(&home, path.to_str().unwrap());
    let mut instance = home.run(&file, 2);
    let mut before = Redis::open(home.address(22_121)).unwrap();
    assert_eq!(before.words("SET a 1").unwrap(), Value::ok());
    let workers = [instance.worker(0), instance.worker(1)];
    instance.end_with(Signal::SIGKILL);
    // Without a manager clients come and go.
    let mut orphaned = Redis::open(home.address(22_121)).unwrap();
    assert_eq!(orphaned.words("SET a 2").unwrap(), Value::ok());
    assert_eq!(get_over(&path, "a").unwrap(), "2");
    drop(instance);

    let mut instance = home.run(&file, 2);
    assert_eq!([instance.worker(0), instance.worker(1)], workers);
    assert_eq!(before.words("GET a").unwrap(), Value::bulk(b"2"));
    assert_eq!(orphaned.words("SET a 3").unwrap(), Value::ok());
    for worker in workers {
        kill(worker, Signal::SIGKILL).unwrap();
    }
    // Nobody accepts at this moment, and nothing that waits is lost: the manager has the listeners.
    let mut after = Redis::open(home.address(22_121)).unwrap();
    assert_eq!(after.words("SET a 4").unwrap(), Value::ok());
    assert_eq!(get_over(&path, "a").unwrap(), "4");
    instance.wait_for("successors", |status| {
        let workers = status["workers"].as_array().unwrap();
        workers
            .iter()
            .all(|w| w["restarts"] == 1 && w["state"] == "running")
    });
    drop((before, orphaned, after));
    instance.stop();
    assert!(!path.exists(), "its file goes with the last manager");
}

#[test]
fn a_drain_that_its_manager_did_not_survive_goes_on() {
    let home = Home::new(16);
    let _clean_up = CleanUp(&home, "local-16");
    let redis = home.redis();
    let path = home.path("clients.sock");
    let file = config(&home, path.to_str().unwrap());
    let mut instance = home.run(&file, 2);
    let mut client = Redis::open(home.address(22_121)).unwrap();
    assert_eq!(client.words("SET a 1").unwrap(), Value::ok());
    let workers = [instance.worker(0), instance.worker(1)];
    let server = nix::unistd::Pid::from_raw(redis.pid());
    kill(server, Signal::SIGSTOP).unwrap();
    let get = tidegate_tests::client::resp::command(&[b"GET", b"a"]);
    client.connection.send(&get).unwrap();
    instance.wait_for("the request", |status| {
        status["pools"][0]["servers"][0]["counters"]["requests"].as_u64() > Some(1)
    });
    instance.process.signal(Signal::SIGTERM);
    instance.wait_for("the drain", |status| status["state"] == "draining");
    instance.end_with(Signal::SIGKILL);
    kill(server, Signal::SIGCONT).unwrap();
    assert_eq!(client.reply().unwrap(), Value::bulk(b"1"), "it was owed");
    drop(client);
    for worker in workers {
        wait_until("end of the workers", || kill(worker, None).is_err());
    }
    drop(instance);
    home.run(&file, 2).stop();
}

#[test]
fn a_status_without_a_manager_says_what_goes_on() {
    let home = Home::new(17);
    let _clean_up = CleanUp(&home, "local-17");
    let path = home.path("clients.sock");
    let file = config(&home, path.to_str().unwrap());
    let mut instance = home.run(&file, 2);
    let worker = instance.worker(0).to_string();
    instance.end_with(Signal::SIGKILL);
    let (code, said) = home.output(&["status", "--name", "local-17"]);
    assert_eq!(code, Some(1));
    for words in [
        "go on without a manager",
        &worker,
        "tidegate run",
        "clean-up",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let (code, said) = home.output(&["clean-up", "--name", "local-17"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!path.exists());
}

#[test]
fn settings_that_are_not_in_the_file_go_from_manager_to_manager() {
    let home = Home::new(18);
    let _clean_up = CleanUp(&home, "local-18");
    let _redis = home.redis();
    let file = config(&home, home.path("clients.sock").to_str().unwrap());
    let mut instance = home.run(&file, 2);
    let (code, said) = home.output(&["set", "pool", "redis", "timeout_ms=50"]);
    assert_eq!(code, Some(0), "{said}");
    let unsaved = serde_json::json!(["pool redis: timeout_ms"]);
    assert_eq!(instance.status().unwrap()["unsaved"], unsaved);
    instance.end_with(Signal::SIGKILL);
    drop(instance);

    let instance = home.run(&file, 2);
    assert_eq!(instance.status().unwrap()["unsaved"], unsaved);
    let status = instance.status().unwrap();
    let numbers = [&status["generation"], &status["workers"][1]["generation"]];
    assert_eq!(numbers, [2, 2], "they count on");
    let text = instance.status_text();
    assert!(
        text.contains("not in the file: pool redis: timeout_ms"),
        "{text}"
    );
    // What is in force is the file with what was set, so that more can be set.
    let (code, said) = home.output(&["set", "worker", "client_stall_ms=9000"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("timeout_ms"), "{said}");
    let (code, said) = home.output(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("timeout_ms was 50"), "{said}");
    assert_eq!(instance.status().unwrap()["unsaved"], serde_json::json!([]));
    instance.stop();
}

/// The cores that a process may run on, as the kernel writes them.
fn cores_of(process: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines();
    let cores = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    cores.unwrap().trim().to_owned()
}

#[test]
fn workers_that_were_moved_stay_where_they_are() {
    let home = Home::new(19);
    let _clean_up = CleanUp(&home, "local-19");
    let cores = cores_of("self");
    let mut cores = cores.split([',', '-']).map(|core| core.parse().unwrap());
    let first: u32 = cores.next().unwrap();
    let other = cores.next_back().unwrap_or(first);
    let text = config(&home, home.path("clients.sock").to_str().unwrap());
    let text = std::fs::read_to_string(text).unwrap();
    let file = home.path("cores.toml");
    let map = format!("queues = {{ 0 = {first}, 1 = {first} }}");
    std::fs::write(&file, text.replace("workers = 2", &map)).unwrap();
    let mut instance = home.run(&file, 2);
    let moved = format!("0={other}");
    let (code, said) = home.output(&["queues", "set", "kernel", &moved]);
    assert_eq!(code, Some(0), "{said}");
    let core_of = |instance: &Instance<'_>| {
        let told = instance.status().unwrap()["workers"][0]["core"].clone();
        (told, cores_of(&instance.worker(0).to_string()))
    };
    let there = (serde_json::Value::from(other), other.to_string());
    assert_eq!(core_of(&instance), there);
    instance.end_with(Signal::SIGKILL);
    drop(instance);
    let mut instance = home.run(&file, 2);
    assert_eq!(core_of(&instance), there);
    // Its successor starts there, too; what the file says is a reload away.
    kill(instance.worker(0), Signal::SIGKILL).unwrap();
    instance.wait_for("restart", |status| {
        let worker = &status["workers"][0];
        worker["restarts"] == 1 && worker["state"] == "running"
    });
    assert_eq!(core_of(&instance), there);
    let (code, said) = home.output(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    let back = (serde_json::Value::from(first), first.to_string());
    assert_eq!(core_of(&instance), back);
    instance.stop();
}
