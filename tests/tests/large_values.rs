//! Values of every size, and the memory that large ones take.

use std::net::SocketAddr;
use tidegate_tests::client::Connection;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::addresses::{self, Family};
use tidegate_tests::lab::{Lab, LabOptions};
use tidegate_tests::random::Random;
use tidegate_tests::scene::{Scene, memcached_vip, redis_client, redis_vip, source_port};

/// Around every size that something happens at: nothing, a segment, a buffer, powers of two.
const SIZES: [usize; 13] = [
    0,
    1,
    2,
    1_400,
    1_460,
    4_095,
    4_096,
    16_384,
    65_536,
    100_001,
    1 << 20,
    (1 << 20) + 1,
    8 << 20,
];

/// The largest value that is promised to pass.
const LARGEST: usize = 64 << 20;

/// How much more memory a worker may show for values of [`LARGEST`] bytes than for those before. A value that is held grows it
/// by 64 MiB or more. What remains is memory that was allocated at start and that nobody had touched before: packet buffers
/// become resident as they are used.
const GROWTH_MAX_KIB: u64 = 32 * 1024;

/// Memory of a process that is not shared with a file, in KiB.
fn private_memory_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .expect("the kernel tells RssAnon");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("RssAnon is a number")
}

/// Stores and reads a value of each protocol through the given worker.
fn round_trip(worker: u16, round: u16, bytes: usize) {
    // Each round trip has a port of its own: the ones before are still in TIME_WAIT.
    let from = |to: SocketAddr| {
        let source = source_port(worker, round, to);
        Connection::open_from(addresses::client(Family::V4, 0), source, to).unwrap()
    };
    let value = Random::new(bytes as u64).bytes(bytes);
    let mut memcached = Memcached {
        connection: from(memcached_vip(Family::V4)),
    };
    assert_eq!(
        memcached.set(b"large", 1, &value).unwrap(),
        "STORED",
        "{bytes} bytes"
    );
    let items = memcached.get(&[b"large"]).unwrap();
    assert!(
        items.len() == 1 && items[0].value == value,
        "memcached returned another value of {bytes} bytes"
    );

    let mut redis = Redis {
        connection: from(redis_vip(Family::V4)),
    };
    assert_eq!(
        redis.ask(&[b"SET", b"large", &value]).unwrap(),
        Value::ok(),
        "{bytes} bytes"
    );
    let same = redis.ask(&[b"GET", b"large"]).unwrap() == Value::Bulk(Some(value));
    assert!(same, "Redis returned another value of {bytes} bytes");
}

#[test]
fn values_of_every_size_pass_in_bounded_memory() {
    let Some(scene) = Scene::usual() else { return };
    let workers: Vec<i32> = scene
        .appliance
        .status()
        .unwrap()
        .workers()
        .iter()
        .map(|worker| worker.pid)
        .collect();
    let memory = || {
        workers
            .iter()
            .map(|pid| private_memory_kib(*pid))
            .collect::<Vec<u64>>()
    };
    let pass = |first_round: u16, sizes: &[usize]| {
        scene.on_client(|| {
            for (round, bytes) in sizes.iter().enumerate() {
                for worker in 0..2 {
                    round_trip(worker, first_round + round as u16, *bytes);
                }
            }
        });
    };
    pass(0, &SIZES);
    let before = memory();
    pass(100, &[LARGEST]);
    let after = memory();
    for ((pid, before), after) in workers.iter().zip(&before).zip(&after) {
        assert!(
            after.saturating_sub(*before) <= GROWTH_MAX_KIB,
            "worker {pid} grew from {before} KiB to {after} KiB while values of {LARGEST} bytes passed"
        );
    }
    let still: Vec<i32> = scene
        .appliance
        .status()
        .unwrap()
        .workers()
        .iter()
        .map(|worker| worker.pid)
        .collect();
    assert_eq!(still, workers, "a worker was started again");
}

/// Keys of the requests with many of them: more than are taken at once.
const KEYS: usize = 10_000;

#[test]
fn requests_over_several_servers_may_be_larger_than_what_is_held() {
    let Some(scene) = Scene::usual() else { return };
    scene.on_client(|| {
        let mut redis = redis_client(Family::V4);
        // One value is larger than all that a worker holds of a request.
        let sizes = [100 << 10, 3, 100 << 10, 2 << 20, 100 << 10, 0, 120 << 10];
        let values = sizes.map(|bytes| Random::new(bytes as u64).bytes(bytes));
        let names: Vec<String> = (0..sizes.len()).map(|n| format!("large-{n}")).collect();
        let mut mset: Vec<&[u8]> = vec![b"MSET"];
        let mut mget: Vec<&[u8]> = vec![b"MGET"];
        for (name, value) in names.iter().zip(&values) {
            mset.extend([name.as_bytes(), value]);
            mget.push(name.as_bytes());
        }
        assert_eq!(redis.ask(&mset).unwrap(), Value::ok());
        let expected = values.map(|value| Value::Bulk(Some(value))).to_vec();
        let same = redis.ask(&mget).unwrap() == Value::Array(Some(expected));
        assert!(same, "MGET returned other values than MSET stored");

        let keys: Vec<String> = (0..KEYS)
            .map(|n| format!("one-of-very-many-keys-{n}"))
            .collect();
        let words = |name: &'static [u8], with_values: bool| {
            let mut words = vec![name];
            for key in &keys {
                words.push(key.as_bytes());
                if with_values {
                    words.push(key.as_bytes());
                }
            }
            words
        };
        assert_eq!(redis.ask(&words(b"MSET", true)).unwrap(), Value::ok());
        let expected = keys.iter().map(|key| Value::bulk(key.as_bytes())).collect();
        let same = redis.ask(&words(b"MGET", false)).unwrap() == Value::Array(Some(expected));
        assert!(same, "MGET returned other values than MSET stored");
        let count = Value::Integer(KEYS as i64);
        for name in [&b"EXISTS"[..], b"TOUCH", b"DEL"] {
            assert_eq!(redis.ask(&words(name, false)).unwrap(), count);
        }
        assert_eq!(
            redis.ask(&words(b"UNLINK", false)).unwrap(),
            Value::Integer(0)
        );
    });
}

#[test]
fn a_client_that_does_not_read_cannot_stop_others_for_good() {
    let configure = |lab: &Lab| LabConfig::new(lab, Family::V4).worker("client_stall_ms = 1000");
    let Some(scene) = Scene::raise(LabOptions::default(), configure) else {
        return;
    };
    scene.on_client(|| {
        let value = vec![b'v'; 1 << 20];
        let mut reader = redis_client(Family::V4);
        assert_eq!(reader.ask(&[b"SET", b"big", &value]).unwrap(), Value::ok());
        // It asks for 32 MiB and takes none of it.
        let mut deaf = redis_client(Family::V4);
        for _ in 0..32 {
            deaf.connection
                .send(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
                .unwrap();
        }
        for number in 0..100 {
            let key = format!("beside-{number}");
            assert_eq!(
                reader.ask(&[b"SET", key.as_bytes(), b"x"]).unwrap(),
                Value::ok()
            );
        }
        assert_eq!(
            reader.ask(&[b"GET", b"big"]).unwrap(),
            Value::Bulk(Some(value))
        );
    });
}
