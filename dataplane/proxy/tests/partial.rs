//! Replies of several servers of which one fails: an error that says so, or what the others have, as the pool wants.

use crate::model::dialogue::{commands, play, text};
use crate::model::joined::{ask, fill, refuse, scan_all, with_partial, world};
use crate::model::traffic::resp;
use crate::model::{World, limits, pool};
use tidegate_config::{Partial, PoolConfig, Protocol};
use tidegate_proxy::streams::ServerId;

#[test]
fn a_server_that_is_out_is_named_when_all_have_to_take_part() {
    for partial in [Partial::Error, Partial::Misses] {
        let mut world = with_partial(Protocol::Redis, 3, partial);
        fill(&mut world, 30);
        refuse(&mut world, 1);
        let got = ask(&mut world, &["FLUSHALL", "PING"]);
        assert_eq!(
            got,
            "-ERR server server-1: Connection refused; carried out by 2 servers\r\n+PONG\r\n"
        );
        assert!(world.servers[0].store.is_empty() && world.servers[2].store.is_empty());
        world.streams.refuse.clear();
        world.streams.unreachable.push(ServerId(2));
        world.crash(2);
        let got = ask(&mut world, &["SCRIPT LOAD s"]);
        assert_eq!(
            got,
            "-ERR server server-2: No route to host; carried out by 2 servers\r\n"
        );
        world.assert_idle("after the errors");
    }
    let mut world = World::new(&[pool(Protocol::Memcached, 2)], &limits(), 5);
    refuse(&mut world, 0);
    let (got, _) = play(&mut world, b"flush_all\r\nflush_all noreply\r\nstats\r\n");
    assert_eq!(
        got,
        "SERVER_ERROR server server-0: Connection refused; carried out by 1 server\r\n\
         SERVER_ERROR server server-0: Connection refused\r\n"
    );
    world.assert_idle("after the errors");
}

#[test]
fn what_only_reads_lacks_a_server_or_is_an_error_as_the_pool_wants() {
    let mut world = with_partial(Protocol::Redis, 3, Partial::Error);
    fill(&mut world, 30);
    refuse(&mut world, 1);
    let reads = ["DBSIZE", "KEYS *", "INFO", "RANDOMKEY", "SCRIPT EXISTS s"];
    for read in reads {
        let got = ask(&mut world, &[read]);
        assert_eq!(
            got, "-ERR server server-1: Connection refused\r\n",
            "{read}"
        );
    }
    let mut world = with_partial(Protocol::Redis, 3, Partial::Misses);
    fill(&mut world, 30);
    let others: usize = [0, 2]
        .map(|server: usize| world.servers[server].store.len())
        .iter()
        .sum();
    refuse(&mut world, 1);
    for (read, reply) in reads.iter().zip([
        format!(":{others}\r\n"),
        format!("*{others}\r\n"),
        "$".to_owned(),
        "$5\r\nk".to_owned(),
        "*1\r\n:0\r\n".to_owned(),
    ]) {
        let got = ask(&mut world, &[*read]);
        assert!(got.starts_with(&reply), "{read}: {got}");
    }
    assert_eq!(world.proxy.pool_counters(0).replies_partial, 5);
    assert!(ask(&mut world, &["INFO"]).contains("tidegate_servers_answered:2\r\n"));
    // A server that is loading its data has none, but one that does not understand is to be heard.
    world.streams.refuse.clear();
    world.servers[1].garbage =
        Some(b"-LOADING Redis is loading the dataset in memory\r\n".to_vec());
    assert_eq!(ask(&mut world, &["DBSIZE"]), format!(":{others}\r\n"));
    world.servers[1].garbage = Some(b"-ERR unknown command\r\n".to_vec());
    assert_eq!(ask(&mut world, &["DBSIZE"]), "-ERR unknown command\r\n");
    for server in 0..3 {
        refuse(&mut world, server);
    }
    assert_eq!(
        ask(&mut world, &["DBSIZE", "PING"]),
        "-ERR server server-0: Connection refused\r\n+PONG\r\n"
    );
    world.assert_idle("after the errors");
}

#[test]
fn scan_passes_over_a_server_that_is_out_or_says_so() {
    let mut world = with_partial(Protocol::Redis, 3, Partial::Misses);
    let keys = fill(&mut world, 60);
    for server in 0..3 {
        refuse(&mut world, server);
        let lacks = world.servers[server].store.len();
        let seen = scan_all(&mut world, " COUNT 4");
        assert_eq!(seen.len(), keys.len() - lacks);
        assert!(seen.values().all(|&times| times == 1));
        world.streams.refuse.clear();
        world.streams.unreachable.push(ServerId(server as u16));
        assert_eq!(scan_all(&mut world, ""), seen);
        world.streams.unreachable.clear();
    }
    let mut world = with_partial(Protocol::Redis, 2, Partial::Error);
    refuse(&mut world, 0);
    assert_eq!(
        ask(&mut world, &["SCAN 0"]),
        "-ERR server server-0: Connection refused\r\n"
    );
    assert!(ask(&mut world, &["SCAN 1"]).starts_with("*2\r\n$1\r\n0\r\n"));
    world.assert_idle("after the last step");
}

#[test]
fn an_ejected_server_counts_as_failed() {
    for partial in [Partial::Error, Partial::Misses] {
        let pool = PoolConfig {
            auto_eject_hosts: true,
            server_failure_limit: 1,
            partial,
            ..pool(Protocol::Redis, 2)
        };
        let mut world = World::new(&[pool], &limits(), 5);
        world.servers[1].store.insert(b"k1".to_vec(), b"v".to_vec());
        refuse(&mut world, 0);
        ask(&mut world, &["FLUSHDB"]);
        assert_eq!(world.proxy.pool_counters(0).ejects, 1);
        world.servers[1].store.insert(b"k1".to_vec(), b"v".to_vec());
        let ejected = "-ERR server server-0: Server is ejected after failures";
        assert_eq!(
            ask(&mut world, &["FLUSHALL"]),
            format!("{ejected}; carried out by 1 server\r\n")
        );
        world.servers[1].store.insert(b"k1".to_vec(), b"v".to_vec());
        let read = if partial == Partial::Error {
            format!("{ejected}\r\n").repeat(3)
        } else {
            ":1\r\n*1\r\n$2\r\nk1\r\n*2\r\n$1\r\n0\r\n*1\r\n$2\r\nk1\r\n".to_owned()
        };
        assert_eq!(ask(&mut world, &["DBSIZE", "KEYS *", "SCAN 0"]), read);
        world.assert_idle("after the last reply");
    }
}

#[test]
fn garbage_costs_its_server_the_connection_and_the_client_gets_an_error() {
    let garbage: [&[u8]; 9] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"*-1\r\n",
        b"*1000000000000\r\n?",
        b"$5\r\nab\r\n$3\r\nxxxxx",
        b":1\r\n:2\r\n",
        b"*1\r\n*1\r\n*1\r\n!",
        b"*2\r\n$3\r\nabc\r\n*0\r\n",
        b"=5\r\ntxtxx\r\n",
        b"+OK",
    ];
    for request in [
        "DBSIZE",
        "KEYS *",
        "FLUSHALL",
        "INFO",
        "RANDOMKEY",
        "SCRIPT EXISTS a b",
        "SCRIPT LOAD s",
        "SCAN 1",
    ] {
        for bytes in garbage {
            let mut world = world(3);
            fill(&mut world, 12);
            world.servers[1].garbage = Some(bytes.to_vec());
            let client = world.connect(commands(&[request]));
            world.pass(1_000_000);
            let got = text(&world.clients[client].got);
            assert!(
                !got.is_empty() && got.ends_with("\r\n"),
                "{request}: {got:?} for {bytes:?}"
            );
            world.servers[1].garbage = None;
            world.clients[client].to_send = commands(&["PING"]);
            world.settle(1_000);
            assert_eq!(text(&world.clients[client].got), format!("{got}+PONG\r\n"));
            world.pass(1_000_000);
            world.assert_idle(request);
        }
    }
}

#[test]
fn a_slow_server_times_out_alone_and_its_late_reply_is_swallowed() {
    for partial in [Partial::Error, Partial::Misses] {
        let mut world = with_partial(Protocol::Redis, 3, partial);
        fill(&mut world, 30);
        ask(&mut world, &["DBSIZE"]);
        world.servers[2].stopped = true;
        let client = world.connect(commands(&["DBSIZE"]));
        world.pass(500_000);
        let two: usize = [0, 1]
            .map(|server: usize| world.servers[server].store.len())
            .iter()
            .sum();
        let expected = match partial {
            Partial::Error => "-ERR server server-2: Connection timed out\r\n".to_owned(),
            Partial::Misses => format!(":{two}\r\n"),
        };
        assert_eq!(text(&world.clients[client].got), expected);
        world.servers[2].stopped = false;
        assert_eq!(ask(&mut world, &["DBSIZE", "GET none"]), ":30\r\n$-1\r\n");
        assert_eq!(world.proxy.pool_counters(0).late_replies, 1);
        world.assert_idle("after the late reply");
    }
}

#[test]
fn clients_that_go_away_leave_nothing_behind() {
    for request in [
        "DBSIZE",
        "KEYS *",
        "INFO",
        "SCAN 0 COUNT 1000",
        "SCRIPT EXISTS a",
        "FLUSHALL",
    ] {
        for steps in 0..40 {
            let mut world = world(3);
            fill(&mut world, 300);
            world.piece = 60;
            let client = world.connect(commands(&["GET a", request, "GET b"]));
            for _ in 0..steps {
                world.step();
            }
            world.vanish(client);
            world.settle(5_000);
            assert_eq!(world.proxy.clients_open(), 0);
            world.assert_idle(request);
            assert_eq!(ask(&mut world, &["PING"]), "+PONG\r\n");
        }
    }
}

#[test]
fn keys_of_a_failed_server_are_misses_where_the_pool_wants_it() {
    for protocol in [Protocol::Redis, Protocol::Memcached] {
        let mut world = with_partial(protocol, 3, Partial::Misses);
        let keys: Vec<String> = (0..30).map(|n| format!("k{n:04}")).collect();
        for server in &mut world.servers {
            for key in &keys {
                server.store.insert(key.clone().into_bytes(), b"v".to_vec());
            }
        }
        let request = match protocol {
            Protocol::Redis => {
                let args: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
                resp(&[&[&b"MGET"[..]], &args[..]].concat())
            }
            Protocol::Memcached => format!("get {}\r\n", keys.join(" ")).into_bytes(),
        };
        let value = |key: &String, there: bool| match (protocol, there) {
            (Protocol::Redis, true) => "$1\r\nv\r\n".to_owned(),
            (Protocol::Redis, false) => "$-1\r\n".to_owned(),
            (Protocol::Memcached, true) => format!("VALUE {key} 0 1\r\nv\r\n"),
            (Protocol::Memcached, false) => String::new(),
        };
        let reply = |lost: &[Vec<String>]| {
            let is_lost = |key: &String| lost.iter().flatten().any(|other| other == key);
            let values: String = keys.iter().map(|key| value(key, !is_lost(key))).collect();
            match protocol {
                Protocol::Redis => format!("*30\r\n{values}"),
                Protocol::Memcached => format!("{values}END\r\n"),
            }
        };
        assert_eq!(play(&mut world, &request).0, reply(&[]));
        let owned: Vec<Vec<String>> = (0..3)
            .map(|server| {
                let seen = &world.servers[server].seen;
                let asked = text(seen.last().unwrap());
                keys.iter()
                    .filter(|key| asked.contains(*key))
                    .cloned()
                    .collect()
            })
            .collect();
        // Refused, unreachable, loading or out of memory, silent; in the end all of them.
        refuse(&mut world, 0);
        assert_eq!(play(&mut world, &request).0, reply(&owned[..1]));
        world.streams.unreachable.push(ServerId(1));
        world.crash(1);
        assert_eq!(play(&mut world, &request).0, reply(&owned[..2]));
        world.servers[2].garbage = Some(match protocol {
            Protocol::Redis => b"-LOADING Redis is loading the dataset in memory\r\n".to_vec(),
            Protocol::Memcached => b"SERVER_ERROR out of memory\r\n".to_vec(),
        });
        assert_eq!(play(&mut world, &request).0, reply(&owned));
        world.streams.unreachable.push(ServerId(2));
        world.streams.unreachable.push(ServerId(0));
        world.crash(2);
        assert_eq!(play(&mut world, &request).0, reply(&owned));
        assert_eq!(world.proxy.pool_counters(0).replies_partial, 4);
        world.assert_idle("after the last reply");
    }
}

#[test]
fn a_chunked_mget_has_misses_for_a_server_that_fails_in_its_middle() {
    let mut world = with_partial(Protocol::Redis, 2, Partial::Misses);
    let keys: Vec<String> = (0..3_000).map(|n| format!("k{n:04}")).collect();
    for server in &mut world.servers {
        for key in &keys {
            server.store.insert(key.clone().into_bytes(), b"v".to_vec());
        }
    }
    let args: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let request = resp(&[&[&b"MGET"[..]], &args[..]].concat());
    let client = world.connect(request.clone());
    while world.clients[client].got.len() < 3_000 {
        world.step();
    }
    refuse(&mut world, 1);
    world.settle(20_000);
    let got = text(&world.clients[client].got);
    assert!(
        world.clients[client].closed.is_none(),
        "the connection stays"
    );
    let (hits, misses) = (
        got.matches("$1\r\nv\r\n").count(),
        got.matches("$-1\r\n").count(),
    );
    assert_eq!(hits + misses, 3_000);
    assert!(misses > 100 && hits > 1_500, "{hits} and {misses}");
    // Nobody is there any more.
    for server in [0, 1] {
        world.streams.unreachable.push(ServerId(server));
        world.crash(usize::from(server));
    }
    let (got, _) = play(&mut world, &request);
    assert_eq!(got, format!("*3000\r\n{}", "$-1\r\n".repeat(3_000)));
    world.assert_idle("after the last reply");
}

#[test]
fn keys_that_one_server_owns_are_misses_as_well_but_a_single_key_is_an_error() {
    let mut world = with_partial(Protocol::Redis, 2, Partial::Misses);
    for server in 0..2 {
        refuse(&mut world, server);
    }
    assert_eq!(ask(&mut world, &["MGET a a"]), "*2\r\n$-1\r\n$-1\r\n");
    assert_eq!(
        ask(&mut world, &["MGET a", "GET a"]),
        "-ERR Connection refused\r\n".repeat(2)
    );
    assert_eq!(
        ask(&mut world, &["MSET a 1 b 2", "DEL a b c d"]),
        "-ERR Connection refused\r\n".repeat(2)
    );
    world.assert_idle("after the errors");
}
