//! A fleet moves: what nutcracker stored Tidegate finds, from the same file and at the same address.

use crate::home::{Home, wait_until};
use std::fs;
use std::path::Path;
use std::process::Command;
use tidegate_tests::client::Connection;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::lab::process::Process;

/// Keys that are spread over the servers of both pools.
const KEYS: u32 = 200;

/// A file with two pools of two servers each, whose keys are divided differently, and of two databases.
fn nutcracker_file(home: &Home) -> String {
    let [ketama, modula] = [22_150, 22_151].map(|port| home.address(port));
    let [first, second] = [6379, 6380].map(|port| home.address(port));
    format!(
        "# The fleet.
ketama:
  listen: {ketama}
  redis: true
  hash: fnv1a_64
  hash_tag: \"{{}}\"
  servers:
    - {first}:1
    - {second}:2
modula:
  listen: {modula}
  redis: true
  hash: crc32a
  distribution: modula
  redis_db: 5
  servers:
    - {second}:1 second
    - {first}:3 a
"
    )
}

/// Starts nutcracker, where it is installed.
fn nutcracker(home: &Home, file: &Path) -> Option<Process> {
    let programs = ["/usr/sbin/nutcracker", "/usr/bin/nutcracker"];
    let program = programs.into_iter().find(|path| Path::new(path).exists());
    let Some(program) = program else {
        eprintln!("nutcracker is not installed: Tidegate finds its own keys");
        return None;
    };
    let statistics = home.address(22_152);
    let mut command = Command::new(program);
    command.arg("-c").arg(file);
    command.arg("-o").arg(home.path("nutcracker-own.log"));
    command.args(["-a", &statistics.ip().to_string()]);
    command.args(["-s", &statistics.port().to_string()]);
    let log = home.path("nutcracker.log");
    let mut process = Process::start_command(&mut command, "nutcracker", log).unwrap();
    wait_until("nutcracker", || {
        assert!(process.ended().is_none(), "{}", process.log_text());
        [22_150, 22_151].map(|port| Connection::open(home.address(port)).is_ok()) == [true; 2]
    });
    Some(process)
}

/// A key of the pool on `port`; some with a tag.
fn key(port: u16, number: u32) -> String {
    if number.is_multiple_of(3) {
        format!("{{{number}}}:{port}")
    } else {
        format!("key:{port}:{number}")
    }
}

fn store(home: &Home) {
    for port in [22_150, 22_151] {
        let mut client = Redis::open(home.address(port)).unwrap();
        for number in 0..KEYS {
            let words = format!("SET {} {number}", key(port, number));
            assert_eq!(client.words(&words).unwrap(), Value::ok());
        }
    }
}

fn find(home: &Home) {
    for port in [22_150, 22_151] {
        let mut client = Redis::open(home.address(port)).unwrap();
        for number in 0..KEYS {
            let key = key(port, number);
            let found = client.words(&format!("GET {key}")).unwrap();
            assert_eq!(found, Value::bulk(number.to_string().as_bytes()), "{key}");
        }
    }
}

#[test]
fn a_fleet_moves_and_finds_every_key_where_it_was() {
    let home = Home::new(43);
    let _servers = [home.redis(), home.redis_on(6380, "second")];
    let file = home.path("nutcracker.yml");
    fs::write(&file, nutcracker_file(&home)).unwrap();
    let nutcracker = nutcracker(&home, &file);
    let stored = nutcracker.is_some();
    if stored {
        store(&home);
    }
    // Its addresses become Tidegate's.
    drop(nutcracker);
    let output = home
        .tidegate(&["import", file.to_str().unwrap(), "--workers", "2"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"", "everything is carried over");
    let config = home.path("tidegate.toml");
    // Without a limit of open files that is high enough for the default there would be a warning.
    let made = String::from_utf8(output.stdout).unwrap();
    fs::write(
        &config,
        format!("{made}\n[worker]\nclients_max = 256\noutlive_manager = false\n"),
    )
    .unwrap();
    let mut command = home.tidegate(&["run", "-c", config.to_str().unwrap()]);
    let _instance = home.instance(&mut command, "tidegate", 2);
    if !stored {
        store(&home);
    }
    find(&home);
}
