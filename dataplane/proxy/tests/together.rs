//! Requests whose keys have to belong to one server.

use crate::model::dialogue::{commands, compatible, keys_of_both, play, text};
use crate::model::traffic::resp;
use crate::model::{Rng, World, limits, pool};
use tidegate_config::{Distribution, PoolConfig, Protocol};

const TAGGED: &str = "-CROSSSLOT Keys of 'sinter' belong to different servers: those with the same hash tag {...} in their names belong to one\r\n";

fn tagged(servers: usize) -> PoolConfig {
    PoolConfig {
        hash_tag: Some(*b"{}"),
        ..pool(Protocol::Redis, servers)
    }
}

fn world(pool: PoolConfig) -> World {
    World::new(&[pool], &limits(), 5)
}

/// How many requests of this name each server has seen.
fn seen(world: &World, name: &str) -> Vec<usize> {
    let wire = format!("\r\n{name}\r\n");
    let asked = |request: &&Vec<u8>| text(request).contains(&wire);
    world
        .servers
        .iter()
        .map(|server| server.seen.iter().filter(asked).count())
        .collect()
}

#[test]
fn keys_of_one_server_go_there_as_they_are() {
    let mut world = world(pool(Protocol::Redis, 2));
    let keys = keys_of_both(&mut world);
    for (server, [a, b]) in keys.iter().enumerate() {
        let before = seen(&world, "SINTER")[server];
        let lines = [
            format!("SINTER {a} {b}"),
            format!("SINTER {b} {a} {b}"),
            format!("EVAL s 2 {a} {b} more"),
            format!("SORT {a} STORE {b}"),
            format!("XREAD COUNT 1 STREAMS {b} {a} 0 0"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let got = play(&mut world, &commands(&lines));
        assert_eq!(got, (":2\r\n:3\r\n:5\r\n:3\r\n:7\r\n".to_owned(), false));
        assert_eq!(seen(&world, "SINTER")[server], before + 2);
    }
    world.assert_idle("after all replies");
}

#[test]
fn keys_of_different_servers_are_refused_by_name_and_the_connection_goes_on() {
    let mut world = world(pool(Protocol::Redis, 2));
    let [[a, _], [b, _]] = keys_of_both(&mut world);
    let untagged = |name: &str| {
        format!(
            "-CROSSSLOT Keys of '{name}' belong to different servers: the pool has no hash_tag that would keep them together\r\n"
        )
    };
    let lines = [
        format!("GET {a}"),
        format!("SINTER {a} {b}"),
        format!("RENAME {b} {a}"),
        format!("EVAL s 3 {a} {a} {b}"),
        format!("SORT {a} STORE {b}"),
        format!("XREAD STREAMS {a} {b} 0 0"),
        "PING".to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let names = ["sinter", "rename", "eval", "sort", "xread"];
    let errors: String = names.map(untagged).concat();
    let value = text(&world.servers[0].store[a.as_bytes()]);
    let value = format!("${}\r\n{value}\r\n", value.len());
    assert_eq!(
        play(&mut world, &commands(&lines)),
        (format!("{value}{errors}+PONG\r\n"), false)
    );
    for name in ["SINTER", "RENAME", "EVAL", "SORT", "XREAD"] {
        assert_eq!(seen(&world, name), [0, 0], "{name}");
    }
    assert_eq!(world.proxy.pool_counters(0).requests_refused, 5);
    world.assert_idle("after all replies");
}

#[test]
fn a_hash_tag_keeps_keys_together() {
    let mut world = world(tagged(3));
    for tag in 0..20 {
        let line = format!("SINTER a{{{tag}}} {{{tag}}}b x{{{tag}}}y");
        assert_eq!(
            play(&mut world, &commands(&[&line])),
            (":3\r\n".to_owned(), false)
        );
    }
    let (got, _) = play(&mut world, &commands(&["SINTER {1}a {2}a {3}a {4}a {5}a"]));
    assert_eq!(got, TAGGED);
    let all = seen(&world, "SINTER");
    assert_eq!(all.iter().sum::<usize>(), 20);
    assert!(all.iter().all(|&count| count > 0), "{all:?}");
}

#[test]
fn where_every_server_would_do_keys_are_not_compared() {
    let random = PoolConfig {
        distribution: Distribution::Random,
        ..pool(Protocol::Redis, 3)
    };
    for pool in [
        pool(Protocol::Redis, 1),
        random,
        compatible(Protocol::Redis, 3),
    ] {
        let mut world = world(pool);
        let line = ["SINTER a b c d e f g h i j"];
        let got = play(&mut world, &commands(&line.repeat(30)));
        assert_eq!(got, (":10\r\n".repeat(30), false));
    }
}

#[test]
fn a_script_without_keys_goes_to_the_first_server() {
    let mut world = world(pool(Protocol::Redis, 3));
    let got = play(&mut world, &commands(&["EVAL s 0"; 10]));
    assert_eq!(got, (":2\r\n".repeat(10), false));
    assert_eq!(seen(&world, "EVAL"), [10, 0, 0]);
    // Larger than a hold: it is passed on as it comes.
    let argument = vec![b'a'; 50_000];
    let large = resp(&[b"EVAL", b"s", b"0", &argument]);
    assert_eq!(play(&mut world, &large), (":3\r\n".to_owned(), false));
    assert_eq!(seen(&world, "EVAL"), [11, 0, 0]);
    assert_eq!(world.proxy.pool_counters(0).requests_streamed, 1);
    // A command that any server answers goes round.
    let large = resp(&[b"COMMAND", b"INFO", &argument]);
    assert_eq!(play(&mut world, &large.repeat(3)).0, ":2\r\n".repeat(3));
    assert_eq!(seen(&world, "COMMAND"), [1, 1, 1]);
    world.assert_idle("after all replies");
}

#[test]
fn what_cannot_be_held_as_a_whole_is_an_error_and_the_connection_goes_on() {
    let mut world = world(tagged(3));
    let key = [b"{t}", &[b'k'; 300][..]].concat();
    // Larger than the receive buffer, smaller than a hold.
    let held: Vec<&[u8]> = [&b"SINTER"[..]].into_iter().chain([&key[..]; 10]).collect();
    let beyond: Vec<&[u8]> = [&b"SINTER"[..]].into_iter().chain([&key[..]; 40]).collect();
    let requests = [
        resp(&held),
        resp(&beyond),
        commands(&["PING", "SINTER {t}a {t}b"]),
    ]
    .concat();
    let error = "-ERR Request too large to be held by the proxy (limit request_hold_bytes)\r\n";
    assert_eq!(
        play(&mut world, &requests),
        (format!(":10\r\n{error}+PONG\r\n:2\r\n"), false)
    );
    world.assert_idle("after all replies");
}

#[test]
fn a_single_key_is_passed_on_however_large_the_rest_is() {
    let mut world = world(pool(Protocol::Redis, 3));
    let argument = vec![b'a'; 50_000];
    let requests = [
        resp(&[b"EVAL", b"s", b"1", b"k", &argument]),
        resp(&[b"PFCOUNT", b"k"]),
    ]
    .concat();
    assert_eq!(
        play(&mut world, &requests),
        (":4\r\n:1\r\n".to_owned(), false)
    );
    assert_eq!(world.proxy.pool_counters(0).requests_streamed, 1);
}

/// Among other requests, pipelined, over receive buffers that wrap around.
#[test]
fn order_is_kept_among_other_requests() {
    for seed in 1..60 {
        let mut rng = Rng::new(seed);
        let mut world = World::new(&[tagged(3)], &limits(), seed);
        world.piece = 1 + rng.below(300);
        let mut clients = Vec::new();
        for client in 0..4 {
            let (mut requests, mut expected) = (Vec::new(), String::new());
            for number in 0..120 {
                let (line, reply) = match rng.below(6) {
                    0 => (format!("SET {{{client}}}k v{number}"), "+OK\r\n".to_owned()),
                    1 => (format!("GET none{number}"), "$-1\r\n".to_owned()),
                    2 => (
                        "SINTER {1}a {2}a {3}a {4}a {5}a".to_owned(),
                        TAGGED.to_owned(),
                    ),
                    3 => ("PING".to_owned(), "+PONG\r\n".to_owned()),
                    _ => {
                        let keys = 2 + rng.below(20);
                        let line = format!("SINTER{}", format!(" {{{number}}}k").repeat(keys));
                        (line, format!(":{keys}\r\n"))
                    }
                };
                requests.extend(commands(&[&line]));
                expected += &reply;
            }
            clients.push((world.connect(requests), expected));
        }
        world.settle(50_000);
        for (client, expected) in clients {
            assert_eq!(text(&world.clients[client].got), expected, "seed {seed}");
        }
        world.assert_idle(&format!("seed {seed}"));
    }
}
