//! Server connections that are not plain: in another dialect or database, opened for those who need them and for nobody else.

use crate::model::dialogue::{commands, text};
use crate::model::redis::{HELLO_2, HELLO_3, redis, says, vanish_all};
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};

#[test]
fn clients_start_in_the_database_of_their_pool() {
    let config = PoolConfig {
        database: 3,
        ..pool(Protocol::Redis, 2)
    };
    let mut world = World::new(&[config, pool(Protocol::Redis, 2)], &limits(), 5);
    let got = says(
        &mut world,
        &[
            "SET k three",
            "SELECT 0",
            "GET k",
            "SET k zero",
            "SELECT 3",
            "GET k",
            "SELECT 1",
            "GET k",
            "RESET",
            "GET k",
        ],
    );
    assert_eq!(
        got,
        "+OK\r\n+OK\r\n$-1\r\n+OK\r\n+OK\r\n$5\r\nthree\r\n+OK\r\n$-1\r\n+RESET\r\n$5\r\nthree\r\n"
    );
    let got = says(&mut world, &["HELLO 3", "GET k", "CLIENT INFO"]);
    assert!(got.contains("$5\r\nthree\r\n"), "{got}");
    assert!(got.contains(" db=3 "), "{got}");
    let stored = |world: &World, database: usize| -> usize {
        let kept = |server: &crate::model::server::ModelServer| match database {
            0 => server.store.len(),
            other => server
                .databases
                .others
                .get(&other)
                .map_or(0, std::collections::HashMap::len),
        };
        world.servers.iter().map(kept).sum()
    };
    assert_eq!((stored(&world, 0), stored(&world, 3)), (1, 1));
    world.assert_idle("after the dialogues");
}

#[test]
fn a_first_database_that_servers_do_not_have_is_named() {
    let config = PoolConfig {
        database: 9,
        ..pool(Protocol::Redis, 1)
    };
    let mut world = World::new(&[config], &limits(), 5);
    world.servers[0].databases.count = 4;
    assert_eq!(
        says(&mut world, &["GET k", "PING"]),
        "-ERR Server refused to select the database (setting databases)\r\n+PONG\r\n"
    );
    world.assert_idle("after the dialogue");
}

#[test]
fn databases_are_apart_and_those_that_servers_do_not_have_are_named() {
    let mut world = redis(2);
    world.servers[0].databases.count = 4;
    world.servers[1].databases.count = 4;
    assert_eq!(
        says(
            &mut world,
            &[
                "SET k zero",
                "SELECT 1",
                "GET k",
                "SET k one",
                "SELECT 0",
                "GET k",
                "SELECT 1",
                "GET k"
            ]
        ),
        "+OK\r\n+OK\r\n$-1\r\n+OK\r\n+OK\r\n$4\r\nzero\r\n+OK\r\n$3\r\none\r\n"
    );
    assert_eq!(says(&mut world, &["GET k"]), "$4\r\nzero\r\n");
    let refused = "-ERR Server refused to select the database (setting databases)\r\n";
    assert_eq!(
        says(&mut world, &["SELECT 9", "GET k"]),
        format!("+OK\r\n{refused}")
    );
    let range = "-ERR DB index is out of range\r\n";
    let number = "-ERR value is not an integer or out of range\r\n";
    assert_eq!(
        says(
            &mut world,
            &[
                "SELECT 16",
                "SELECT -1",
                "SELECT x",
                "SELECT 99999999999",
                "SELECT 15"
            ]
        ),
        format!("{range}{range}{number}{number}+OK\r\n")
    );
    world.assert_idle("after the dialogues");
}

#[test]
fn what_a_server_refuses_changes_nothing_however_late_it_says_so() {
    let mut world = redis(1);
    world.servers[0].databases.count = 4;
    assert_eq!(says(&mut world, &["SET k zero"]), "+OK\r\n");
    for trickles in [false, true] {
        world.servers[0].trickles = trickles;
        world.servers[0].stopped = true;
        let large = "x".repeat(20_000);
        let set = format!("SET k {large}");
        let lines = [
            &["SELECT 9", "SET k nine", "GET k"][..],
            &["SELECT 9", &set],
            &["HELLO 3", "SELECT 9", "DEL k", "MSET k 1 l 2"],
        ];
        let clients = lines.map(|lines| world.connect(commands(lines)));
        world.pass(300_000);
        world.servers[0].stopped = false;
        world.pass(500_000);
        for client in clients {
            let got = text(&world.clients[client].got);
            assert!(
                got.contains("-ERR Server refused to select the database"),
                "{got:?}"
            );
        }
        assert_eq!(says(&mut world, &["GET k"]), "$4\r\nzero\r\n");
    }
    world.assert_idle("after refusals");
}

#[test]
fn a_server_that_does_not_answer_a_greeting_costs_its_time_and_no_more() {
    let mut world = redis(1);
    world.servers[0].stopped = true;
    let large = format!("SET k {}", "x".repeat(20_000));
    let lines = [
        &["SELECT 1", "GET k"][..],
        &["SELECT 1", &large],
        &["HELLO 3", "GET k"],
    ];
    let clients = lines.map(|lines| world.connect(commands(lines)));
    world.pass(600_000);
    for client in clients {
        let got = text(&world.clients[client].got);
        assert!(got.ends_with("-ERR Connection timed out\r\n"), "{got:?}");
    }
    world.servers[0].stopped = false;
    world.pass(300_000);
    assert_eq!(
        says(&mut world, &["SELECT 1", &large, "EXISTS k"]),
        "+OK\r\n+OK\r\n:1\r\n"
    );
    world.assert_idle("after timeouts");
}

#[test]
fn requests_do_not_overtake_those_before_a_change_of_database() {
    let mut world = redis(1);
    for server in &mut world.servers {
        server.trickles = true;
    }
    let mut lines = Vec::new();
    let mut expected = Vec::new();
    for n in 0..60 {
        lines.push(format!("SELECT {}", n % 3));
        lines.push(format!("SET k {n}"));
        lines.push("GET k".to_owned());
        lines.push("HELLO".to_owned());
        let value = n.to_string();
        expected.push(format!("+OK\r\n+OK\r\n${}\r\n{value}\r\n", value.len()));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let got = says(&mut world, &lines);
    let replies: Vec<&str> = got.split(HELLO_2).collect();
    let between = "$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
    let replies: String = replies
        .iter()
        .map(|part| part.strip_prefix(between).unwrap_or(part))
        .collect();
    assert_eq!(replies, expected.concat());
    assert_eq!(
        world.streams.connects, 3,
        "one connection for each database"
    );
}

#[test]
fn connections_that_are_not_plain_are_closed_when_nobody_needs_them() {
    let mut world = redis(1);
    says(
        &mut world,
        &["SET k v", "SELECT 1", "GET k", "HELLO 3", "GET k"],
    );
    assert_eq!(world.server_slots(0).len(), 3);
    world.pass(29_000_000);
    assert_eq!(world.server_slots(0).len(), 3);
    world.pass(3_000_000);
    assert_eq!(world.server_slots(0).len(), 1, "the plain one stays");
    assert_eq!(says(&mut world, &["SELECT 1", "GET k"]), "+OK\r\n$-1\r\n");
}

#[test]
fn at_the_limit_of_connections_idle_ones_give_way_and_nobody_gets_an_error() {
    let few = WorkerConfig {
        server_connections_max: 3,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &few, 5);
    assert_eq!(says(&mut world, &["SET k v"]), "+OK\r\n");
    for database in 1..16 {
        let got = says(
            &mut world,
            &[&format!("SELECT {database}"), "SET k v", "GET k"],
        );
        assert_eq!(got, "+OK\r\n+OK\r\n$1\r\nv\r\n", "database {database}");
        assert_eq!(says(&mut world, &["GET k"]), "$1\r\nv\r\n");
    }
    world.assert_idle("after all databases");
}

#[test]
fn connections_that_are_all_busy_are_an_error_with_a_name() {
    let few = WorkerConfig {
        server_connections_max: 1,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &few, 5);
    let got = says(&mut world, &["SET k v", "SELECT 1", "GET k"]);
    let full = "-ERR Proxy is out of server connections (limit server_connections_max)\r\n";
    assert_eq!(got, format!("+OK\r\n+OK\r\n{full}"));
}

#[test]
fn a_push_on_a_shared_connection_ends_it() {
    let mut world = redis(1);
    says(&mut world, &["HELLO 3", "GET k"]);
    world.servers[0].garbage = Some(b">2\r\n+invalidate\r\n*0\r\n".to_vec());
    let got = says(&mut world, &["HELLO 3", "GET k"]);
    assert!(
        got.ends_with("-ERR Invalid reply from server\r\n"),
        "{got:?}"
    );
    assert_eq!(world.proxy.server_counters(0).protocol_errors, 1);
}

/// Clients of all flavours at once: each sees its own database in its own dialect, and nobody else's replies.
#[test]
fn clients_of_all_flavours_are_served_side_by_side() {
    for seed in 0..20 {
        serve_all_flavours(seed);
    }
}

fn serve_all_flavours(seed: u64) {
    let mut world = World::new(&[pool(Protocol::Redis, 3)], &limits(), seed);
    let requests = 5 + world.rng.below(30);
    let clients: Vec<(usize, String)> = (0..8)
        .map(|n| {
            let (resp3, database) = (n % 2 == 1, n / 2);
            let mut lines = vec![format!("CLIENT SETNAME c{n}"), format!("SELECT {database}")];
            let mut expected = vec!["+OK\r\n+OK\r\n".to_owned()];
            if resp3 {
                lines.push("HELLO 3".to_owned());
            }
            for request in 0..requests {
                let key = format!("c{n}:{request}");
                lines.extend([
                    format!("SET {key} {n}"),
                    format!("MGET {key} none {key}"),
                    format!("GET none:{n}"),
                ]);
                let null = if resp3 { "_\r\n" } else { "$-1\r\n" };
                expected.push(format!(
                    "+OK\r\n*3\r\n$1\r\n{n}\r\n{null}$1\r\n{n}\r\n{null}"
                ));
            }
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            (world.connect(commands(&lines)), expected.concat())
        })
        .collect();
    world.settle(50_000);
    for (client, expected) in clients {
        let got = text(&world.clients[client].got);
        let end = "$7\r\nmodules\r\n*0\r\n";
        let got = match (got.find(HELLO_3), got.find(end)) {
            (Some(start), Some(tail)) => got[..start].to_owned() + &got[tail + end.len()..],
            _ => got,
        };
        assert_eq!(got, expected, "seed {seed}");
    }
    vanish_all(&mut world);
    world.assert_idle("after all clients");
}
