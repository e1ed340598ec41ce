//! Another configuration while requests are under way, one case at a time.

use crate::model::dialogue::{commands, play, text};
use crate::model::redis::{goes_on, take};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use std::net::SocketAddr;
use tidegate_config::{Endpoint, Listen, PoolConfig, Protocol, Secret, ServerConfig, WorkerConfig};
use tidegate_proxy::streams::{CloseReason, ListenerId};
use tidegate_proxy::{Change, ChangeError, Left, Proxy};

fn server(n: usize) -> ServerConfig {
    ServerConfig {
        address: Endpoint::Ip(format!("10.0.1.{n}:1").parse().unwrap()),
        name: format!("server-{n}"),
        weight: 1,
    }
}

/// The pool of every test with these servers.
fn with(servers: &[usize]) -> PoolConfig {
    PoolConfig {
        servers: servers.iter().copied().map(server).collect(),
        ..pool(Protocol::Redis, 1)
    }
}

fn other() -> PoolConfig {
    PoolConfig {
        name: "other".into(),
        listen: vec![Listen::from(SocketAddr::from(([10, 0, 0, 1], 2)))],
        ..with(&[8, 9])
    }
}

fn world(servers: &[usize]) -> World {
    World::new(&[with(servers)], &limits(), 5)
}

fn got(world: &World, client: usize) -> String {
    text(&world.clients[client].got)
}

fn assert_nothing_left(world: &mut World) {
    world.pass(5_000_000);
    world.assert_idle("nothing is under way");
    let left = world.proxy.left();
    assert_eq!((left.servers, left.pools), (0, 0));
}

/// A key of each server, by its place among the servers.
fn keys(world: &mut World) -> Vec<String> {
    let servers = world.pools[0].servers.len();
    let mut found = vec![None; servers];
    for n in 0.. {
        let key = format!("key{n}");
        assert_eq!(
            play(world, &commands(&[&format!("SET {key} v")])).0,
            "+OK\r\n"
        );
        let owner = (0..servers).find(|&s| world.servers[s].store.contains_key(key.as_bytes()));
        found[owner.unwrap()].get_or_insert(key);
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found.into_iter().flatten().collect()
}

#[test]
fn a_reply_of_a_server_that_left_still_arrives_in_its_turn() {
    let mut world = world(&[0, 1, 2]);
    let keys = keys(&mut world);
    world.servers[1].stopped = true;
    let gets: Vec<String> = keys.iter().map(|key| format!("GET {key}")).collect();
    let lines: Vec<&str> = gets.iter().map(String::as_str).collect();
    let client = world.connect(commands(&lines));
    world.pass(20_000);
    assert_eq!(got(&world, client), "$1\r\nv\r\n", "the second is owed");
    world.change(&[with(&[0, 2])]);
    world.pass(20_000);
    assert_eq!(world.proxy.left().servers, 1);
    let leaving = 2;
    world.servers[leaving].stopped = false;
    world.pass(20_000);
    assert_eq!(got(&world, client), "$1\r\nv\r\n".repeat(3));
    assert!(
        world.server_slots(leaving).is_empty(),
        "its connection ended"
    );
    assert_nothing_left(&mut world);
    world.change(&[with(&[0, 2])]);
    assert_eq!(world.servers.len(), 2, "it is forgotten");
}

#[test]
fn a_server_that_left_and_stays_silent_gets_no_more_than_its_timeout() {
    let mut world = world(&[0, 1]);
    let keys = keys(&mut world);
    world.servers[1].stopped = true;
    let client = world.connect(commands(&[&format!("GET {}", keys[1])]));
    world.pass(20_000);
    world.change(&[with(&[0])]);
    world.pass(600_000);
    assert_eq!(got(&world, client), "-ERR Connection timed out\r\n");
    world.pass(1_000_000);
    assert!(world.server_slots(1).is_empty());
    assert_nothing_left(&mut world);
}

#[test]
fn servers_keep_their_connections_and_counts_whatever_place_they_get() {
    let mut world = world(&[0, 1, 2]);
    let keys = keys(&mut world);
    let before: Vec<_> = (0..3).map(|s| world.proxy.server_counters(s)).collect();
    let connects = world.streams.connects;
    world.change(&[with(&[2, 3, 0, 1])]);
    for (old, new) in [(0, 2), (1, 3), (2, 0)] {
        assert_eq!(world.proxy.server_counters(new), before[old]);
    }
    assert_eq!(world.proxy.server_counters(1).requests, 0);
    for key in &keys {
        let (reply, _) = play(&mut world, &commands(&[&format!("SET {key} again")]));
        assert_eq!(reply, "+OK\r\n");
    }
    assert!(
        world.streams.connects <= connects + 1,
        "only the new one is connected to"
    );
    assert_nothing_left(&mut world);
}

#[test]
fn pools_keep_their_clients_and_counts_whatever_place_they_get() {
    let mut world = world(&[0, 1]);
    let client = world.connect(commands(&["SET a 1"]));
    world.settle(20_000);
    let requests = world.proxy.pool_counters(0).requests;
    world.change(&[other(), with(&[0, 1])]);
    assert_eq!(world.proxy.pool_counters(1).requests, requests);
    assert_eq!(world.proxy.pool_counters(1).clients, 1);
    assert_eq!(take(&mut world, client), "+OK\r\n");
    assert_eq!(goes_on(&mut world, client, &["GET a"]), "$1\r\n1\r\n");
    let second = world.connect_at(ListenerId(0), commands(&["SET b 2"]));
    world.settle(20_000);
    assert_eq!(got(&world, second), "+OK\r\n");
    assert_eq!(
        world.proxy.pool_counters(0).clients,
        1,
        "that of the other pool"
    );
}

#[test]
fn clients_of_a_pool_that_left_get_what_they_are_owed_and_are_closed_in_order() {
    let mut world = World::new(&[with(&[0]), other()], &limits(), 5);
    let idle = world.connect_at(ListenerId(1), commands(&["SET b 2"]));
    world.settle(20_000);
    for server in [1, 2] {
        world.servers[server].stopped = true;
    }
    let busy = world.connect_at(ListenerId(1), commands(&["GET b", "GET b"]));
    let stays = world.connect(commands(&["SET a 1"]));
    world.pass(20_000);
    world.change(&[with(&[0])]);
    world.pass(20_000);
    assert!(world.clients[idle].finished && world.clients[idle].closed.is_none());
    assert_eq!(got(&world, idle), "+OK\r\n");
    assert!(!world.clients[busy].finished, "replies are owed");
    for server in [1, 2] {
        world.servers[server].stopped = false;
    }
    world.pass(200_000);
    assert_eq!(got(&world, busy), "$1\r\n2\r\n".repeat(2));
    assert!(world.clients[busy].finished && world.clients[busy].closed.is_none());
    take(&mut world, stays);
    assert_eq!(goes_on(&mut world, stays, &["GET a"]), "$1\r\n1\r\n");
    assert_nothing_left(&mut world);
}

#[test]
fn a_client_that_does_not_come_to_an_end_is_closed_at_the_deadline() {
    let mut world = World::new(&[with(&[0]), other()], &limits(), 5);
    let client = world.connect_at(ListenerId(1), commands(&["MULTI", "SET a 1"]));
    world.settle(20_000);
    world.change(&[with(&[0])]);
    world.pass(500_000);
    assert_eq!(world.clients[client].closed, None);
    world.pass(800_000);
    assert_eq!(world.clients[client].closed, Some(CloseReason::Reset));
    assert_nothing_left(&mut world);
}

#[test]
fn only_the_listener_can_go() {
    let both = PoolConfig {
        listen: [1, 2]
            .map(|port| Listen::from(SocketAddr::from(([10, 0, 0, 1], port))))
            .into(),
        ..with(&[0])
    };
    let mut world = World::new(&[both], &limits(), 5);
    let first = world.connect_at(ListenerId(0), commands(&["SET a 1"]));
    let second = world.connect_at(ListenerId(1), commands(&["SET a 1"]));
    world.settle(20_000);
    let only_second = PoolConfig {
        listen: vec![Listen::from(SocketAddr::from(([10, 0, 0, 1], 2)))],
        ..with(&[0])
    };
    world.change(&[only_second]);
    world.pass(20_000);
    assert!(world.clients[first].finished);
    take(&mut world, second);
    assert_eq!(goes_on(&mut world, second, &["GET a"]), "$1\r\n1\r\n");
    assert_nothing_left(&mut world);
}

#[test]
fn a_transaction_ends_where_it_began_and_the_next_goes_where_the_keys_are() {
    let mut world = world(&[0, 1, 2]);
    let keys = keys(&mut world);
    let (set, get) = (format!("SET {} x", keys[1]), format!("GET {}", keys[1]));
    let watch = format!("WATCH {}", keys[1]);
    let client = world.connect(commands(&[&watch, "MULTI", &set]));
    world.settle(20_000);
    assert_eq!(take(&mut world, client), "+OK\r\n+OK\r\n+QUEUED\r\n");
    world.change(&[with(&[0, 2])]);
    world.pass(20_000);
    let reply = goes_on(&mut world, client, &[&get, "EXEC"]);
    assert_eq!(reply, "+QUEUED\r\n*2\r\n+OK\r\n$1\r\nx\r\n");
    let reply = goes_on(&mut world, client, &["MULTI", &set, &get, "EXEC"]);
    assert_eq!(
        reply,
        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\nx\r\n"
    );
    let has_it = |s: usize| world.servers[s].store.contains_key(keys[1].as_bytes());
    assert!(has_it(0) || has_it(1), "a server that is there");
    assert_nothing_left(&mut world);
}

#[test]
fn a_transaction_of_long_ago_fails_and_a_silent_one_loses_its_server_in_time() {
    let mut world = world(&[0, 1, 2]);
    let keys = keys(&mut world);
    let set = |n: usize| format!("SET {} x", keys[n]);
    let (first, second) = (set(0), set(1));
    let old = world.connect(commands(&["MULTI", &first]));
    let silent = world.connect(commands(&["MULTI", &second]));
    world.settle(20_000);
    world.change(&[with(&[0, 1, 2, 3])]);
    world.change(&[with(&[0, 2])]);
    take(&mut world, old);
    take(&mut world, silent);
    let reply = goes_on(&mut world, old, &[&first, "EXEC"]);
    assert!(reply.starts_with("-CROSSSLOT"), "{reply}");
    assert!(reply.contains("-EXECABORT"), "{reply}");
    world.pass(2_000_000);
    let reply = goes_on(&mut world, silent, &["EXEC"]);
    assert!(reply.contains("-EXECABORT"), "{reply}");
    assert_nothing_left(&mut world);
}

#[test]
fn a_subscriber_is_told_when_its_channels_have_another_server() {
    let mut world = world(&[0, 1]);
    let client = world.connect(commands(&["SUBSCRIBE news"]));
    world.settle(20_000);
    take(&mut world, client);
    world.change(&[with(&[0, 1, 2])]);
    world.pass(20_000);
    assert!(
        !world.clients[client].finished,
        "the first server is the same"
    );
    assert_eq!(play(&mut world, &commands(&["PUBLISH news x"])).0, ":1\r\n");
    let message = resp(&[b"message", b"news", b"x"]);
    assert_eq!(take(&mut world, client), text(&message));
    world.change(&[with(&[1, 0, 2])]);
    world.pass(20_000);
    assert!(world.clients[client].finished && world.clients[client].closed.is_none());
    assert_eq!(world.proxy.pool_counters(0).clients_closed_lost, 1);
    assert_nothing_left(&mut world);
}

#[test]
fn a_command_that_waits_goes_on_waiting_unless_its_server_left() {
    let mut world = world(&[0, 1]);
    let keys = keys(&mut world);
    let clients = [0, 1].map(|n: usize| {
        let line = format!("BLPOP {} 0", keys[n]);
        world.connect(commands(&[&line]))
    });
    world.settle(20_000);
    world.change(&[with(&[0])]);
    world.pass(2_000_000);
    assert_eq!(got(&world, clients[0]), "", "it waits");
    let reply = got(&world, clients[1]);
    assert_eq!(reply, "-ERR Server was taken out of the configuration\r\n");
}

#[test]
fn requests_keep_their_order_when_a_server_gets_other_connections() {
    for (before, after) in [(1, 3), (3, 1), (2, 3)] {
        let of = |connections| PoolConfig {
            server_connections: connections,
            ..with(&[0])
        };
        let mut world = World::new(&[of(before)], &limits(), 5);
        let clients: Vec<usize> = (0..6)
            .map(|n| world.connect(commands(&[&format!("SET k{n} 0")])))
            .collect();
        world.settle(20_000);
        world.servers[0].trickles = true;
        for (n, &client) in clients.iter().enumerate() {
            world.clients[client].got.clear();
            for round in 1..20 {
                let lines = [format!("SET k{n} {round}"), format!("GET k{n}")];
                let requests = commands(&[&lines[0], &lines[1]]);
                world.clients[client].to_send.extend(requests);
            }
        }
        world.pass(1_000);
        world.change(&[of(after)]);
        world.pass(1_000);
        world.servers[0].trickles = false;
        world.settle(20_000);
        let expected: String = (1..20)
            .flat_map(|round: u32| {
                let length = round.to_string().len();
                ["+OK\r\n".to_owned(), format!("${length}\r\n{round}\r\n")]
            })
            .collect();
        for &client in &clients {
            assert_eq!(got(&world, client), expected, "{before} to {after}");
        }
        assert!(world.server_slots(0).len() <= after as usize);
        assert_nothing_left(&mut world);
    }
}

#[test]
fn a_shorter_timeout_counts_for_what_is_under_way() {
    let of = |timeout_ms| PoolConfig {
        timeout_ms,
        ..with(&[0])
    };
    let mut world = World::new(&[of(None)], &limits(), 5);
    world.servers[0].stopped = true;
    let client = world.connect(commands(&["GET a"]));
    world.pass(10_000_000);
    assert_eq!(got(&world, client), "");
    world.change(&[of(Some(100))]);
    world.pass(90_000);
    assert_eq!(got(&world, client), "");
    world.pass(20_000);
    assert_eq!(got(&world, client), "-ERR Connection timed out\r\n");
}

#[test]
fn a_password_for_clients_is_asked_of_new_ones_only() {
    let mut world = world(&[0]);
    let client = world.connect(commands(&["SET a 1"]));
    world.settle(20_000);
    take(&mut world, client);
    let locked = PoolConfig {
        redis_auth: Some(Secret::new("secret".into())),
        ..with(&[0])
    };
    world.change(&[locked]);
    assert_eq!(goes_on(&mut world, client, &["GET a"]), "$1\r\n1\r\n");
    let (reply, _) = play(&mut world, &commands(&["GET a"]));
    assert!(reply.starts_with("-NOAUTH"), "{reply}");
}

#[test]
fn an_ejected_server_stays_out_until_its_time_or_until_nobody_ejects_any_more() {
    let of = |servers: &[usize], eject| PoolConfig {
        auto_eject_hosts: eject,
        server_failure_limit: 1,
        server_retry_timeout_ms: 60_000,
        ..with(servers)
    };
    let mut world = World::new(&[of(&[0, 1], true)], &limits(), 5);
    let keys = keys(&mut world);
    world.crash(1);
    let get = format!("GET {}", keys[1]);
    world.pass(2_000);
    assert_eq!(world.proxy.server_counters(1).ejected, 1);
    world.change(&[of(&[2, 1, 0], true)]);
    assert_eq!(world.proxy.server_counters(1).ejected, 1);
    assert_eq!(
        play(&mut world, &commands(&[&get])).0,
        "$-1\r\n",
        "another has its keys"
    );
    world.change(&[of(&[2, 1, 0], false)]);
    assert_eq!(world.proxy.server_counters(1).ejected, 0);
}

#[test]
fn tables_grow_and_shrink_under_clients() {
    let mut world = world(&[0, 1]);
    let clients: Vec<usize> = (0..8)
        .map(|n| {
            let lines: Vec<String> = (0..50).map(|k| format!("SET c{n}k{k} v")).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            world.connect(commands(&lines))
        })
        .collect();
    for requests_max in [16, 9000, 32, 64] {
        world.pass(300);
        let pools = world.pools.clone();
        let limits = WorkerConfig {
            requests_max,
            client_requests_max: requests_max.min(64),
            ..limits()
        };
        world.change_all(&pools, &limits);
    }
    world.settle(50_000);
    for client in clients {
        assert_eq!(got(&world, client), "+OK\r\n".repeat(50));
    }
    assert_nothing_left(&mut world);
}

#[test]
fn too_much_on_its_way_out_is_refused() {
    let left = Left {
        servers: 4096,
        ..Left::default()
    };
    let (old, new) = ([with(&[0, 1])], [with(&[0])]);
    let meters = Proxy::private_meters(&new);
    let refused = Change::new((&old, &limits()), (&new, &limits()), left, 1, meters);
    let expected = ChangeError::Leaving {
        servers: 4097,
        pools: 0,
    };
    assert_eq!(refused.err(), Some(expected));
}

#[test]
fn servers_that_left_unused_cost_the_next_change_no_memory() {
    let mut world = world(&[0, 1]);
    for servers in [&[2][..], &[0], &[1, 2]] {
        let pools = [with(servers)];
        let change = Change::new(
            (&world.pools, &limits()),
            (&pools, &limits()),
            world.proxy.left(),
            1,
            Proxy::private_meters(&pools),
        );
        let mut change = change.unwrap();
        let taken = allocation_counter::measure(|| {
            world
                .proxy
                .reconfigure(&mut world.streams, &mut change, world.now_us);
        });
        assert_eq!(taken.count_total, 0, "{servers:?}");
        world.pools = pools.into();
    }
}
