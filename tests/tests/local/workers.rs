//! Workers that die: the others go on, and a successor takes the place.

use crate::home::{Home, wait_until};
use nix::sys::signal::{Signal, kill};
use tidegate_tests::client::resp::{Redis, Value};

/// Enough that among two workers each has some: all on one side has a chance of one in two billion.
const CLIENTS: usize = 32;

fn pools(home: &Home) -> [String; 1] {
    [Home::pool(
        "redis",
        &[home.address(22_121).to_string()],
        &format!("{}:1", home.address(6379)),
    )]
}

fn clients(home: &Home) -> Vec<Redis> {
    let mut clients: Vec<Redis> = (0..CLIENTS)
        .map(|_| Redis::open(home.address(22_121)).unwrap())
        .collect();
    for client in &mut clients {
        assert_eq!(client.words("SET a 1").unwrap(), Value::ok());
    }
    clients
}

#[test]
fn one_of_two_workers_dies_and_the_other_serves_on() {
    let home = Home::new(10);
    let _redis = home.redis();
    let mut instance = home.run(&home.config("workers = 2", &pools(&home)), 2);
    let mut before = clients(&home);
    let died = instance.worker(0);
    kill(died, Signal::SIGKILL).unwrap();
    let mut lived = 0;
    for client in &mut before {
        // The clients of the dead one see its end, and nobody else does.
        lived += usize::from(client.words("GET a").is_ok());
    }
    assert!(0 < lived && lived < CLIENTS, "{lived} of {CLIENTS}");
    // Whether the successor is there yet or not.
    drop(clients(&home));
    let status = instance.wait_for("a successor", |status| {
        let worker = &status["workers"][0];
        worker["restarts"] == 1 && worker["state"] == "running"
    });
    assert_eq!(status["workers"][0]["last_exit"], "killed by SIGKILL");
    assert_eq!(status["workers"][1]["restarts"], 0);
    assert_ne!(status["workers"][0]["pid"], died.as_raw());
    drop(clients(&home));
    instance.wait_for("clients of the successor", |status| {
        status["workers"][0]["stack"]["accepted"].as_u64() > Some(0)
    });
    drop(before);
    instance.stop();
}

#[test]
fn what_waits_on_a_shared_listener_survives_the_worker() {
    let home = Home::new(11);
    let _redis = home.redis();
    let config = home.config("workers = 1\nreuseport = false", &pools(&home));
    let mut instance = home.run(&config, 1);
    let worker = instance.worker(0);
    kill(worker, Signal::SIGSTOP).unwrap();
    let mut client = Redis::open(home.address(22_121)).unwrap();
    let request = tidegate_tests::client::resp::command(&[b"SET", b"a", b"1"]);
    client.connection.send(&request).unwrap();
    kill(worker, Signal::SIGKILL).unwrap();
    assert_eq!(client.reply().unwrap(), Value::ok());
    let status = instance.wait_for("a successor", |status| {
        status["workers"][0]["restarts"] == 1
    });
    assert_eq!(status["workers"][0]["stack"]["accepted"], 1);
    drop(client);
    instance.stop();
}

#[test]
fn two_workers_share_a_listener() {
    let home = Home::new(12);
    let _redis = home.redis();
    let config = home.config("workers = 2\nreuseport = false", &pools(&home));
    let mut instance = home.run(&config, 2);
    let first = instance.worker(0);
    kill(first, Signal::SIGSTOP).unwrap();
    // One of them stands still: the other takes everybody.
    let before = clients(&home);
    kill(first, Signal::SIGCONT).unwrap();
    instance.wait_for("all clients at the second", |status| {
        status["workers"][1]["stack"]["accepted"] == CLIENTS
    });
    drop(before);
    instance.stop();
}

#[test]
fn workers_end_with_their_manager_and_the_next_start_serves() {
    let home = Home::new(13);
    let _redis = home.redis();
    let config = home.config("workers = 2", &pools(&home));
    let mut instance = home.run(&config, 2);
    let workers = [instance.worker(0), instance.worker(1)];
    assert!(!instance.end_with(Signal::SIGKILL).success());
    for worker in workers {
        wait_until("end of the workers", || kill(worker, None).is_err());
    }
    assert!(
        home.has_runtime_directory(),
        "nobody was there to remove it"
    );
    let instance = home.run(&config, 2);
    drop(clients(&home));
    instance.stop();
}
