//! What is told of requests that took long, and that nothing is told of the others.

use crate::model::dialects::{GET, SET, frame};
use crate::model::dialogue::commands;
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret};
use tidegate_proxy::streams::ServerId;
use tidegate_proxy::{SlowEnd, SlowRequest};

const SLOW_US: u64 = 20_000;

fn slow_pool(protocol: Protocol, servers: usize) -> PoolConfig {
    PoolConfig {
        slowlog_us: Some(SLOW_US as u32),
        ..pool(protocol, servers)
    }
}

fn world(protocol: Protocol, servers: usize) -> World {
    World::new(&[slow_pool(protocol, servers)], &limits(), 5)
}

fn told(world: &mut World) -> Vec<SlowRequest> {
    std::iter::from_fn(|| world.proxy.take_slow()).collect()
}

fn key(slow: &SlowRequest) -> String {
    String::from_utf8_lossy(slow.key.front()).into_owned()
}

/// Lets every server stand still for 50 ms after the client has sent what it has.
fn stall(world: &mut World) {
    world.pass(1_000);
    world.servers.iter_mut().for_each(|s| s.stopped = true);
    world.pass(50_000);
    world.servers.iter_mut().for_each(|s| s.stopped = false);
    world.settle(1_000);
}

/// Asks while no server answers.
fn ask_stalled(world: &mut World, requests: Vec<u8>) -> Vec<SlowRequest> {
    world.servers.iter_mut().for_each(|s| s.stopped = true);
    world.connect(requests);
    stall(world);
    told(world)
}

#[test]
fn a_slow_request_is_told_with_its_key_and_where_its_time_went() {
    let mut world = world(Protocol::Redis, 2);
    world.connect(commands(&["SET fast 1", "GET fast"]));
    world.settle(1_000);
    assert!(told(&mut world).is_empty(), "nothing took long");
    world
        .proxy
        .set_wall_clock(world.now_us, 1_700_000_000_000_000);
    let began_us = world.now_us;
    let all = ask_stalled(&mut world, commands(&["GET fast"]));
    let [slow] = &all[..] else { panic!("{all:?}") };
    assert_eq!((slow.command, key(slow).as_str()), ("get", "fast"));
    assert_eq!((slow.request_bytes, slow.reply_bytes), (23, 7));
    assert_eq!((slow.pool, slow.end), (0, SlowEnd::Replied));
    assert!(slow.server.is_some(), "{slow:?}");
    assert!(slow.server_us >= SLOW_US, "{slow:?}");
    assert_eq!((slow.queue_us, slow.turn_us), (0, 0));
    assert_eq!(slow.total_us(), slow.server_us + slow.client_us);
    let after_us = slow.taken_unix_us - 1_700_000_000_000_000;
    assert!(after_us <= world.now_us - began_us, "{after_us}");
    assert_eq!(world.proxy.pool_counters(0).slow_requests, 1);
}

#[test]
fn a_pool_without_a_slow_log_tells_nothing() {
    let quiet = PoolConfig {
        slowlog_us: None,
        ..pool(Protocol::Redis, 1)
    };
    let mut world = World::new(&[quiet], &limits(), 5);
    assert!(ask_stalled(&mut world, commands(&["GET a", "MGET a b", "DBSIZE"])).is_empty());
    assert_eq!(world.proxy.pool_counters(0).slow_requests, 0);
}

#[test]
fn the_time_behind_earlier_replies_is_told_apart() {
    let mut world = world(Protocol::Redis, 2);
    let [one, other] = crate::model::dialogue::keys_of_both(&mut world).map(|[key, _]| key);
    told(&mut world);
    // The second server answers at once, but the reply has to wait for that of the first.
    world.servers[0].stopped = true;
    world.connect(commands(&[&format!("GET {one}"), &format!("GET {other}")]));
    world.pass(50_000);
    world.servers[0].stopped = false;
    world.settle(1_000);
    let all = told(&mut world);
    let [first, second] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!((key(first), key(second)), (one, other));
    assert!(
        first.server_us >= SLOW_US && first.turn_us == 0,
        "{first:?}"
    );
    assert!(second.server_us < SLOW_US, "{second:?}");
    assert!(second.turn_us >= SLOW_US, "{second:?}");
    assert_eq!(first.server, Some(ServerId(0)));
    assert_eq!(second.server, Some(ServerId(1)));
}

#[test]
fn a_client_that_takes_its_reply_slowly_is_told_apart() {
    let mut world = world(Protocol::Redis, 1);
    let value = "v".repeat(2_000);
    world.servers[0]
        .store
        .insert(b"large".to_vec(), value.into_bytes());
    let client = world.connect(commands(&["GET large"]));
    world.clients[client].deaf = true;
    world.pass(50_000);
    world.clients[client].deaf = false;
    world.settle(1_000);
    let all = told(&mut world);
    let [slow] = &all[..] else { panic!("{all:?}") };
    assert_eq!(slow.reply_bytes, 2_009);
    assert!(slow.server_us < SLOW_US, "{slow:?}");
    assert!(slow.client_us >= SLOW_US, "{slow:?}");
}

#[test]
fn the_header_of_a_binary_reply_is_among_its_bytes() {
    let mut world = world(Protocol::Memcached, 1);
    world.servers[0]
        .store
        .insert(b"key".to_vec(), b"value".to_vec());
    let requests = [frame(SET, b"other", &[0; 8], 1), frame(GET, b"key", b"", 2)].concat();
    let all = ask_stalled(&mut world, requests);
    let bytes: Vec<u64> = all.iter().map(|slow| slow.reply_bytes).collect();
    let got = world.clients[0].got.len() as u64;
    assert_eq!(bytes.len(), 2);
    assert_eq!(bytes[0], 24);
    assert_eq!(bytes.iter().sum::<u64>(), got);
}

#[test]
fn a_request_that_waits_for_its_server_is_in_the_queue() {
    let mut world = world(Protocol::Redis, 1);
    world.servers[0].stopped = true;
    // Until the server has said that it speaks RESP3, no request is sent.
    world.connect(commands(&["HELLO 3", "GET a"]));
    stall(&mut world);
    let all = told(&mut world);
    let [slow] = &all[..] else { panic!("{all:?}") };
    assert_eq!(slow.command, "get");
    assert!(slow.queue_us >= SLOW_US, "{slow:?}");
    assert!(slow.server_us < SLOW_US, "{slow:?}");
}

#[test]
fn a_request_that_waited_in_vain_is_told_as_well() {
    let mut world = world(Protocol::Redis, 1);
    world.servers[0].stopped = true;
    world.connect(commands(&["HELLO 3", "GET a"]));
    world.pass(50_000);
    world.crash(0);
    world.streams.refuse.push(ServerId(0));
    world.settle(10_000);
    let all = told(&mut world);
    let [slow] = &all[..] else { panic!("{all:?}") };
    assert_eq!((slow.command, slow.end), ("get", SlowEnd::Failed));
    assert_eq!(slow.queue_us, slow.total_us());
}

#[test]
fn timeouts_and_clients_that_left_are_told_as_such() {
    let mut world = world(Protocol::Memcached, 1);
    world.servers[0].stopped = true;
    world.connect(b"get patient\r\n".to_vec());
    let hasty = world.connect(b"get hasty\r\n".to_vec());
    world.pass(50_000);
    world.vanish(hasty);
    world.pass(500_000);
    world.servers[0].stopped = false;
    world.settle(1_000);
    let all = told(&mut world);
    let [gone, failed] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(
        (key(gone).as_str(), gone.end),
        ("hasty", SlowEnd::ClientGone)
    );
    assert_eq!(
        (key(failed).as_str(), failed.end),
        ("patient", SlowEnd::Failed)
    );
    assert!(failed.server_us >= 400_000, "{failed:?}");
    world.assert_idle("after both");
}

#[test]
fn requests_for_several_servers_name_none_and_their_first_key() {
    let mut world = world(Protocol::Redis, 3);
    let lines = ["MSET a 1 b 2 c 3 d 4 e 5", "MGET a b c d e", "DBSIZE"];
    let all = ask_stalled(&mut world, commands(&lines));
    let told: Vec<_> = all.iter().map(|s| (s.command, key(s), s.server)).collect();
    let a = "a".to_owned();
    assert_eq!(
        told,
        [
            ("mset", a.clone(), None),
            ("mget", a, None),
            ("dbsize", String::new(), None)
        ]
    );
    assert!(all[1].reply_bytes >= 5 * 7, "{:?}", all[1]);
    world.assert_idle("after them");
}

#[test]
fn large_requests_are_told_with_all_their_bytes() {
    let mut world = world(Protocol::Redis, 2);
    let value = "v".repeat(30_000);
    let streamed = resp(&[b"SET", b"large", value.as_bytes()]);
    let keys: Vec<String> = (0..2_000).map(|n| format!("key-{n}")).collect();
    let words = ["DEL"].into_iter().chain(keys.iter().map(String::as_str));
    let chunked = resp(&words.map(str::as_bytes).collect::<Vec<_>>());
    let bytes = [streamed.len() as u64, chunked.len() as u64];
    let all = [streamed, chunked].map(|request| ask_stalled(&mut world, request));
    let [[first], [second]] = [&all[0][..], &all[1][..]] else {
        panic!("{all:?}")
    };
    assert_eq!((first.command, key(first).as_str()), ("set", "large"));
    assert_eq!(first.request_bytes, bytes[0]);
    assert_eq!((second.command, key(second).as_str()), ("del", ""));
    // Each chunk is a request with the name in front.
    assert!(second.request_bytes.abs_diff(bytes[1]) < 200, "{second:?}");
}

#[test]
fn a_long_key_is_told_by_its_front_and_its_length() {
    let mut world = world(Protocol::Redis, 1);
    let long = "k".repeat(300);
    let all = ask_stalled(&mut world, resp(&[b"GET", long.as_bytes()]));
    assert_eq!(key(&all[0]), long[..64]);
    assert_eq!(all[0].key.full_bytes(), 300);
}

#[test]
fn commands_that_wait_are_not_slow_and_passwords_are_not_noted() {
    let guarded = PoolConfig {
        redis_auth: Some(Secret::new("hunter2".into())),
        ..slow_pool(Protocol::Redis, 1)
    };
    let mut world = World::new(&[guarded], &limits(), 5);
    let lines = [
        "AUTH hunter2",
        "BLPOP list 0.05",
        "GET a",
        "AUTH hunter2",
        "HELLO 2 AUTH default hunter2",
    ];
    let all = ask_stalled(&mut world, commands(&lines));
    for slow in &all {
        assert_eq!((slow.command, key(slow).as_str()), ("get", "a"), "{slow:?}");
    }
}

#[test]
fn of_very_many_slow_requests_the_first_are_told_and_all_counted() {
    let mut world = world(Protocol::Redis, 1);
    world.servers[0].stopped = true;
    for _ in 0..4 {
        world.connect(commands(&["GET a"; 64]));
    }
    stall(&mut world);
    let counters = world.proxy.pool_counters(0);
    let all = told(&mut world).len() as u64;
    assert_eq!(counters.slow_requests, 256);
    assert_eq!(all + counters.slow_requests_unlogged, 256);
    assert!(all > 0, "the first are told");
}

#[test]
fn a_request_under_way_keeps_its_server_and_its_note_when_the_configuration_changes() {
    let before = slow_pool(Protocol::Redis, 2);
    let mut after = before.clone();
    after.servers.reverse();
    let mut larger = limits();
    larger.requests_max *= 4;
    let mut world = World::new(&[before], &limits(), 5);
    for server in &mut world.servers {
        server.stopped = true;
    }
    world.connect(commands(&["GET a"]));
    world.pass(1_000);
    let asked = (0..2).find(|&s| world.proxy.server_counters(s).in_flight == 1);
    world.change_all(&[after], &larger);
    stall(&mut world);
    let all = told(&mut world);
    let [slow] = &all[..] else { panic!("{all:?}") };
    assert_eq!(key(slow), "a");
    let other_place = ServerId(1 - asked.unwrap() as u16);
    assert_eq!(
        slow.server,
        Some(other_place),
        "the same server, by its new number"
    );
}
