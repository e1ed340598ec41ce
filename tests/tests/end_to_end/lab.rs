//! The lab itself: what it makes works, and nothing of it is left, however it ends.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::state::traces;
use tidegate_tests::lab::topology::Nics;
use tidegate_tests::lab::{Lab, LabOptions};
use tidegate_tests::scene::turn_or_skip;

fn wait_until_gone(name: &str) {
    let started = Instant::now();
    while !traces(name).is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "left behind: {:?}",
            traces(name)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    let Some(_turn) = turn_or_skip() else { return };
    for nics in [Nics::One, Nics::Two] {
        let lab = Lab::raise(LabOptions {
            nics,
            ..LabOptions::default()
        })
        .unwrap();
        let (name, directory) = (lab.name().to_owned(), lab.directory().to_owned());
        assert!(!traces(&name).is_empty() && directory.exists());
        drop(lab);
        assert_eq!(traces(&name), Vec::<String>::new());
        assert!(!directory.exists());
    }
}

#[test]
fn a_panic_removes_the_lab() {
    let Some(_turn) = turn_or_skip() else { return };
    let name = std::sync::Mutex::new(String::new());
    let panicked = std::panic::catch_unwind(|| {
        let lab = Lab::raise(LabOptions {
            memcached: 1,
            redis: 1,
            ..LabOptions::default()
        })
        .unwrap();
        lab.name().clone_into(&mut name.lock().unwrap());
        panic!("a test failed (on purpose)");
    });
    assert!(panicked.is_err());
    let name = name
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(name.starts_with("tg-"));
    assert_eq!(traces(&name), Vec::<String>::new());
}

#[test]
fn servers_answer_over_both_families_and_restart_empty() {
    let Some(_turn) = turn_or_skip() else { return };
    let mut lab = Lab::raise(LabOptions {
        memcached: 1,
        redis: 1,
        ..LabOptions::default()
    })
    .unwrap();
    let host = lab.hosts.server.clone();
    for family in Family::BOTH {
        let (memcached, redis) = (
            lab.memcached[0].address(family),
            lab.redis[0].address(family),
        );
        host.run(|| {
            assert_eq!(
                Memcached::open(memcached)
                    .unwrap()
                    .set(b"a", 0, b"1")
                    .unwrap(),
                "STORED"
            );
            assert_eq!(
                Redis::open(redis).unwrap().words("SET a 1").unwrap(),
                Value::ok()
            );
        });
    }
    lab.redis[0].kill();
    let redis = lab.redis[0].address(Family::V4);
    assert!(
        host.run(|| Redis::open(redis).is_err()),
        "a killed server listens"
    );
    lab.redis[0].restart().unwrap();
    host.run(|| {
        assert_eq!(
            Redis::open(redis).unwrap().words("GET a").unwrap(),
            Value::Bulk(None)
        );
    });
}

/// A process that raised a lab and waits, and the lab's name. A shell lets what it starts in the background ignore Ctrl-C, and whatever
/// that starts as well; this one ends by it all the same.
fn owner() -> (Child, String) {
    let mut child = Command::new("env")
        .arg("--default-signal=INT")
        .arg(env!("CARGO_BIN_EXE_tidegate-lab"))
        .args(["up", "--wait", "--memcached", "1", "--redis", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut name = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut name)
        .unwrap();
    (child, name.trim().to_owned())
}

fn the_lab_goes_when_its_owner_gets(signal: Signal) {
    let Some(_turn) = turn_or_skip() else { return };
    let (mut child, name) = owner();
    assert!(!traces(&name).is_empty());
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    child.wait().unwrap();
    wait_until_gone(&name);
}

#[test]
fn ctrl_c_removes_the_lab() {
    the_lab_goes_when_its_owner_gets(Signal::SIGINT);
}

#[test]
fn a_killed_owner_leaves_nothing() {
    the_lab_goes_when_its_owner_gets(Signal::SIGKILL);
}

#[test]
fn the_next_raise_removes_what_a_dead_owner_and_a_dead_janitor_left() {
    let Some(_turn) = turn_or_skip() else { return };
    let (mut child, name) = owner();
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let is_janitor = |pid: &i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words
            .split(|byte| *byte == 0)
            .any(|word| word == b"janitor")
    };
    let janitor = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .find(is_janitor)
        .expect("a janitor waits");
    kill(Pid::from_raw(janitor), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    assert!(
        !traces(&name).is_empty(),
        "nothing was left, so nothing is proved"
    );
    drop(
        Lab::raise(LabOptions {
            memcached: 0,
            redis: 0,
            ..LabOptions::default()
        })
        .unwrap(),
    );
    assert_eq!(traces(&name), Vec::<String>::new());
}
