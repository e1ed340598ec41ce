//! The proxy against the real thing: the same random requests, cut into random segments, have to bring the same bytes.

use std::io::Write;
use std::net::SocketAddr;
use tidegate_tests::client::Connection;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, command};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::random::Random;
use tidegate_tests::scene::{Scene, memcached_vip, redis_vip};

const RUNS: u64 = 8;
const REQUESTS: usize = 400;

/// One server of each kind, so that whatever a request does happens where the direct run did it.
fn one_server_each() -> Option<Scene> {
    Scene::raise(
        LabOptions {
            memcached: 1,
            redis: 1,
            ..LabOptions::default()
        },
        |lab| LabConfig::new(lab, Family::V4),
    )
}

/// Keys are few, so that requests meet each other's traces; some values are larger than a segment.
fn key(random: &mut Random) -> String {
    format!("k{}", random.below(12))
}

fn value(random: &mut Random) -> Vec<u8> {
    let bytes = match random.below(12) {
        0 => 0,
        1 => 20_000 + random.below(60_000),
        2..4 => 1_000 + random.below(2_000),
        _ => random.below(64),
    };
    random.bytes(bytes)
}

fn memcached_request(random: &mut Random) -> Vec<u8> {
    let key = key(random);
    let exptime = ["0", "0", "1000"][random.below(3)];
    let verb = random.below(12);
    match verb {
        0..=4 => {
            let verb = ["set", "add", "replace", "append", "prepend"][verb];
            let noreply = if random.below(6) == 0 { " noreply" } else { "" };
            let value = value(random);
            let head = format!(
                "{verb} {key} {} {exptime} {}{noreply}\r\n",
                random.below(9),
                value.len()
            );
            [head.as_bytes(), &value, b"\r\n"].concat()
        }
        5 => format!("delete {key}\r\n").into_bytes(),
        6 => format!("incr {key} {}\r\n", random.below(100)).into_bytes(),
        7 => format!("set {key} 0 0 2\r\n{}\r\n", 10 + random.below(90)).into_bytes(),
        8 => format!("touch {key} 1000\r\n").into_bytes(),
        _ => {
            let keys: Vec<String> = (0..=random.below(6)).map(|_| self::key(random)).collect();
            format!("get {}\r\n", keys.join(" ")).into_bytes()
        }
    }
}

fn redis_request(random: &mut Random) -> Vec<u8> {
    let key = key(random);
    let keys: Vec<String> = (0..=random.below(6)).map(|_| self::key(random)).collect();
    let value = value(random);
    let key = key.as_bytes();
    let many = |verb: &'static str| {
        let words: Vec<&[u8]> = std::iter::once(verb.as_bytes())
            .chain(keys.iter().map(String::as_bytes))
            .collect();
        command(&words)
    };
    match random.below(16) {
        0..3 => command(&[b"SET", key, &value]),
        3..6 => command(&[b"GET", key]),
        6 => command(&[b"APPEND", key, &value]),
        7 => many("DEL"),
        8 => many("MGET"),
        9 => many("EXISTS"),
        10 => {
            let mut words: Vec<&[u8]> = vec![b"MSET"];
            for key in &keys {
                words.extend([key.as_bytes(), &value]);
            }
            command(&words)
        }
        11 => command(&[b"LPUSH", b"list", &value]),
        12 => command(&[b"LRANGE", b"list", b"0", b"3"]),
        13 => command(&[b"INCR", key]),
        14 => command(&[b"HSET", b"hash", key, &value]),
        _ => command(&[b"HGETALL", b"hash"]),
    }
}

/// Sends `requests` cut at random places while `read` takes what comes back.
fn play(
    to: SocketAddr,
    requests: &[u8],
    seed: u64,
    read: impl FnOnce(Connection) -> Vec<u8>,
) -> Vec<u8> {
    let mut random = Random::new(seed);
    let connection = Connection::open(to).unwrap();
    let mut sender = connection.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut rest = requests;
            while !rest.is_empty() {
                let most = *random.pick(&[1, 3, 30, 1_500, 10_000]);
                let (now, later) = rest.split_at((1 + random.below(most)).min(rest.len()));
                sender.write_all(now).unwrap();
                if random.below(20) == 0 {
                    std::thread::yield_now();
                }
                rest = later;
            }
        });
        read(connection)
    })
}

/// Everything up to the reply of the `version` that ends each run. Requests without a reply make counting impossible.
fn memcached_replies(connection: Connection) -> Vec<u8> {
    let mut client = Memcached { connection };
    let mut replies = Vec::new();
    loop {
        let reply = client.reply().unwrap();
        if reply.starts_with(b"VERSION ") {
            return replies;
        }
        replies.extend(reply);
    }
}

/// One reply for each request.
fn redis_replies(connection: Connection) -> Vec<u8> {
    let mut client = Redis { connection };
    (0..REQUESTS)
        .flat_map(|number| {
            let reply = client.raw_reply();
            reply.unwrap_or_else(|error| panic!("reply {number} of {REQUESTS}: {error}"))
        })
        .collect()
}

fn assert_same(proxied: &[u8], direct: &[u8], seed: u64) {
    let differs = proxied.iter().zip(direct).position(|(a, b)| a != b);
    let at = differs.unwrap_or(proxied.len().min(direct.len()));
    let near = |bytes: &[u8]| {
        bytes[at.saturating_sub(60)..(at + 60).min(bytes.len())]
            .escape_ascii()
            .to_string()
    };
    assert!(
        proxied == direct,
        "seed {seed}: replies differ at byte {at} (lengths {} and {}):\nproxied: {}\ndirect:  {}",
        proxied.len(),
        direct.len(),
        near(proxied),
        near(direct)
    );
}

#[test]
fn random_memcached_requests_bring_the_same_bytes_as_the_server_itself() {
    let Some(scene) = one_server_each() else {
        return;
    };
    let server = scene.lab.memcached[0].address(Family::V4);
    for seed in 0..RUNS {
        let mut random = Random::new(seed);
        let mut requests: Vec<u8> = (0..REQUESTS)
            .flat_map(|_| memcached_request(&mut random))
            .collect();
        requests.extend(b"version\r\n");
        let empty = || {
            assert_eq!(
                Memcached::open(server).unwrap().line("flush_all").unwrap(),
                "OK"
            );
        };
        scene.on_server(empty);
        let direct = scene.on_server(|| play(server, &requests, seed, memcached_replies));
        scene.on_server(empty);
        let proxied = scene.on_client(|| {
            play(
                memcached_vip(Family::V4),
                &requests,
                seed + 1_000,
                memcached_replies,
            )
        });
        assert_same(&proxied, &direct, seed);
    }
}

#[test]
fn random_redis_requests_bring_the_same_bytes_as_the_server_itself() {
    let Some(scene) = one_server_each() else {
        return;
    };
    let server = scene.lab.redis[0].address(Family::V4);
    for seed in 0..RUNS {
        let mut random = Random::new(seed);
        let requests: Vec<u8> = (0..REQUESTS)
            .flat_map(|_| redis_request(&mut random))
            .collect();
        let empty = || {
            assert!(
                !Redis::open(server)
                    .unwrap()
                    .words("FLUSHALL")
                    .unwrap()
                    .is_error("")
            );
        };
        scene.on_server(empty);
        let direct = scene.on_server(|| play(server, &requests, seed, redis_replies));
        scene.on_server(empty);
        let proxied = scene.on_client(|| {
            play(
                redis_vip(Family::V4),
                &requests,
                seed + 1_000,
                redis_replies,
            )
        });
        assert_same(&proxied, &direct, seed);
    }
}
