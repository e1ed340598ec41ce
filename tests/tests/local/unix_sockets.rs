//! Unix sockets on both sides.

use crate::home::{Home, get_over, wait_until};
use nix::sys::signal::{Signal, kill};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::lab::process::Process;

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
}

/// A Redis with `a` = `here`.
fn redis(home: &Home) -> Process {
    let server = home.redis();
    let mut direct = Redis::open(home.address(6379)).unwrap();
    assert_eq!(direct.words("SET a here").unwrap(), Value::ok());
    server
}

/// A pool that listens at `name` with these permissions, in front of a Redis at a path.
fn pool(home: &Home, name: &str, mode: &str) -> [String; 1] {
    let listen = format!("{}{mode}", home.path(name).display());
    let server = format!("{}:1 redis-a", home.path("redis.sock").display());
    [Home::pool("redis", &[listen], &server)]
}

#[test]
fn a_path_is_listened_on_with_its_permissions_and_removed_at_the_end() {
    let home = Home::new(20);
    let _redis = redis(&home);
    let config = home.config("workers = 2", &pool(&home, "cache.sock", " 0640"));
    let mut instance = home.run(&config, 2);
    let path = home.path("cache.sock");
    assert!(is_socket(&path));
    let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o640);
    // Root may connect whatever the permissions are, and the owner is who it runs as.
    assert_eq!(get_over(&path, "a").unwrap(), "here");
    let status = instance.wait_for("the request", |status| {
        status["pools"][0]["counters"]["requests"].as_u64() > Some(0)
    });
    let server = &status["pools"][0]["servers"][0];
    assert_eq!(server["name"], "redis-a");
    let address = server["address"].as_str().unwrap();
    assert!(address.ends_with("redis.sock"), "{address}");
    instance.stop();
    assert!(!path.exists());
}

#[test]
fn what_a_killed_instance_left_is_removed_by_the_next_one_even_at_another_path() {
    let home = Home::new(21);
    let _redis = redis(&home);
    let first = home.config("workers = 1", &pool(&home, "first.sock", ""));
    let mut instance = home.run(&first, 1);
    let worker = instance.worker(0);
    instance.end_with(Signal::SIGKILL);
    wait_until("end of the worker", || kill(worker, None).is_err());
    let (first_path, second_path) = (home.path("first.sock"), home.path("second.sock"));
    assert!(is_socket(&first_path));

    let mut again = home.run(&first, 1);
    assert!(get_over(&first_path, "a").is_ok(), "the same path");
    let worker = again.worker(0);
    again.end_with(Signal::SIGKILL);
    wait_until("end of the worker", || kill(worker, None).is_err());

    let second = home.config("workers = 1", &pool(&home, "second.sock", ""));
    let instance = home.run(&second, 1);
    assert!(!first_path.exists() && is_socket(&second_path));
    instance.stop();
    assert!(!second_path.exists());
}

#[test]
fn clients_of_a_path_survive_the_death_of_another_worker() {
    let home = Home::new(22);
    let _redis = redis(&home);
    let config = home.config("workers = 2", &pool(&home, "cache.sock", ""));
    let mut instance = home.run(&config, 2);
    kill(instance.worker(0), Signal::SIGKILL).unwrap();
    // A client that the dead one had accepted already would see its end, so that its end has to come first.
    instance.wait_for("the end of the worker", |status| {
        !status["workers"][0]["last_exit"].is_null()
    });
    for _ in 0..8 {
        let reply = get_over(&home.path("cache.sock"), "a");
        assert_eq!(reply.unwrap(), "here");
    }
    instance.wait_for("a successor", |status| {
        let worker = &status["workers"][0];
        worker["restarts"] == 1 && worker["state"] == "running"
    });
    instance.stop();
}
