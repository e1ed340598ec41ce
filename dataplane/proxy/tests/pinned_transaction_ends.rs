//! Transactions that do not come to their EXEC, or cannot begin: servers and clients that go away, limits, a drain.

use crate::model::dialogue::{commands, keys_of_both};
use crate::model::redis::{assert_all_clean, goes_on, redis, says, take};
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, WorkerConfig};
use tidegate_proxy::streams::ServerId;

#[test]
fn a_server_that_dies_aborts_what_was_not_executed() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    let client = world.connect(commands(&["MULTI", &format!("SET {a} x")]));
    world.settle(20_000);
    take(&mut world, client);
    world.crash(0);
    world.settle(20_000);
    let got = goes_on(
        &mut world,
        client,
        &[
            &format!("SET {a} x"),
            &format!("SET {a} x"),
            "EXEC",
            &format!("GET {a}"),
        ],
    );
    assert!(
        got.starts_with(
            "-ERR the server connection of this transaction was lost\r\n+QUEUED\r\n-EXECABORT"
        ),
        "{got}"
    );
    assert!(
        got.ends_with("$3\r\nv10\r\n") || got.contains("\r\n$"),
        "{got}"
    );
    // The same for watched keys, of which nobody knows any more whether they changed.
    goes_on(&mut world, client, &[&format!("WATCH {a}")]);
    world.crash(0);
    world.settle(20_000);
    let got = goes_on(&mut world, client, &["MULTI", "EXEC"]);
    assert!(got.starts_with("+OK\r\n-EXECABORT"), "{got}");
    goes_on(&mut world, client, &[&format!("WATCH {a}")]);
    world.crash(0);
    world.settle(20_000);
    assert_eq!(
        goes_on(&mut world, client, &["UNWATCH", "PING"]),
        "+OK\r\n+PONG\r\n"
    );
    world.streams.refuse.push(ServerId(0));
    world.crash(0);
    let set = format!("SET {a} x");
    let got = goes_on(&mut world, client, &["MULTI", &set]);
    assert_eq!(got, "+OK\r\n-ERR Connection refused\r\n");
    let got = goes_on(&mut world, client, &["EXEC"]);
    assert!(got.starts_with("-EXECABORT"), "{got}");
    world.streams.refuse.clear();
    world.streams.unreachable.push(ServerId(0));
    let got = goes_on(
        &mut world,
        client,
        &["MULTI", &format!("SET {a} x"), "EXEC"],
    );
    assert!(got.contains("-ERR No route to host\r\n-EXECABORT"), "{got}");
    assert_all_clean(&world);
}

#[test]
fn a_server_that_stalls_aborts_and_its_late_answers_reach_nobody() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    let client = world.connect(commands(&["MULTI", &format!("SET {a} x")]));
    world.settle(20_000);
    world.servers[0].stopped = true;
    world.clients[client].to_send = commands(&[&format!("SET {a} y")]);
    world.pass(500_000);
    assert!(take(&mut world, client).ends_with("-ERR Connection timed out\r\n"));
    world.servers[0].stopped = false;
    let got = goes_on(&mut world, client, &["EXEC", &format!("GET {a}")]);
    assert!(got.starts_with("-EXECABORT"), "{got}");
    assert!(
        !got.contains("QUEUED") && !got.ends_with("$1\r\ny\r\n"),
        "{got}"
    );
    assert_all_clean(&world);
    // EXEC itself: whether it was executed is not known, and the connection is not used before it has answered.
    goes_on(&mut world, client, &["MULTI", &format!("SET {a} z")]);
    world.servers[0].stopped = true;
    world.clients[client].to_send = commands(&["EXEC"]);
    world.pass(500_000);
    assert_eq!(take(&mut world, client), "-ERR Connection timed out\r\n");
    world.servers[0].stopped = false;
    let got = goes_on(&mut world, client, &["MULTI", &format!("GET {a}"), "EXEC"]);
    assert_eq!(got, "+OK\r\n+QUEUED\r\n*1\r\n$1\r\nz\r\n");
    assert_all_clean(&world);
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    for lines in [
        &["MULTI"][..],
        &["MULTI", "PING"],
        &["MULTI", &format!("SET {a} gone")],
        &["MULTI", &format!("SET {a} gone"), "BOGUS"],
        &[&format!("WATCH {a}")],
        &[&format!("WATCH {a}"), "MULTI", &format!("SET {a} gone")],
    ] {
        for half in [false, true] {
            let client = world.connect(commands(lines));
            world.clients[client].half_close_when_sent = half;
            world.settle(20_000);
            if half {
                assert!(world.clients[client].finished, "{lines:?}");
            } else {
                world.vanish(client);
                world.settle(20_000);
            }
            assert_all_clean(&world);
        }
    }
    for end in ["QUIT", "EXEC"] {
        let client = world.connect(commands(&["MULTI", &format!("GET {a}"), end]));
        world.clients[client].half_close_when_sent = true;
        world.settle(20_000);
        assert!(world.clients[client].finished);
        assert_all_clean(&world);
    }
    assert!(!says(&mut world, &[&format!("GET {a}")]).contains("gone"));
}

#[test]
fn at_the_cap_a_client_is_told_so_and_a_place_that_is_free_is_used() {
    let config = PoolConfig {
        own_connections_max: 2,
        ..pool(Protocol::Redis, 2)
    };
    let mut world = World::new(&[config], &limits(), 5);
    let first = world.connect(commands(&["MULTI", "SET a b"]));
    let second = world.connect(commands(&["WATCH a"]));
    world.settle(20_000);
    take(&mut world, first);
    let full =
        "-ERR No server connection left for a client of its own (limit own_connections_max)\r\n";
    for line in ["WATCH a", "BLPOP a 0", "SUBSCRIBE a"] {
        assert_eq!(
            says(&mut world, &[line, "PING"]),
            format!("{full}+PONG\r\n")
        );
    }
    let got = says(&mut world, &["MULTI", "SET a b", "GET a", "EXEC", "PING"]);
    let aborted = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    let expected = format!("+OK\r\n{full}+QUEUED\r\n{aborted}+PONG\r\n");
    assert_eq!(got, expected, "nothing of it is executed");
    assert_eq!(world.proxy.pool_counters(0).pins_refused, 4);
    assert_eq!(goes_on(&mut world, first, &["DISCARD"]), "+OK\r\n");
    assert_eq!(
        says(&mut world, &["MULTI", "GET a", "EXEC"]),
        "+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n"
    );
    world.vanish(second);
    world.settle(20_000);
    assert_all_clean(&world);
}

#[test]
fn own_connections_leave_the_shared_ones_their_places() {
    let limits = WorkerConfig {
        server_connections_max: 4,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 2)], &limits, 5);
    let clients: Vec<usize> = (0..5)
        .map(|_| world.connect(commands(&["WATCH a"])))
        .collect();
    world.settle(20_000);
    let watching = clients
        .iter()
        .filter(|&&client| world.clients[client].got == b"+OK\r\n");
    assert_eq!(watching.count(), 2);
    let [[_, _], [_, _]] = keys_of_both(&mut world);
}

#[test]
fn a_drained_proxy_finishes_transactions_and_nothing_else() {
    let mut world = redis(2);
    let [[a, _], _] = keys_of_both(&mut world);
    let busy = world.connect(commands(&["MULTI", &format!("SET {a} last")]));
    let watching = world.connect(commands(&[&format!("WATCH {a}")]));
    world.settle(20_000);
    take(&mut world, busy);
    world.proxy.drain(&mut world.streams, world.now_us);
    world.settle(20_000);
    assert!(world.clients[watching].finished && !world.clients[busy].finished);
    let got = goes_on(&mut world, busy, &[&format!("GET {a}"), "EXEC", "PING"]);
    assert_eq!(got, "+QUEUED\r\n*2\r\n+OK\r\n$4\r\nlast\r\n");
    assert!(world.clients[busy].finished && world.proxy.is_drained());
    assert_all_clean(&world);
}
