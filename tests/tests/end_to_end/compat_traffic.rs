//! What programs do with twemproxy all day, through a pool with `compat = "twemproxy"`: many keys, pipelines, scans, scripts, large
//! values. Each is done with Tidegate and, where it is installed, with nutcracker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use tidegate_tests::both_twins;
use tidegate_tests::client::Connection;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value, command};
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::random::Random;
use tidegate_tests::stage::Driver;
use tidegate_tests::twins::{Twins, answer, commands};

/// Does `work` on the client host with each proxy, starting from empty servers.
fn with_each(twins: &Twins, pool: &str, work: impl Fn(SocketAddr) + Sync) {
    for (name, to) in twins.ways(pool) {
        twins.flush().unwrap();
        eprintln!("{name}");
        twins.scene.on_client(|| work(to));
    }
}

fn ask(client: &mut Redis, name: &str, arguments: &[Vec<u8>]) -> Value {
    let words: Vec<&[u8]> = std::iter::once(name.as_bytes())
        .chain(arguments.iter().map(Vec::as_slice))
        .collect();
    client.ask(&words).unwrap()
}

/// Writes `pairs`, reads them between misses, deletes them, and finds nothing.
fn write_read_delete(client: &mut Redis, pairs: &[(Vec<u8>, Vec<u8>)]) {
    let flat: Vec<Vec<u8>> = pairs
        .iter()
        .flat_map(|(key, value)| [key.clone(), value.clone()])
        .collect();
    assert_eq!(ask(client, "MSET", &flat), Value::ok());
    let mut keys = Vec::new();
    let mut values = Vec::new();
    for (key, value) in pairs {
        keys.extend([key.clone(), [b"x-", &key[..]].concat()]);
        values.extend([Value::bulk(value), Value::Bulk(None)]);
    }
    keys.push(keys[0].clone());
    values.push(values[0].clone());
    assert_eq!(ask(client, "MGET", &keys), Value::Array(Some(values)));
    assert_eq!(
        ask(client, "DEL", &keys),
        Value::Integer(pairs.len() as i64)
    );
    let nothing = vec![Value::Bulk(None); keys.len()];
    assert_eq!(ask(client, "MGET", &keys), Value::Array(Some(nothing)));
}

fn numbered(count: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..count)
        .map(|n| {
            (
                format!("kkk-{n}").into_bytes(),
                format!("vvv-{n}").into_bytes(),
            )
        })
        .collect()
}

both_twins!(any_number_of_keys_is_written_read_and_deleted_at_once);

fn any_number_of_keys_is_written_read_and_deleted_at_once(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    with_each(&twins, "redis", |to| {
        let mut client = Redis::open(to).unwrap();
        for count in [1, 2, 10, 171, 342, 855] {
            write_read_delete(&mut client, &numbered(count));
        }
        // Keys about as long as a small buffer, and an empty one.
        for bytes in [0, 462, 463, 464, 4_000] {
            let mut pairs = numbered(5);
            for (n, (key, _)) in pairs.iter_mut().enumerate() {
                key.resize(bytes + n, b'x');
            }
            write_read_delete(&mut client, &pairs);
        }
    });
}

both_twins!(a_pipeline_of_thousands_of_requests_is_answered_in_order);

fn a_pipeline_of_thousands_of_requests_is_answered_in_order(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    with_each(&twins, "redis", |to| {
        let mut random = Random::new(7);
        let values: Vec<Vec<u8>> = (0..1000).map(|_| random.bytes(100)).collect();
        let keys: Vec<Vec<u8>> = (0..1000).map(|n| format!("kkk-{n}").into_bytes()).collect();
        let mut requests = Vec::new();
        let mut replies = Vec::new();
        for (key, value) in keys.iter().zip(&values) {
            requests.extend(command(&[b"SET", key, value]));
            replies.push(Value::ok());
        }
        for chunk in keys.chunks(126) {
            let words = |name: &'static [u8]| {
                let words = std::iter::once(name).chain(chunk.iter().map(Vec::as_slice));
                command(&words.collect::<Vec<_>>())
            };
            requests.extend(words(b"MGET"));
            let at = keys.iter().position(|key| *key == chunk[0]).unwrap();
            let found = values[at..at + chunk.len()]
                .iter()
                .map(|value| Value::bulk(value));
            replies.push(Value::Array(Some(found.collect())));
            requests.extend(words(b"DEL"));
            replies.push(Value::Integer(chunk.len() as i64));
        }
        let mut client = Redis::open(to).unwrap();
        client.connection.send(&requests).unwrap();
        for reply in replies {
            assert_eq!(client.reply().unwrap(), reply);
        }
    });
}

both_twins!(large_values_are_read_together);

fn large_values_are_read_together(driver: Driver) {
    const BYTES: usize = 4 * 1024 * 1024 + 1024;
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    with_each(&twins, "redis", |to| {
        let mut random = Random::new(11);
        let mut client = Redis::open(to).unwrap();
        let mut keys = Vec::new();
        let mut values = Vec::new();
        for n in 0..10 {
            let key = format!("kkk-{n}").into_bytes();
            let value = random.bytes(if n % 2 == 0 { BYTES } else { 0 });
            assert_eq!(client.ask(&[b"SET", &key, &value]).unwrap(), Value::ok());
            keys.push(key);
            values.push(Value::bulk(&value));
        }
        // Not by assert_eq: a difference would print all of it.
        assert!(ask(&mut client, "MGET", &keys) == Value::Array(Some(values)));
        assert_eq!(ask(&mut client, "DEL", &keys), Value::Integer(10));
    });
}

both_twins!(what_servers_answer_to_any_type_of_key_passes_unchanged);

fn what_servers_answer_to_any_type_of_key_passes_unchanged(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    let deep = format!(
        "EVAL return{}'value'{} 1 tmp",
        "{".repeat(20),
        "}".repeat(20)
    );
    let dialogues: &[&[&str]] = &[
        &[
            "RPUSH l Hello",
            "RPUSH l World",
            "LINSERT l BEFORE World There",
            "LRANGE l 0 -1",
        ],
        &[
            "LRANGE l 0 -1",
            "LPUSH l 0 1 2 3 4 5 6 7 8 9",
            "LRANGE l 0 -1",
        ],
        &[
            "HMSET a k-1 v-1 k-5 v-5 k-9 v-9",
            "HSCAN a 0",
            "HSCAN a 0 MATCH k-5",
        ],
        &[
            "ZADD z 1 a 2 b 3 c",
            "ZSCAN z 0",
            "ZSCAN z 0 MATCH a",
            "ZINCRBY z 1 a",
            "ZRANGE z 0 5 WITHSCORES",
        ],
        &["SADD s 1 2 3", "SSCAN s 0", "SSCAN s 0 MATCH 1"],
        &[
            "EVAL return{1,redis.call('set','{tmp}x','1')} 1 {tmp}",
            &deep,
        ],
        &[
            "PFADD p a b",
            "PFCOUNT p",
            "SETBIT b 7 1",
            "GETBIT b 7",
            "GEOADD g 13 38 x",
            "GEOPOS g x y",
        ],
        &["SET s 1 EX", "INCR l x", "SET n abc", "INCR n", "HGET n f"],
    ];
    let server = twins.scene.plan().server(ServerKind::Redis, 0, Family::V4);
    for dialogue in dialogues {
        let request = &commands(dialogue);
        twins.flush().unwrap();
        let expected = twins.scene.on_server(|| answer(server, request));
        for (name, to) in twins.ways("redis") {
            twins.flush().unwrap();
            let got = twins.scene.on_client(|| answer(to, request));
            // `INCR l x` has an argument too many for twemproxy, which ends the last dialogue there.
            let cut = dialogue.contains(&"INCR l x");
            let same = if cut {
                got.is_empty() || expected.starts_with(&got)
            } else {
                got == expected
            };
            assert!(same, "{name} {dialogue:?}: {}", got.escape_ascii());
        }
    }
}

both_twins!(a_scan_of_a_large_hash_finds_every_field);

fn a_scan_of_a_large_hash_finds_every_field(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    with_each(&twins, "redis", |to| {
        let mut client = Redis::open(to).unwrap();
        let prefix = "x".repeat(100);
        let fields: BTreeMap<Vec<u8>, Vec<u8>> = (0..1000)
            .map(|n| {
                (
                    format!("{prefix}kkk-{n}").into_bytes(),
                    format!("vvv-{n}").into_bytes(),
                )
            })
            .collect();
        let mut words = vec![b"a".to_vec()];
        words.extend(
            fields
                .iter()
                .flat_map(|(field, value)| [field.clone(), value.clone()]),
        );
        assert_eq!(ask(&mut client, "HMSET", &words), Value::ok());
        let mut found = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = client.words(&format!("HSCAN a {cursor} COUNT 10")).unwrap();
            let Value::Array(Some(parts)) = reply else {
                panic!("{reply:?}")
            };
            let [Value::Bulk(Some(next)), Value::Array(Some(items))] = &parts[..] else {
                panic!("{parts:?}")
            };
            for pair in items.chunks(2) {
                let [Value::Bulk(Some(field)), Value::Bulk(Some(value))] = pair else {
                    panic!("{pair:?}")
                };
                found.insert(field.clone(), value.clone());
            }
            cursor = String::from_utf8(next.clone()).unwrap();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found, fields);
    });
}

both_twins!(a_request_may_come_byte_by_byte);

fn a_request_may_come_byte_by_byte(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    with_each(&twins, "redis", |to| {
        let mut connection = Connection::open(to).unwrap();
        for request in ["PING", "SET k v"] {
            for byte in commands(&[request]) {
                connection.send(&[byte]).unwrap();
            }
        }
        assert_eq!(connection.line().unwrap(), b"+PONG\r\n");
        assert_eq!(connection.line().unwrap(), b"+OK\r\n");
        for byte in commands(&["QUIT"]) {
            connection.send(&[byte]).unwrap();
        }
        assert!(connection.is_closed());
    });
}

both_twins!(divided_requests_count_once_for_each_server);

fn divided_requests_count_once_for_each_server(driver: Driver) {
    let Some(mut twins) = Twins::usual(driver) else {
        return;
    };
    let keys: Vec<String> = (0..10).map(|n| format!("kkk-{n}")).collect();
    twins.scene.on_client(|| {
        let mut client = Redis::open(twins.tidegate("redis")).unwrap();
        for key in &keys {
            assert_eq!(client.words(&format!("SET {key} v")).unwrap(), Value::ok());
            assert_eq!(
                client.words(&format!("GET {key}")).unwrap(),
                Value::bulk(b"v")
            );
        }
        client.words(&format!("MGET {}", keys.join(" "))).unwrap();
    });
    twins
        .scene
        .wait_for_status("22 requests on servers", |status| {
            let total = |counter: &str| status.pool_total("redis", counter);
            (
                total("requests"),
                total("fragments"),
                total("requests_split"),
            ) == (21, 2, 1)
        });
}

both_twins!(memcached_clients_set_get_and_delete_many);

fn memcached_clients_set_get_and_delete_many(driver: Driver) {
    let Some(twins) = Twins::usual(driver) else {
        return;
    };
    with_each(&twins, "memcached", |to| {
        let mut client = Memcached::open(to).unwrap();
        for count in [1, 10, 179, 895] {
            let each = |line: &dyn Fn(String, String) -> String| -> String {
                let pair = |n| line(format!("kkk-{n}"), format!("vvv-{n}"));
                (0..count).map(pair).collect()
            };
            let sets = each(&|key, value| format!("set {key} 0 0 {}\r\n{value}\r\n", value.len()));
            let found = each(&|key, value| format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len()));
            let deletes = each(&|key, _| format!("delete {key}\r\n"));
            let get = format!("get{}\r\n", each(&|key, _| format!(" x-{key} {key}")));
            let mut expect = |request: String, reply: &str| {
                client.connection.send(request.as_bytes()).unwrap();
                let got = client.connection.exactly(reply.len()).unwrap();
                // Between misses twemproxy gives the values in the order of servers, not of keys.
                let lines = |text: &str| {
                    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                    lines.sort();
                    lines
                };
                assert_eq!(lines(&String::from_utf8_lossy(&got)), lines(reply));
            };
            expect(sets, &"STORED\r\n".repeat(count));
            expect(get.clone(), &(found + "END\r\n"));
            expect(deletes, &"DELETED\r\n".repeat(count));
            expect(get, "END\r\n");
        }
    });
}
