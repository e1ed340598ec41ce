//! Values of every size, and the memory that large ones take.

use tidegate_tests::both_drivers;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::random::Random;
use tidegate_tests::scene::Scene;

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

/// A client of each protocol that `worker` serves.
fn clients_of(scene: &mut Scene, worker: u16) -> (Memcached, Redis) {
    let mut connect = |kind| {
        let to = scene.plan().pool(kind, Family::V4);
        scene.connection_of(worker, 0, to)
    };
    let memcached = Memcached {
        connection: connect(ServerKind::Memcached),
    };
    let redis = Redis {
        connection: connect(ServerKind::Redis),
    };
    (memcached, redis)
}

/// Stores and reads a value of each protocol.
fn round_trip((memcached, redis): &mut (Memcached, Redis), bytes: usize) {
    let value = Random::new(bytes as u64).bytes(bytes);
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
    assert_eq!(
        redis.ask(&[b"SET", b"large", &value]).unwrap(),
        Value::ok(),
        "{bytes} bytes"
    );
    let same = redis.ask(&[b"GET", b"large"]).unwrap() == Value::Bulk(Some(value));
    assert!(same, "Redis returned another value of {bytes} bytes");
}

both_drivers!(values_of_every_size_pass_in_bounded_memory);

fn values_of_every_size_pass_in_bounded_memory(scene: &mut Scene) {
    let mut clients = [0, 1].map(|worker| clients_of(scene, worker));
    let pids = || -> Vec<i32> {
        let status = scene.appliance.status().unwrap();
        status.workers().iter().map(|worker| worker.pid).collect()
    };
    let workers = pids();
    let memory = || {
        workers
            .iter()
            .map(|pid| private_memory_kib(*pid))
            .collect::<Vec<u64>>()
    };
    let mut pass = |sizes: &[usize]| {
        for bytes in sizes {
            for clients in &mut clients {
                round_trip(clients, *bytes);
            }
        }
    };
    pass(&SIZES);
    let before = memory();
    pass(&[LARGEST]);
    let after = memory();
    for ((pid, before), after) in workers.iter().zip(&before).zip(&after) {
        assert!(
            after.saturating_sub(*before) <= GROWTH_MAX_KIB,
            "worker {pid} grew from {before} KiB to {after} KiB while values of {LARGEST} bytes passed"
        );
    }
    assert_eq!(pids(), workers, "a worker was started again");
}

/// Keys of the requests with many of them: more than are taken at once.
const KEYS: usize = 10_000;

both_drivers!(requests_over_several_servers_may_be_larger_than_what_is_held);

fn requests_over_several_servers_may_be_larger_than_what_is_held(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut redis = plan.redis(Family::V4);
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

both_drivers!(
    a_client_that_does_not_read_cannot_stop_others_for_good,
    LabOptions::default(),
    |stage| LabConfig::new(stage, Family::V4).worker("client_stall_ms = 1000"),
    a_client_that_does_not_read_cannot_stop_others_for_good
);

fn a_client_that_does_not_read_cannot_stop_others_for_good(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let value = vec![b'v'; 1 << 20];
        let mut reader = plan.redis(Family::V4);
        assert_eq!(reader.ask(&[b"SET", b"big", &value]).unwrap(), Value::ok());
        // It asks for 32 MiB and takes none of it.
        let mut deaf = plan.redis(Family::V4);
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
