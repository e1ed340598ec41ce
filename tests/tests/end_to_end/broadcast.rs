//! What is asked of all servers of a pool, by a client that takes it for one server.

use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use tidegate_tests::both_drivers;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value, command};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;

/// Enough for tables of thousands of slots on each of three servers.
const KEYS: usize = 10_000;

fn key(number: usize) -> String {
    format!("key:{number}")
}

/// Writes all keys, many requests at a time.
fn fill(client: &mut Redis) {
    for batch in (0..KEYS).collect::<Vec<_>>().chunks(500) {
        let requests: Vec<u8> = batch
            .iter()
            .flat_map(|&number| command(&[b"SET", key(number).as_bytes(), b"v"]))
            .collect();
        client.connection.send(&requests).unwrap();
        for _ in batch {
            assert_eq!(client.reply().unwrap(), Value::ok());
        }
    }
}

fn texts(value: Value) -> Vec<String> {
    let Value::Array(Some(elements)) = value else {
        panic!("{value:?} is an array");
    };
    elements.into_iter().map(text).collect()
}

fn text(value: Value) -> String {
    let Value::Bulk(Some(bytes)) = value else {
        panic!("{value:?} is a string");
    };
    String::from_utf8(bytes).unwrap()
}

/// Every key that SCAN tells, as often as it tells it.
fn scan(client: &mut Redis, options: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let reply = client.words(&format!("SCAN {cursor} {options}")).unwrap();
        let Value::Array(Some(parts)) = reply else {
            panic!("{reply:?} is an array");
        };
        let [next, elements]: [Value; 2] = parts.try_into().unwrap();
        keys.extend(texts(elements));
        cursor = text(next);
        if cursor == "0" {
            return keys;
        }
    }
}

/// The value of a field of INFO.
fn field(info: &str, name: &str) -> String {
    let found = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found
        .unwrap_or_else(|| panic!("{name} in {info}"))
        .to_owned()
}

both_drivers!(a_pool_is_searched_and_emptied_like_one_server);

fn a_pool_is_searched_and_emptied_like_one_server(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        assert_eq!(client.words("FLUSHALL").unwrap(), Value::ok());
        assert_eq!(client.words("RANDOMKEY").unwrap(), Value::Bulk(None));
        fill(&mut client);
        let all: BTreeSet<String> = (0..KEYS).map(key).collect();
        assert_eq!(client.words("DBSIZE").unwrap(), Value::Integer(KEYS as i64));
        let told = texts(client.words("KEYS *").unwrap());
        assert_eq!(told.len(), KEYS);
        assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), all);
        for options in [
            "COUNT 100",
            "COUNT 1000 TYPE string",
            "MATCH key:* COUNT 333",
        ] {
            let told = scan(&mut client, options);
            assert_eq!(told.len(), KEYS, "{options}: each key exactly once");
            assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), all);
        }
        assert_eq!(scan(&mut client, "MATCH key:77 COUNT 1000"), ["key:77"]);
        assert!(
            client
                .words("SCAN x")
                .unwrap()
                .is_error("ERR invalid cursor")
        );
        assert!(
            client
                .words("SCAN 0 COUNT 0")
                .unwrap()
                .is_error("ERR syntax error")
        );
        for _ in 0..50 {
            assert!(all.contains(&text(client.words("RANDOMKEY").unwrap())));
        }
        assert_eq!(client.words("FLUSHDB ASYNC").unwrap(), Value::ok());
        assert_eq!(client.words("DBSIZE").unwrap(), Value::Integer(0));
        assert_eq!(scan(&mut client, ""), [""; 0]);
        assert!(
            client
                .words("FLUSHALL NEVER")
                .unwrap()
                .is_error("ERR syntax error")
        );
    });
}

both_drivers!(scripts_and_functions_are_loaded_on_every_server);

fn scripts_and_functions_are_loaded_on_every_server(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        let sha = text(
            client
                .ask(&[b"SCRIPT", b"LOAD", b"return KEYS[1]"])
                .unwrap(),
        );
        let unknown = "0".repeat(40);
        let exists = format!("SCRIPT EXISTS {sha} {unknown} {sha}");
        let ones = Value::Array(Some([1, 0, 1].map(Value::Integer).to_vec()));
        assert_eq!(client.words(&exists).unwrap(), ones);
        for number in 0..60 {
            let (key, evalsha) = (key(number), format!("EVALSHA {sha} 1 {}", key(number)));
            assert_eq!(client.words(&evalsha).unwrap(), Value::bulk(key.as_bytes()));
        }
        let library =
            b"#!lua name=l\nredis.register_function('f', function(keys) return keys[1] end)";
        let loaded = client.ask(&[b"FUNCTION", b"LOAD", library]).unwrap();
        assert_eq!(loaded, Value::bulk(b"l"));
        assert!(
            client
                .ask(&[b"FUNCTION", b"LOAD", library])
                .unwrap()
                .is_error("ERR Library 'l' already exists")
        );
        for number in 0..60 {
            let (key, call) = (key(number), format!("FCALL f 1 {}", key(number)));
            assert_eq!(client.words(&call).unwrap(), Value::bulk(key.as_bytes()));
        }
        assert_eq!(client.words("FUNCTION DELETE l").unwrap(), Value::ok());
        assert!(
            client
                .words("FCALL f 1 k")
                .unwrap()
                .is_error("ERR Function not found")
        );
        assert_eq!(client.words("SCRIPT FLUSH").unwrap(), Value::ok());
        let none = Value::Array(Some([0, 0, 0].map(Value::Integer).to_vec()));
        assert_eq!(client.words(&exists).unwrap(), none);
        let evalsha = format!("EVALSHA {sha} 1 k");
        assert!(
            client.words(&evalsha).unwrap().is_error("NOSCRIPT"),
            "as a client library expects it"
        );
    });
}

both_drivers!(a_script_that_one_server_forgot_is_loaded_again);

fn a_script_that_one_server_forgot_is_loaded_again(scene: &mut Scene) {
    let plan = scene.plan();
    let server = scene.servers(ServerKind::Redis)[1].address(Family::V4);
    let load: [&[u8]; 3] = [b"SCRIPT", b"LOAD", b"return 7"];
    let sha = scene.on_client(|| text(plan.redis(Family::V4).ask(&load).unwrap()));
    // What a restart does.
    scene.on_server(|| {
        let mut server = Redis::open(server).unwrap();
        assert_eq!(server.words("SCRIPT FLUSH").unwrap(), Value::ok());
    });
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        let exists = format!("SCRIPT EXISTS {sha}");
        let told = |known| Value::Array(Some(vec![Value::Integer(known)]));
        assert_eq!(client.words(&exists).unwrap(), told(0));
        let asked: Vec<bool> = (0..60)
            .map(|number| {
                let reply = client
                    .words(&format!("EVALSHA {sha} 1 {}", key(number)))
                    .unwrap();
                let knows = reply == Value::Integer(7);
                assert!(knows || reply.is_error("NOSCRIPT"), "{reply:?}");
                knows
            })
            .collect();
        assert!(asked.contains(&true) && asked.contains(&false));
        assert_eq!(text(client.ask(&load).unwrap()), sha);
        assert_eq!(client.words(&exists).unwrap(), told(1));
    });
}

both_drivers!(info_has_what_monitors_and_client_libraries_look_for);

fn info_has_what_monitors_and_client_libraries_look_for(scene: &mut Scene) {
    let plan = scene.plan();
    let servers: Vec<_> = scene
        .servers(ServerKind::Redis)
        .iter()
        .map(|server| server.address(Family::V4))
        .collect();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        assert_eq!(client.words("FLUSHALL").unwrap(), Value::ok());
        for number in 0..300 {
            let set = format!("SET {} v EX 1000", key(number));
            assert_eq!(client.words(&set).unwrap(), Value::ok());
        }
    });
    let own: Vec<String> = scene.on_server(|| {
        let ask = |address: &_| {
            text(
                Redis::open(*address)
                    .unwrap()
                    .words("INFO everything")
                    .unwrap(),
            )
        };
        servers.iter().map(ask).collect()
    });
    let info = scene.on_client(|| text(plan.redis(Family::V4).words("INFO everything").unwrap()));
    for (name, value) in [
        ("redis_version", field(&own[0], "redis_version")),
        ("redis_mode", "standalone".to_owned()),
        ("role", "master".to_owned()),
        ("loading", "0".to_owned()),
        ("cluster_enabled", "0".to_owned()),
        ("rdb_last_bgsave_status", "ok".to_owned()),
        ("maxmemory_policy", field(&own[0], "maxmemory_policy")),
        ("tidegate_servers", "3".to_owned()),
        ("tidegate_servers_answered", "3".to_owned()),
    ] {
        assert_eq!(field(&info, name), value, "{name}");
    }
    assert!(
        field(&info, "db0").starts_with("keys=300,expires=300,avg_ttl="),
        "{info}"
    );
    let sum = |name: &str| {
        own.iter()
            .map(|own| field(own, name).parse::<u64>().unwrap())
            .sum::<u64>()
    };
    assert_eq!(field(&info, "maxclients").parse(), Ok(sum("maxclients")));
    let total = |name: &str| field(&info, name).parse::<u64>().unwrap();
    let (memory, commands) = (total("used_memory"), total("total_commands_processed"));
    // Servers free memory between two questions, and count the first of them.
    assert!(memory > sum("used_memory") / 2, "{memory} bytes");
    assert!(
        commands >= sum("total_commands_processed"),
        "{commands} commands"
    );
    assert!(
        total("connected_clients") >= 3,
        "one for each server at least"
    );
    let calls = field(&info, "cmdstat_set");
    assert!(calls.starts_with("calls=300,usec="), "{calls}");
    // Whatever one server has, and in its order, the pool has as well.
    for line in own[0].lines().filter(|line| line.starts_with("# ")) {
        assert!(info.contains(line), "{line}");
    }
    let names: Vec<&str> = own[0]
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    let told: Vec<&str> = info
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    let mut left = told.iter();
    for name in names {
        assert!(
            left.any(|told| *told == name),
            "{name} is there, in its place"
        );
    }
    let memory = scene.on_client(|| text(plan.redis(Family::V4).words("INFO memory").unwrap()));
    assert!(
        memory.starts_with("# Memory\r\n") && !memory.contains("# Server"),
        "{memory}"
    );
}

/// The value of a line of `stats`.
fn statistic(stats: &str, name: &str) -> u64 {
    let line = stats.lines().find_map(|line| {
        line.strip_prefix("STAT ")?
            .strip_prefix(name)?
            .strip_prefix(' ')
    });
    line.unwrap_or_else(|| panic!("{name} in {stats}"))
        .parse()
        .unwrap()
}

/// A whole reply of lines up to END.
fn stats(client: &mut Memcached, request: &str) -> String {
    client
        .connection
        .send(format!("{request}\r\n").as_bytes())
        .unwrap();
    let mut text = String::new();
    while !text.ends_with("END\r\n") {
        text += &String::from_utf8(client.connection.line().unwrap()).unwrap();
    }
    text
}

both_drivers!(memcached_servers_are_counted_and_emptied_together);

fn memcached_servers_are_counted_and_emptied_together(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.memcached(Family::V4);
        assert_eq!(client.line("flush_all").unwrap(), "OK");
        assert_eq!(client.line("stats reset").unwrap(), "RESET");
        for number in 0..300 {
            assert_eq!(
                client.set(key(number).as_bytes(), 0, b"v").unwrap(),
                "STORED"
            );
        }
        let told = stats(&mut client, "stats");
        assert_eq!(statistic(&told, "cmd_set"), 300);
        assert_eq!(statistic(&told, "limit_maxbytes") % 3, 0);
        assert_eq!(statistic(&told, "pointer_size"), 64);
        assert!(told.contains("STAT version 1."), "{told}");
        let items = stats(&mut client, "stats items");
        assert_eq!(statistic(&items, "items:1:number"), 300);
        let slabs = stats(&mut client, "stats slabs");
        assert_eq!(statistic(&slabs, "1:chunk_size"), 96);
        assert_eq!(statistic(&slabs, "1:used_chunks"), 300);
        assert!(stats(&mut client, "stats settings").contains("STAT maxconns "));
        assert!(stats(&mut client, "stats sizes").contains("STAT sizes_status "));
        assert!(
            client
                .line("stats conns")
                .unwrap()
                .starts_with("SERVER_ERROR ")
        );
        assert_eq!(client.line("verbosity 0").unwrap(), "OK");
        assert_eq!(client.line("cache_memlimit 64").unwrap(), "OK");
        assert!(
            client
                .line("cache_memlimit 1")
                .unwrap()
                .starts_with("MEMLIMIT_TOO_SMALL")
        );
        client.connection.send(b"flush_all noreply\r\n").unwrap();
        let keys: Vec<String> = (0..300).map(key).collect();
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        assert_eq!(client.get(&keys).unwrap(), []);
        assert_eq!(client.line("flush_all 1000").unwrap(), "OK");
        assert_eq!(client.line("flush_all -1").unwrap(), "OK");
    });
}

fn with_partial(stage: &dyn Stage, partial: &str) -> LabConfig {
    LabConfig::new(stage, Family::V4)
        .every_pool("timeout_ms = 1000")
        .every_pool(&format!("partial = \"{partial}\""))
}

/// Ends a server for good.
fn kill(scene: &mut Scene, kind: ServerKind, index: usize) {
    let process = scene.server_mut(kind, index).process();
    process.expect("the server is up").signal(Signal::SIGKILL);
}

both_drivers!(
    without_a_server_the_others_answer_if_the_pool_wants_it,
    LabOptions::default(),
    |stage| with_partial(stage, "misses"),
    without_a_server_the_others_answer_if_the_pool_wants_it
);

fn without_a_server_the_others_answer_if_the_pool_wants_it(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut redis = plan.redis(Family::V4);
        let mut memcached = plan.memcached(Family::V4);
        for number in 0..90 {
            assert_eq!(
                redis.words(&format!("SET {} v", key(number))).unwrap(),
                Value::ok()
            );
            assert_eq!(
                memcached.set(key(number).as_bytes(), 0, b"v").unwrap(),
                "STORED"
            );
        }
    });
    kill(scene, ServerKind::Redis, 1);
    kill(scene, ServerKind::Memcached, 1);
    scene.on_client(|| {
        let mut redis = plan.redis(Family::V4);
        let mut memcached = plan.memcached(Family::V4);
        let keys: Vec<String> = (0..90).map(key).collect();
        let mget = format!("MGET {}", keys.join(" "));
        let Value::Array(Some(values)) = redis.words(&mget).unwrap() else {
            panic!("MGET answers with an array");
        };
        let hits = values
            .iter()
            .filter(|value| **value == Value::bulk(b"v"))
            .count();
        let misses = values
            .iter()
            .filter(|value| **value == Value::Bulk(None))
            .count();
        assert_eq!(hits + misses, 90);
        assert!(hits > 10 && misses > 10, "{hits} and {misses}");
        assert_eq!(redis.words("DBSIZE").unwrap(), Value::Integer(hits as i64));
        assert_eq!(scan(&mut redis, "COUNT 7").len(), hits);
        let info = text(redis.words("INFO").unwrap());
        assert_eq!(field(&info, "tidegate_servers_answered"), "2");
        let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let items = memcached.get(&keys).unwrap();
        assert!(items.len() > 10 && items.len() < 80, "{}", items.len());
        let told = stats(&mut memcached, "stats");
        assert_eq!(statistic(&told, "curr_items"), items.len() as u64);
        let flushed = redis.words("FLUSHALL").unwrap();
        assert!(flushed.is_error("ERR server "), "{flushed:?}");
        let flushed = memcached.line("flush_all").unwrap();
        assert!(flushed.ends_with("carried out by 2 servers"), "{flushed}");
        assert_eq!(redis.words("DBSIZE").unwrap(), Value::Integer(0));
    });
}

both_drivers!(
    without_a_server_the_answer_is_an_error_and_the_connection_stays,
    LabOptions::default(),
    |stage| with_partial(stage, "error"),
    without_a_server_the_answer_is_an_error_and_the_connection_stays
);

fn without_a_server_the_answer_is_an_error_and_the_connection_stays(scene: &mut Scene) {
    let plan = scene.plan();
    kill(scene, ServerKind::Redis, 1);
    kill(scene, ServerKind::Memcached, 1);
    scene.on_client(|| {
        let mut redis = plan.redis(Family::V4);
        let mget: Vec<String> = (0..90).map(key).collect();
        for request in [
            "DBSIZE",
            "KEYS *",
            "INFO",
            "RANDOMKEY",
            "FLUSHALL",
            "SCRIPT FLUSH",
        ] {
            let reply = redis.words(request).unwrap();
            assert!(
                reply.is_error("ERR server redis-1: "),
                "{request}: {reply:?}"
            );
        }
        assert!(
            redis
                .words(&format!("MGET {}", mget.join(" ")))
                .unwrap()
                .is_error("ERR ")
        );
        assert_eq!(
            redis.words("PING").unwrap(),
            Value::Simple("PONG".to_owned())
        );
        let mut memcached = plan.memcached(Family::V4);
        let keys: Vec<&[u8]> = mget.iter().map(String::as_bytes).collect();
        let request = [b"get ", keys.join(&b' ').as_slice(), b"\r\n"].concat();
        assert!(
            memcached
                .ask(&request)
                .unwrap()
                .starts_with(b"SERVER_ERROR ")
        );
        assert!(
            memcached
                .line("stats")
                .unwrap()
                .starts_with("SERVER_ERROR server ")
        );
        assert_eq!(
            memcached.set(b"still", 0, b"there").map(drop).ok(),
            Some(())
        );
    });
}
