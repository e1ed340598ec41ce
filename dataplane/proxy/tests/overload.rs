//! Clients that ask for more than there is, beside one that asks little: how many turns that one waits for its replies.
//!
//! Turns are counted, not time: in each the network moves some hundred bytes of every connection, and the proxy runs once.

use crate::model::dialogue::keys_of_both;
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{Listen, PoolConfig, Protocol, WorkerConfig};
use tidegate_proxy::streams::ListenerId;

/// Turns for which nobody waits who is not kept out.
const PATIENCE: usize = 5_000;
/// Requests of the client that asks little, one after the other.
const ASKED: usize = 20;

fn pools(count: usize) -> Vec<PoolConfig> {
    (0..count)
        .map(|number| PoolConfig {
            name: format!("pool-{number}"),
            listen: vec![Listen::from(std::net::SocketAddr::from((
                [10, 0, 0, 1],
                number as u16 + 1,
            )))],
            timeout_ms: None,
            ..pool(Protocol::Redis, 1)
        })
        .collect()
}

fn get(key: &[u8]) -> Vec<u8> {
    resp(&[b"GET", key])
}

/// Lets the clients in `flood` send without end, whole requests at all times.
fn feed(world: &mut World, flood: &[usize], request: &[u8]) {
    for &client in flood {
        let state = &mut world.clients[client];
        state.got.clear();
        if state.to_send.len() < 16 * request.len() {
            state.to_send.extend(request.repeat(64));
        }
    }
}

/// How many turns each of some requests of `quiet` takes, while `each_turn` does what it likes.
fn turns(world: &mut World, quiet: usize, mut each_turn: impl FnMut(&mut World)) -> Vec<usize> {
    (0..ASKED)
        .map(|_| {
            world.clients[quiet].got.clear();
            world.clients[quiet].to_send = get(b"quiet");
            let answered = (1..PATIENCE).find(|_| {
                each_turn(world);
                world.step();
                let got = &world.clients[quiet].got;
                assert!(b"$-1\r\n".starts_with(got), "{:?}", got.escape_ascii());
                got.len() == 5
            });
            answered.expect("the client gets its reply in time")
        })
        .collect()
}

fn total(turns: &[usize]) -> usize {
    turns.iter().sum()
}

/// Turns of a client alone.
fn alone(limits: &WorkerConfig) -> usize {
    let mut world = World::new(&pools(2), limits, 5);
    let quiet = world.connect_at(ListenerId(1), Vec::new());
    total(&turns(&mut world, quiet, |_| {}))
}

fn roomy() -> WorkerConfig {
    WorkerConfig {
        clients_max: 1_100,
        requests_max: 4_096,
        ..limits()
    }
}

/// Beside `clients` that do what `each_turn` says in the other pool, a client waits no longer than twice as long as alone.
fn assert_undisturbed(
    limits: &WorkerConfig,
    clients: usize,
    prepare: impl Fn(&mut World, &[usize]),
    mut each_turn: impl FnMut(&mut World, &[usize]),
) -> World {
    let mut world = World::new(&pools(2), limits, 5);
    world.servers[0]
        .store
        .insert(b"large".to_vec(), vec![b'v'; 3_000]);
    let others: Vec<usize> = (0..clients).map(|_| world.connect(Vec::new())).collect();
    let quiet = world.connect_at(ListenerId(1), Vec::new());
    prepare(&mut world, &others);
    for _ in 0..100 {
        each_turn(&mut world, &others);
        world.step();
    }
    let beside = total(&turns(&mut world, quiet, |world| each_turn(world, &others)));
    let alone = alone(limits);
    assert!(beside <= 2 * alone, "{beside} turns, {alone} alone");
    world
}

#[test]
fn a_flooded_pool_leaves_another_its_requests() {
    // All that the flood may have under way is more than there is, and its server would take it.
    let limits = WorkerConfig {
        requests_max: 1_024,
        client_requests_max: 64,
        server_buffer_bytes: 1 << 20,
        ..roomy()
    };
    let world = assert_undisturbed(
        &limits,
        100,
        |_, _| {},
        |world, flood| feed(world, flood, &get(b"flood")),
    );
    assert!(world.proxy.pool_counters(0).paused_requests > 0);
    assert!(world.proxy.tables_in_use().requests <= 1_024);
    assert_eq!(world.proxy.pool_counters(1).paused_requests, 0);
}

#[test]
fn in_a_flooded_pool_everybody_has_a_turn() {
    let mut world = World::new(&pools(1), &roomy(), 5);
    let flood: Vec<usize> = (0..30).map(|_| world.connect(Vec::new())).collect();
    let quiet = world.connect(Vec::new());
    for _ in 0..300 {
        feed(&mut world, &flood, &get(b"flood"));
        world.step();
    }
    assert!(world.proxy.pool_counters(0).paused_servers > 0);
    let turns = turns(&mut world, quiet, |world| {
        feed(world, &flood, &get(b"flood"));
    });
    // The server takes some 350 bytes in a turn. Before it lies what the connection holds, and a turn of 16 requests of each.
    let bytes = limits().server_buffer_bytes as usize + 31 * 16 * get(b"flood").len();
    let most = 2 * bytes / 350;
    assert!(
        turns.iter().all(|&turns| turns <= most),
        "{turns:?} of {most}"
    );
}

#[test]
fn nobody_is_kept_out_by_those_who_are_served_already() {
    let mut world = World::new(&pools(1), &roomy(), 9);
    let flood: Vec<usize> = (0..200).map(|_| world.connect(Vec::new())).collect();
    let mut served = vec![0; flood.len()];
    for _ in 0..6_000 {
        for (&client, served) in flood.iter().zip(&mut served) {
            *served += world.clients[client].got.len();
        }
        feed(&mut world, &flood, &get(b"flood"));
        world.step();
    }
    let (least, most) = (served.iter().min(), served.iter().max());
    assert!(3 * least.unwrap() > *most.unwrap(), "{served:?}");
}

#[test]
fn a_turn_takes_a_share_of_each_pipeline() {
    let limits = WorkerConfig {
        client_buffer_bytes: 64 * 1024,
        server_buffer_bytes: 1 << 20,
        client_requests_max: 4_096,
        ..limits()
    };
    let mut world = World::new(&pools(1), &limits, 5);
    world.piece = 1 << 20;
    let first = world.connect(get(b"first"));
    world.settle(100);
    let deep: Vec<usize> = (0..3)
        .map(|_| world.connect(get(b"deep").repeat(1_500)))
        .collect();
    let mut before = world.proxy.asked();
    let mut steps = 0;
    while world.proxy.asked() < 4_501 {
        world.step();
        // A visit of each, and sixteen more.
        let asked = world.proxy.asked() - before;
        assert!(asked <= (3 + 16) * 16, "{asked} requests in one turn");
        before += asked;
        steps += 1;
        assert!(steps < 1_000, "all are asked");
    }
    world.settle(10_000);
    assert!(!world.proxy.has_more());
    assert_eq!(world.clients[first].got, b"$-1\r\n");
    for client in deep {
        assert_eq!(world.clients[client].got, b"$-1\r\n".repeat(1_500));
    }
    world.assert_idle("after the last reply");
}

/// A world of two pools where the network moves everything at once, and so many replies wait for a client of the first; and a client of the
/// second, which has asked nothing.
fn with_replies_at_once(count: usize) -> (World, usize, usize) {
    let limits = WorkerConfig {
        client_buffer_bytes: 64 * 1024,
        server_buffer_bytes: 1 << 20,
        client_requests_max: 4_096,
        ..roomy()
    };
    let mut world = World::new(&pools(2), &limits, 5);
    world.piece = 1 << 20;
    let quiet = world.connect_at(ListenerId(1), Vec::new());
    let deep = world.connect(get(b"first"));
    world.settle(100);
    world.servers[0].stopped = true;
    world.clients[deep].got.clear();
    world.clients[deep].to_send = get(b"deep").repeat(count);
    world.settle(200);
    assert_eq!(world.proxy.asked(), count as u64 + 1);
    world.servers[0].stopped = false;
    (world, deep, quiet)
}

#[test]
fn in_a_busy_pool_beside_others_everybody_has_a_turn() {
    let mut world = World::new(&pools(2), &roomy(), 9);
    world.piece = 1 << 20;
    let clients: Vec<usize> = (0..1_000).map(|_| world.connect(Vec::new())).collect();
    world.connect_at(ListenerId(1), Vec::new());
    world.settle(100);
    let mut served = vec![0; clients.len()];
    let mut before = 0;
    for turn in 0..2_000 {
        for (&client, served) in clients.iter().zip(&mut served) {
            let state = &mut world.clients[client];
            // One request at a time: the next behind the reply.
            if turn == 0 || !state.got.is_empty() {
                *served += state.got.len();
                state.got.clear();
                state.to_send = get(b"one");
            }
        }
        world.step();
        let asked = world.proxy.asked() - before;
        before += asked;
        let in_share = if turn < 20 { 0..=128 } else { 100..=128 };
        assert!(in_share.contains(&asked), "{asked} requests in turn {turn}");
    }
    let (least, most) = (served.iter().min(), served.iter().max());
    assert!(3 * least.unwrap() > 2 * most.unwrap(), "{served:?}");
}

#[test]
fn a_pool_with_something_left_of_its_share_does_not_wait_for_others() {
    let mut world = World::new(&pools(2), &roomy(), 5);
    world.piece = 1 << 20;
    let flood: Vec<usize> = (0..500).map(|_| world.connect(Vec::new())).collect();
    let quiet = world.connect_at(ListenerId(1), get(b"quiet"));
    for _ in 0..100 {
        feed(&mut world, &flood, &get(b"flood"));
        world.step();
    }
    world.clients[quiet].got.clear();
    world.clients[quiet].to_send = get(b"quiet").repeat(20);
    for _ in 0..3 {
        feed(&mut world, &flood, &get(b"flood"));
        world.step();
    }
    assert_eq!(world.clients[quiet].got, b"$-1\r\n".repeat(20));
}

#[test]
fn a_turn_takes_a_share_of_the_requests_of_each_pool() {
    let mut world = World::new(&pools(2), &roomy(), 5);
    world.piece = 1 << 20;
    let flood: Vec<usize> = (0..50).map(|_| world.connect(Vec::new())).collect();
    world.connect_at(ListenerId(1), Vec::new());
    world.settle(100);
    let mut before = 0;
    for _ in 0..300 {
        feed(&mut world, &flood, &get(b"flood"));
        world.step();
        let asked = world.proxy.asked() - before;
        assert!(asked <= 128, "{asked} requests in one turn");
        before += asked;
    }
    assert!(before > 250 * 128, "{before} requests in all");
}

#[test]
fn a_turn_takes_a_share_of_the_replies_of_each_pool() {
    let (mut world, deep, quiet) = with_replies_at_once(2_000);
    let mut before = world.proxy.pool_counters(0).replies;
    let mut steps = 0;
    while world.proxy.pool_counters(0).replies < 2_001 {
        world.step();
        let replies = world.proxy.pool_counters(0).replies - before;
        assert!(replies <= 128, "{replies} replies in one turn");
        before += replies;
        steps += 1;
        assert!(steps < 1_000, "all are read");
        if steps == 3 {
            let beside = turns(&mut world, quiet, |_| {});
            // One to the server, one back, one to the client; the first opens the connection.
            assert!(beside.iter().all(|&turns| turns <= 4), "{beside:?}");
            before = world.proxy.pool_counters(0).replies;
        }
    }
    world.settle(100);
    assert!(!world.proxy.has_more());
    assert_eq!(world.clients[deep].got, b"$-1\r\n".repeat(2_000));
    world.assert_idle("after the last reply");
}

#[test]
fn replies_that_wait_for_their_turn_come_before_the_end_of_their_connection() {
    let (mut world, deep, _) = with_replies_at_once(2_000);
    world.step();
    world.hang_up(0);
    world.settle(1_000);
    assert_eq!(world.clients[deep].got, b"$-1\r\n".repeat(2_000));
    world.assert_idle("after the last reply");
}

#[test]
fn what_nobody_asked_for_ends_a_connection_whose_share_is_used_up() {
    let (mut world, deep, _) = with_replies_at_once(128);
    world.servers[0].stopped = true;
    // The last reply that is owed is the last of the share, and there is more behind it.
    world.say(0, &b"$-1\r\n".repeat(128));
    world.say(0, b"$1\r\nx\r\n");
    let other = world.connect(get(b"other"));
    world.step();
    world.servers[0].stopped = false;
    world.settle(1_000);
    assert_eq!(world.clients[deep].got, b"$-1\r\n".repeat(128));
    assert!(!world.clients[other].got.contains(&b'x'));
    assert_eq!(world.proxy.server_counters(0).protocol_errors, 1);
}

#[test]
fn replies_of_a_connection_that_broke_are_errors_and_another_takes_its_place() {
    let (mut world, deep, _) = with_replies_at_once(2_000);
    world.step();
    world.crash(0);
    world.settle(1_000);
    let got = std::mem::take(&mut world.clients[deep].got);
    let values = got
        .chunks(5)
        .take_while(|&reply| reply == b"$-1\r\n")
        .count();
    assert!((64..2_000).contains(&values), "{values}");
    let errors = got[values * 5..].split(|&byte| byte == b'\n');
    assert_eq!(
        errors.filter(|line| line.starts_with(b"-")).count(),
        2_000 - values
    );
    world.servers[0].accepts = true;
    world.pass(100_000);
    world.clients[deep].to_send = get(b"again");
    world.settle(1_000);
    assert_eq!(world.clients[deep].got, b"$-1\r\n");
    world.assert_idle("after the last reply");
}

#[test]
fn who_is_called_and_waits_elsewhere_is_passed_by() {
    let pool = PoolConfig {
        timeout_ms: None,
        ..pool(Protocol::Redis, 2)
    };
    let mut world = World::new(&[pool], &roomy(), 5);
    let [[left, _], [right, _]] = keys_of_both(&mut world);
    world.piece = 1 << 20;
    for server in &mut world.servers {
        server.stopped = true;
    }
    // Both connections are filled by clients that have no more to send, so that another request finds no room.
    for key in [&right, &left] {
        let request = get(key.as_bytes());
        for _ in 0..roomy().server_buffer_bytes as usize / request.len() {
            world.connect(request.clone());
        }
        world.settle(200);
    }
    let both = world.connect(resp(&[b"MGET", left.as_bytes(), right.as_bytes()]));
    world.settle(200);
    let behind = world.connect(get(left.as_bytes()));
    world.settle(200);
    let waiting = world.proxy.tables_in_use().waiting;
    world.servers[0].stopped = false;
    // All replies come in one turn, and nothing more happens on that connection. Nor is it time to look after those who wait.
    for _ in 0..3 {
        world.step();
    }
    assert_eq!((waiting, world.proxy.tables_in_use().waiting), (2, 1));
    world.settle(200);
    assert!(world.clients[both].got.is_empty(), "a server is missing");
    assert!(!world.clients[behind].got.is_empty());
}

#[test]
fn a_thousand_slow_readers_are_held_to_their_memory() {
    let limits = WorkerConfig {
        reply_hold_bytes: 256 * 1024,
        client_reply_hold_bytes: 4 * 1024,
        server_connections_max: 16,
        ..roomy()
    };
    let world = assert_undisturbed(
        &limits,
        1_000,
        |world, readers| {
            for &reader in readers {
                world.clients[reader].deaf = true;
                world.clients[reader].to_send = get(b"large").repeat(4);
            }
        },
        |_, _| {},
    );
    let tables = world.proxy.tables_in_use();
    assert!(tables.reply_hold_bytes <= 256 * 1024, "{tables:?}");
    assert!(tables.links <= 16 && tables.requests <= 4_096);
    let counters = world.proxy.pool_counters(0);
    assert!(counters.paused_replies > 0, "{counters:?}");
}

#[test]
fn a_thousand_slow_writers_cost_others_nothing() {
    let request = get(b"a-key-that-takes-a-while-to-be-sent");
    let mut sent = 0;
    let mut world = assert_undisturbed(
        &roomy(),
        1_000,
        |_, _| {},
        |world, writers| {
            for &writer in writers {
                // A byte in each turn; how many the network took before tells which.
                if world.clients[writer].to_send.is_empty() {
                    world.clients[writer].to_send = vec![request[sent % request.len()]];
                }
            }
            sent += 1;
        },
    );
    assert_eq!(world.proxy.clients_open(), 1_001);
    world.settle(5_000);
    let counters = world.proxy.pool_counters(0);
    assert!(counters.requests >= 1_000 && counters.requests.is_multiple_of(1_000));
    assert_eq!(
        (counters.replies, counters.requests_refused),
        (counters.requests, 0)
    );
}
