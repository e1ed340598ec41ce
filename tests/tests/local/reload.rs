//! Another configuration for a running instance, taken up without a lost request.

use crate::home::{Home, Instance, ORDINARY_USER, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chown, geteuid};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegate_tests::client::resp::{Redis, Value};

/// How often servers are exchanged. The same with thousands of rounds is a matter of patience.
const ROUNDS: u64 = 12;

/// The text of a pool of Redis servers on these ports.
fn pool(home: &Home, name: &str, listen: u16, servers: &[u16]) -> String {
    let mut text = String::new();
    let listen = home.address(listen);
    write!(
        text,
        "[[pool]]\nname = \"{name}\"\nprotocol = \"redis\"\nlisten = \"{listen}\"\nservers = ["
    )
    .unwrap();
    for port in servers {
        write!(text, "\"{}:1 r{port}\",", home.address(*port)).unwrap();
    }
    text.push_str("]\n");
    text
}

fn write(home: &Home, pools: &[String]) -> PathBuf {
    home.config("workers = 2", pools)
}

fn reload(home: &Home) -> (Option<i32>, String) {
    home.output(&["reload"])
}

fn generation(instance: &Instance<'_>) -> u64 {
    instance.status().unwrap()["generation"].as_u64().unwrap()
}

fn is_no_error(reply: &std::io::Result<Value>) -> bool {
    reply
        .as_ref()
        .is_ok_and(|reply| !matches!(reply, Value::Error(_)))
}

/// Sets and gets until it is told to stop; every reply has to be what it should be. Returns how many there were.
fn load(home: &Home, port: u16, client: usize, stop: &AtomicBool, done: &AtomicU64) {
    let mut redis = Redis::open(home.address(port)).unwrap();
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let key = format!("c{client}:k{}", round % 50);
        let set = redis.words(&format!("SET {key} {round}"));
        assert!(is_no_error(&set), "SET {key}: {set:?}");
        // Its server may have changed in between: a miss is right then, an error is not.
        let got = redis.words(&format!("GET {key}"));
        assert!(is_no_error(&got), "GET {key}: {got:?}");
        let several = redis.words(&format!("MGET {key} c{client}:k1 c{client}:k2"));
        assert!(is_no_error(&several), "MGET: {several:?}");
        done.fetch_add(3, Ordering::Relaxed);
    }
}

#[test]
fn servers_come_and_go_under_load_and_nobody_sees_an_error() {
    let home = Home::new(70);
    let _servers = [6379, 6380, 6381].map(|port| home.redis_on(port, &format!("redis-{port}")));
    let with = |servers: &[u16]| write(&home, &[pool(&home, "cache", 22_121, servers)]);
    let mut instance = home.run(&with(&[6379, 6380]), 2);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..6 {
            let (home, stop, done) = (&home, &stop, &done);
            scope.spawn(move || load(home, 22_121, client, stop, done));
        }
        for round in 0..ROUNDS {
            let before = done.load(Ordering::Relaxed);
            let servers: &[u16] = match round % 4 {
                0 => &[6379, 6380, 6381],
                1 => &[6381, 6379],
                2 => &[6379],
                _ => &[6380, 6379],
            };
            with(servers);
            let (code, said) = reload(&home);
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("in force: configuration"), "{said}");
            // Requests go on in every configuration.
            wait_until("requests", || done.load(Ordering::Relaxed) > before + 60);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Counts are published some milliseconds after what they count.
    let status = instance.wait_for("all requests counted", |status| {
        status["pools"][0]["counters"]["requests"].as_u64() >= Some(done.load(Ordering::Relaxed))
    });
    assert_eq!(status["generation"], ROUNDS + 1);
    for worker in status["workers"].as_array().unwrap() {
        assert_eq!(worker["generation"], ROUNDS + 1, "{worker}");
        assert_eq!(worker["restarts"], 0, "{worker}");
    }
    let counters = &status["pools"][0]["counters"];
    assert_eq!(counters["forward_errors"], 0, "{counters}");
    assert_eq!(counters["timeouts"], 0, "{counters}");
    instance.stop();
}

#[test]
fn pools_and_listeners_come_and_go_while_others_stay() {
    let home = Home::new(71);
    let _servers = [6379, 6380].map(|port| home.redis_on(port, &format!("redis-{port}")));
    let first = || pool(&home, "first", 22_121, &[6379]);
    let second = || pool(&home, "second", 22_122, &[6380]);
    let mut instance = home.run(&write(&home, &[first()]), 2);
    let mut stays = Redis::open(home.address(22_121)).unwrap();
    assert!(stays.words("SET a 1").is_ok());
    assert!(Redis::open(home.address(22_122)).is_err(), "nobody listens");

    write(&home, &[second(), first()]);
    let (code, said) = home.output(&["reload", "--dry-run"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("pool second is added"), "{said}");
    assert_eq!(generation(&instance), 1, "a dry run changes nothing");
    instance.process.signal(Signal::SIGHUP);
    instance.wait_for("the second configuration", |status| {
        status["generation"] == 2
    });
    let mut goes = Redis::open(home.address(22_122)).unwrap();
    assert!(goes.words("SET b 2").is_ok());
    assert!(stays.words("GET a").is_ok());

    write(&home, &[first()]);
    let (code, said) = reload(&home);
    assert_eq!(code, Some(0), "{said}");
    assert!(goes.words("GET b").is_err(), "its pool is no more");
    assert!(stays.words("GET a").is_ok());
    wait_until("end of the listener", || {
        Redis::open(home.address(22_122)).is_err()
    });
    let status = instance.status().unwrap();
    assert_eq!(status["pools"][0]["name"], "first");
    assert_eq!(status["pools"][0]["counters"]["clients"], 1);
    instance.stop();
}

#[test]
fn a_bad_file_is_refused_with_every_fault_and_the_old_one_stays_in_force() {
    let home = Home::new(72);
    let _redis = home.redis();
    let text = pool(&home, "cache", 22_121, &[6379]);
    let file = write(&home, &[text]);
    let good = std::fs::read_to_string(&file).unwrap();
    let instance = home.run(&file, 2);
    let bad = format!(
        "{}\nhash = \"md6\"\ndistribution = \"kettle\"\ntimeout_ms = -1\nserver_connections = 0\npreconnect = 3\nbacklog = \"x\"\n\
         hash_tag = \"abc\"\nno_such_key = 1\npartial = \"some\"\ncompat = \"moxi\"\n[worker]\nclients_max = 0\n",
        good.split("[worker]").next().unwrap()
    );
    std::fs::write(&file, bad).unwrap();
    let (code, said) = reload(&home);
    assert_eq!(code, Some(1), "{said}");
    let faults = said
        .lines()
        .filter(|line| line.contains("tidegate.toml:"))
        .count();
    assert!(faults >= 10, "{faults} faults: {said}");
    assert_eq!(generation(&instance), 1);

    std::fs::write(&file, good.replace("workers = 2", "workers = 3")).unwrap();
    let (code, said) = reload(&home);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("workers was 2, is 3 (needs a restart)"),
        "{said}"
    );

    std::fs::write(&file, &good).unwrap();
    let (code, said) = reload(&home);
    assert_eq!((code, said.trim()), (Some(0), "nothing has changed"));
    let mut client = Redis::open(home.address(22_121)).unwrap();
    assert!(client.words("SET a 1").is_ok());
    instance.stop();
}

#[test]
fn limits_that_are_made_at_start_come_with_new_workers_one_after_the_other() {
    let home = Home::new(73);
    let _redis = home.redis();
    let file = write(&home, &[pool(&home, "cache", 22_121, &[6379])]);
    let mut instance = home.run(&file, 2);
    let before = [instance.worker(0), instance.worker(1)];
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("clients_max = 256", "clients_max = 300"),
    )
    .unwrap();
    let (code, said) = reload(&home);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("clients_max was 256, is 300"), "{said}");
    instance.wait_for("two new workers", |status| {
        let workers = status["workers"].as_array().unwrap();
        let is_new = |worker: &serde_json::Value| {
            let pid = worker["pid"].as_i64().unwrap_or_default() as i32;
            worker["state"] == "running" && before.iter().all(|old| old.as_raw() != pid)
        };
        workers.iter().all(is_new)
    });
    let mut client = Redis::open(home.address(22_121)).unwrap();
    assert!(client.words("SET a 1").is_ok());
    instance.stop();
}

#[test]
fn limits_that_no_worker_can_start_with_are_mended_by_another_reload() {
    let home = Home::new(75);
    let _redis = home.redis();
    let file = write(&home, &[pool(&home, "cache", 22_121, &[6379])]);
    // Room for workers as they are, and for the buffers of larger ones, but not for a process with them.
    let run = home.tidegate(&["run", "-c", file.to_str().unwrap()]);
    let mut limited = Command::new("prlimit");
    limited
        .arg("--as=3000000000")
        .arg(run.get_program())
        .args(run.get_args())
        .current_dir(run.get_current_dir().unwrap());
    let mut instance = home.instance(&mut limited, "local-75", 2);
    let good = std::fs::read_to_string(&file).unwrap();
    let workers = [instance.worker(0), instance.worker(1)];
    let with = |clients_max: u32| {
        let large = format!(
            "clients_max = {clients_max}\nclient_buffer_bytes = 1048576\nreply_hold_bytes = 1048576"
        );
        std::fs::write(&file, good.replace("clients_max = 256", &large)).unwrap();
    };
    with(920);
    let (code, said) = reload(&home);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("2861 MiB") && said.contains("ulimit -v"),
        "{said}"
    );
    with(917);
    let (code, said) = reload(&home);
    assert_eq!(code, Some(0), "{said}");
    instance.wait_for("a worker that cannot start", |status| {
        status["workers"][0]["restarts"].as_u64() >= Some(2)
    });
    assert_eq!(instance.worker(1), workers[1], "the other one serves");

    std::fs::write(&file, &good).unwrap();
    let (code, said) = reload(&home);
    assert_eq!(code, Some(0), "{said}");
    instance.wait_for("the worker that could not start", |status| {
        status["workers"][0]["state"] == "running"
    });
    assert!(instance.worker(0) != workers[0] && instance.worker(1) == workers[1]);
    let mut client = Redis::open(home.address(22_121)).unwrap();
    assert!(client.words("SET a 1").is_ok());
    let (code, said) = reload(&home);
    assert_eq!((code, said.as_str()), (Some(0), "nothing has changed\n"));
    instance.stop();
}

#[test]
fn single_settings_are_changed_and_saved_with_the_comments_of_the_file() {
    let home = Home::new(74);
    let _server = home.redis();
    let commented = pool(&home, "cache", 22_121, &[6379]) + "timeout_ms = 400 # the shop's\n";
    let file = write(&home, &[commented]);
    if geteuid().is_root() {
        // Who saves keeps the owner, so it has to be his.
        let (user, group) = (Uid::from_raw(ORDINARY_USER), Gid::from_raw(ORDINARY_USER));
        chown(&file, Some(user), Some(group)).unwrap();
    }
    let before = std::fs::read_to_string(&file).unwrap();
    let instance = home.run(&file, 2);
    let mut client = Redis::open(home.address(22_121)).unwrap();
    assert!(client.words("SET a 1").is_ok());

    let (code, said) = home.output(&["set", "pool", "cache", "timeout_ms=50", "hash=murmur"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("timeout_ms was 400, is 50"), "{said}");
    assert_eq!(generation(&instance), 2);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before, "in memory");
    assert!(client.words("GET a").is_ok(), "clients stay");

    // Everything that is wrong is told, and nothing is changed.
    let (code, said) = home.output(&["set", "pool", "cache", "timeout_ms=-1", "colour=red"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("timeout_ms"), "{said}");
    let (code, said) = home.output(&["set", "pool", "shed", "timeout_ms=1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no pool \"shed\""), "{said}");
    assert_eq!(generation(&instance), 2);

    // What was changed before is saved with it.
    let (code, said) = home.output(&["set", "worker", "client_stall_ms=9000", "--save"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the file says so"), "{said}");
    let saved = std::fs::read_to_string(&file).unwrap();
    for words in [
        "timeout_ms = 50 # the shop's\n",
        "hash = \"murmur\"\n",
        "client_stall_ms = 9000\n",
    ] {
        assert!(saved.contains(words), "{words:?} is not in\n{saved}");
    }
    let (code, said) = reload(&home);
    assert_eq!((code, said.as_str()), (Some(0), "nothing has changed\n"));

    // A file that says something else is not taken up by the way.
    std::fs::write(&file, saved.replace("= 9000", "= 9001")).unwrap();
    let (code, said) = home.output(&["set", "pool", "cache", "timeout_ms=60"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("reload first"), "{said}");
    instance.stop();
}
