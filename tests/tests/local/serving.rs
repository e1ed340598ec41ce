//! It serves, says what it does, and ends in order.

use crate::home::{Home, ORDINARY_USER, PATIENCE, wait_until};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::lab::program;

fn both_pools(home: &Home) -> [String; 2] {
    [
        Home::pool(
            "redis",
            &[home.address(22_121).to_string()],
            &format!("{}:1", home.address(6379)),
        ),
        Home::pool(
            "memcached",
            &[home.address(22_122).to_string()],
            &format!("{}:1", home.address(11_211)),
        ),
    ]
}

#[test]
fn redis_and_memcached_are_served_and_the_status_tells_it() {
    let home = Home::new(1);
    let (_redis, _memcached) = (home.redis(), home.memcached());
    let config = home.config("workers = 1", &both_pools(&home));
    let (code, plan) = home.output(&["check", "-c", config.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{plan}");
    assert!(plan.contains("# 1 worker, not pinned"), "{plan}");

    let mut instance = home.run(&config, 1);
    let mut redis = Redis::open(home.address(22_121)).unwrap();
    assert_eq!(redis.words("SET a 1").unwrap(), Value::ok());
    assert_eq!(redis.words("GET a").unwrap(), Value::bulk(b"1"));
    let mut memcached = Memcached::open(home.address(22_122)).unwrap();
    assert_eq!(memcached.set(b"b", 0, b"2").unwrap(), "STORED");
    assert_eq!(memcached.get(&[b"b"]).unwrap()[0].value, b"2");

    let status = instance.wait_for("counters", |status| {
        status["pools"][1]["counters"]["requests"] == 2
    });
    let worker = &status["workers"][0];
    assert!(worker["core"].is_null(), "not pinned: {worker}");
    assert!(worker["sockets"]["reads"].as_u64() > Some(3), "{worker}");
    assert_eq!(worker["stack"]["accepted"], 2, "{worker}");
    assert_eq!(worker["queues"].as_array().map(Vec::len), Some(0));
    let text = instance.status_text();
    assert!(text.contains("sockets: waits="), "{text}");
    assert!(
        !text.contains("queues") && !text.contains("steering"),
        "{text}"
    );
    let (code, plan) = home.output(&["check", "-c", config.to_str().unwrap()]);
    assert_eq!(code, Some(0), "its own addresses are no fault: {plan}");
    drop((redis, memcached));
    instance.stop();
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    drains(&Home::new(2), "workers = 1");
}

#[test]
fn a_shared_listener_refuses_new_clients_as_well_while_the_last_are_served() {
    drains(&Home::new(5), "workers = 2\nreuseport = false");
}

fn drains(home: &Home, port: &str) {
    let server = TcpListener::bind(home.address(6379)).unwrap();
    let pools = [Home::pool(
        "redis",
        &[home.address(22_121).to_string()],
        &format!("{}:1", home.address(6379)),
    )];
    let workers = if port.contains('2') { 2 } else { 1 };
    let mut instance = home.run(&home.config(port, &pools), workers);
    let client = std::thread::spawn({
        let address = home.address(22_121);
        move || Redis::open(address).unwrap().words("GET slow").unwrap()
    });
    let (mut under_way, _) = server.accept().unwrap();
    let mut request = [0; 23];
    under_way.read_exact(&mut request).unwrap();
    instance.process.signal(Signal::SIGTERM);
    wait_until("refusal of new clients", || {
        TcpStream::connect(home.address(22_121)).is_err()
    });
    under_way.write_all(b"$4\r\ndone\r\n").unwrap();
    assert_eq!(client.join().unwrap(), Value::bulk(b"done"));
    instance.stop();
}

#[test]
fn ctrl_c_ends_it_as_sigterm_does() {
    let home = Home::new(3);
    let pools = [Home::pool(
        "redis",
        &[home.address(22_121).to_string()],
        "192.0.2.1:6379:1",
    )];
    let mut instance = home.run(&home.config("queues = { 0 = 0, 1 = 0 }", &pools), 2);
    let status = instance.status().unwrap();
    assert_eq!(status["workers"][1]["core"], 0);
    assert!(instance.end_with(Signal::SIGINT).success());
    assert!(!home.has_runtime_directory());
}

/// Started by root, it listens on a port of root's and then gives up everything.
#[test]
fn workers_of_root_become_an_ordinary_user() {
    if !geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let home = Home::new(4);
    let _redis = home.redis();
    let pools = [Home::pool(
        "redis",
        &[home.address(81).to_string()],
        &format!("{}:1", home.address(6379)),
    )];
    let config = home.config("workers = 2", &pools);
    let mut command = Command::new(program("tidegate").unwrap());
    command.arg("--runtime-dir").arg(home.path("run")).args([
        "run",
        "-c",
        config.to_str().unwrap(),
    ]);
    // An ordinary user may not ask it: the status is asked for by root as well.
    let log = home.path("tidegate.log");
    let mut process =
        tidegate_tests::lab::process::Process::start_command(&mut command, "tidegate", log)
            .unwrap();
    wait_until("serving", || {
        assert!(process.ended().is_none(), "{}", process.log_text());
        process.log_text().matches(": ready").count() == 2
    });
    let mut client = Redis::open(home.address(81)).unwrap();
    assert_eq!(client.words("SET a 1").unwrap(), Value::ok());
    let children = format!("/proc/{0}/task/{0}/children", process.pid());
    let children = std::fs::read_to_string(children).unwrap();
    assert_eq!(children.split_whitespace().count(), 2);
    for child in children.split_whitespace() {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        let line = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!(line("Uid:"), ORDINARY_USER.to_string());
        assert_eq!(line("CapPrm:"), "0000000000000000");
        assert_eq!(line("NoNewPrivs:"), "1");
    }
    process.signal(Signal::SIGTERM);
    let ended = process.wait(PATIENCE).unwrap();
    assert!(ended.success(), "{}", process.log_text());
}
