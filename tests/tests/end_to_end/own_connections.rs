//! Transactions, commands that wait and subscriptions over several real servers: as with one Redis, wherever the keys are.

use std::thread::sleep;
use std::time::Duration;
use tidegate_tests::both_drivers;
use tidegate_tests::client::eventually;
use tidegate_tests::client::resp::{Redis, Value, command};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;

fn say(client: &mut Redis, text: &str) -> Value {
    client.words(text).unwrap()
}

fn queued() -> Value {
    Value::Simple("QUEUED".to_owned())
}

fn array(values: impl IntoIterator<Item = Value>) -> Value {
    Value::Array(Some(values.into_iter().collect()))
}

fn bulks(words: &[&str]) -> Value {
    array(words.iter().map(|word| Value::bulk(word.as_bytes())))
}

/// A key of each server of the Redis pool.
fn keys_of_all(scene: &Scene) -> Vec<String> {
    let plan = scene.plan();
    let servers = scene.servers(ServerKind::Redis).len();
    let mut found = vec![None; servers];
    for number in 0..1_000 {
        let key = format!("key-{number}");
        scene.on_client(|| say(&mut plan.redis(Family::V4), &format!("SET {key} x")));
        for (index, found) in found.iter_mut().enumerate() {
            if directly(scene, index, &format!("EXISTS {key}")) == Value::Integer(1) {
                found.get_or_insert_with(|| key.clone());
            }
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found
        .into_iter()
        .map(|key| key.expect("some key lands on each server"))
        .collect()
}

/// What server `index` says to somebody who asks it without Tidegate.
fn directly(scene: &Scene, index: usize, text: &str) -> Value {
    let server = scene.servers(ServerKind::Redis)[index].address(Family::V4);
    scene.on_server(|| say(&mut Redis::open(server).unwrap(), text))
}

/// Whether one of the sections of INFO of server `index` has this line.
fn says_of_itself(scene: &Scene, index: usize, line: &str) -> bool {
    let Value::Bulk(Some(text)) = directly(scene, index, "INFO") else {
        panic!("INFO is answered by a text");
    };
    String::from_utf8_lossy(&text).lines().any(|l| l == line)
}

both_drivers!(transactions_are_executed_or_not_as_with_one_server);

fn transactions_are_executed_or_not_as_with_one_server(scene: &mut Scene) {
    let plan = scene.plan();
    let keys = keys_of_all(scene);
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        let mut other = plan.redis(Family::V4);
        for key in &keys {
            assert_eq!(say(&mut client, &format!("WATCH {key}")), Value::ok());
            let Value::Bulk(Some(_)) = say(&mut client, &format!("GET {key}")) else {
                panic!("{key} is there");
            };
            assert_eq!(say(&mut client, "MULTI"), Value::ok());
            assert_eq!(say(&mut client, &format!("SET {key} 1")), queued());
            assert_eq!(say(&mut client, &format!("INCR {key}")), queued());
            let done = array([Value::ok(), Value::Integer(2)]);
            assert_eq!(say(&mut client, "EXEC"), done);
            // Somebody else is faster.
            assert_eq!(say(&mut client, &format!("WATCH {key}")), Value::ok());
            assert_eq!(say(&mut other, &format!("SET {key} theirs")), Value::ok());
            assert_eq!(say(&mut client, "MULTI"), Value::ok());
            assert_eq!(say(&mut client, &format!("SET {key} mine")), queued());
            assert_eq!(say(&mut client, "EXEC"), Value::Array(None));
            let value = say(&mut client, &format!("GET {key}"));
            assert_eq!(value, Value::bulk(b"theirs"));
        }
        assert_eq!(say(&mut client, "MULTI"), Value::ok());
        assert_eq!(say(&mut client, &format!("SET {} x", keys[0])), queued());
        let refused = say(&mut client, &format!("SET {} x", keys[1]));
        assert!(refused.is_error("CROSSSLOT"), "{refused:?}");
        assert!(say(&mut client, "EXEC").is_error("EXECABORT"));
        let value = say(&mut client, &format!("GET {}", keys[0]));
        assert_eq!(value, Value::bulk(b"theirs"));
        // Pipelined, with a large value, and an error within.
        let large = vec![b'x'; 300_000];
        let key = keys[2].as_bytes();
        let transaction = [
            command(&[b"MULTI"]),
            command(&[b"SET", key, &large]),
            command(&[b"LLEN", key]),
            command(&[b"STRLEN", key]),
            command(&[b"EXEC"]),
            command(&[b"PING"]),
        ];
        client.connection.send(&transaction.concat()).unwrap();
        assert_eq!(client.reply().unwrap(), Value::ok());
        for _ in 0..3 {
            assert_eq!(client.reply().unwrap(), queued());
        }
        let Value::Array(Some(replies)) = client.reply().unwrap() else {
            panic!("it was executed");
        };
        assert_eq!(replies[0], Value::ok());
        assert!(replies[1].is_error("WRONGTYPE"));
        assert_eq!(replies[2], Value::Integer(300_000));
        assert_eq!(client.reply().unwrap(), Value::Simple("PONG".to_owned()));
    });
    scene.wait_for_status("connections given back", |status| {
        status.pool_total("redis", "pins") == 0
    });
}

both_drivers!(a_transaction_of_a_client_that_dies_is_not_executed);

fn a_transaction_of_a_client_that_dies_is_not_executed(scene: &mut Scene) {
    let plan = scene.plan();
    let keys = keys_of_all(scene);
    for key in &keys {
        scene.on_client(|| {
            let mut client = plan.redis(Family::V4);
            say(&mut client, &format!("WATCH {key}"));
            say(&mut client, "MULTI");
            assert_eq!(say(&mut client, &format!("SET {key} gone")), queued());
            client.connection.reset().unwrap();
        });
    }
    scene.wait_for_status("clients gone", |status| {
        status.pool_total("redis", "pins") == 0
    });
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        for key in &keys {
            assert_eq!(say(&mut client, "MULTI"), Value::ok());
            assert_eq!(say(&mut client, &format!("GET {key}")), queued());
            assert_eq!(say(&mut client, "EXEC"), bulks(&["x"]));
        }
    });
}

both_drivers!(
    a_waiting_client_is_woken_by_another_and_takes_nothing_when_it_is_gone,
    LabOptions::default(),
    |stage| LabConfig::new(stage, Family::V4).every_pool("timeout_ms = 200"),
    a_waiting_client_is_woken_by_another_and_takes_nothing_when_it_is_gone
);

fn a_waiting_client_is_woken_by_another_and_takes_nothing_when_it_is_gone(scene: &mut Scene) {
    let plan = scene.plan();
    for (index, key) in keys_of_all(scene).iter().enumerate() {
        let (list, waiting) = (format!("{key}:list"), "blocked_clients:1");
        // Lists and the keys above need not be on the same server.
        let index = {
            scene.on_client(|| say(&mut plan.redis(Family::V4), &format!("RPUSH {list} first")));
            let exists = format!("EXISTS {list}");
            (0..3)
                .find(|server| directly(scene, *server, &exists) == Value::Integer(1))
                .unwrap_or(index)
        };
        let mut client = scene.on_client(|| {
            let mut client = plan.redis(Family::V4);
            let blpop = format!("BLPOP {list} 0");
            assert_eq!(say(&mut client, &blpop), bulks(&[&list, "first"]));
            client
                .connection
                .send(&command(&[b"BLPOP", list.as_bytes(), b"0"]))
                .unwrap();
            client
        });
        eventually("the server knows", || says_of_itself(scene, index, waiting));
        // Twice the pool's timeout, which is not meant for it.
        sleep(Duration::from_millis(400));
        scene.on_client(|| {
            let mut other = plan.redis(Family::V4);
            assert_eq!(
                say(&mut other, &format!("LPUSH {list} second")),
                Value::Integer(1)
            );
            assert_eq!(client.reply().unwrap(), bulks(&[&list, "second"]));
            assert_eq!(say(&mut client, "PING"), Value::Simple("PONG".to_owned()));
        });
        for reset in [true, false] {
            let blpop = command(&[b"BLPOP", list.as_bytes(), b"0"]);
            let mut gone = scene.on_client(|| plan.redis(Family::V4));
            gone.connection.send(&blpop).unwrap();
            eventually("it waits", || says_of_itself(scene, index, waiting));
            if reset {
                gone.connection.reset().unwrap();
            } else {
                drop(gone);
            }
            eventually("nobody waits", || {
                says_of_itself(scene, index, "blocked_clients:0")
            });
            scene.on_client(|| {
                let mut other = plan.redis(Family::V4);
                assert_eq!(
                    say(&mut other, &format!("LPUSH {list} kept")),
                    Value::Integer(1)
                );
                assert_eq!(
                    say(&mut other, &format!("LPOP {list}")),
                    Value::bulk(b"kept")
                );
            });
        }
    }
}

both_drivers!(streams_are_read_as_they_grow);

fn streams_are_read_as_they_grow(scene: &mut Scene) {
    let plan = scene.plan();
    let keys = keys_of_all(scene);
    scene.on_client(|| {
        let mut reader = plan.redis(Family::V4);
        let mut writer = plan.redis(Family::V4);
        for key in &keys {
            say(&mut writer, &format!("DEL {key}"));
            let read = format!("XREAD BLOCK 0 STREAMS {key} 0");
            let words: Vec<&[u8]> = read.split(' ').map(str::as_bytes).collect();
            reader.connection.send(&command(&words)).unwrap();
            let id = say(&mut writer, &format!("XADD {key} 1-1 field value"));
            assert_eq!(id, Value::bulk(b"1-1"));
            let entry = array([Value::bulk(b"1-1"), bulks(&["field", "value"])]);
            let stream = array([Value::bulk(key.as_bytes()), array([entry])]);
            assert_eq!(reader.reply().unwrap(), array([stream]));
            let nothing = say(&mut reader, &format!("XREAD BLOCK 10 STREAMS {key} $"));
            assert_eq!(nothing, Value::Array(None));
        }
        let both = say(&mut reader, &format!("BLPOP {} {} 0", keys[0], keys[1]));
        assert!(both.is_error("CROSSSLOT"), "{both:?}");
    });
}

fn message(channel: &str, text: &str) -> Value {
    bulks(&["message", channel, text])
}

fn confirmed(kind: &str, channel: &str, count: i64) -> Value {
    array([
        Value::bulk(kind.as_bytes()),
        Value::bulk(channel.as_bytes()),
        Value::Integer(count),
    ])
}

both_drivers!(subscribers_hear_everything_in_order);

fn subscribers_hear_everything_in_order(scene: &mut Scene) {
    const MESSAGES: usize = 3_000;
    let plan = scene.plan();
    scene.on_client(|| {
        let mut subscribers: Vec<Redis> = (0..60).map(|_| plan.redis(Family::V4)).collect();
        for (n, subscriber) in subscribers.iter_mut().enumerate() {
            let confirmation = if n % 2 == 0 {
                assert_eq!(
                    say(subscriber, "SUBSCRIBE news other"),
                    confirmed("subscribe", "news", 1)
                );
                confirmed("subscribe", "other", 2)
            } else {
                assert_eq!(
                    say(subscriber, "PSUBSCRIBE ne?s"),
                    confirmed("psubscribe", "ne?s", 1)
                );
                continue;
            };
            assert_eq!(subscriber.reply().unwrap(), confirmation);
        }
        let text = |n: usize| format!("{n}:{}", "x".repeat(n % 97));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut publisher = plan.redis(Family::V4);
                let requests: Vec<u8> = (0..MESSAGES)
                    .flat_map(|n| command(&[b"PUBLISH", b"news", text(n).as_bytes()]))
                    .collect();
                let replies = std::thread::scope(|scope| {
                    let stream = publisher.connection.stream().try_clone().unwrap();
                    scope
                        .spawn(move || std::io::Write::write_all(&mut &stream, &requests).unwrap());
                    (0..MESSAGES)
                        .map(|_| publisher.reply().unwrap())
                        .collect::<Vec<_>>()
                });
                assert!(replies.iter().all(|reply| *reply == Value::Integer(60)));
            });
            for (n, subscriber) in subscribers.iter_mut().enumerate() {
                scope.spawn(move || {
                    for m in 0..MESSAGES {
                        let expected = if n % 2 == 0 {
                            message("news", &text(m))
                        } else {
                            bulks(&["pmessage", "ne?s", "news", &text(m)])
                        };
                        assert_eq!(subscriber.reply().unwrap(), expected);
                    }
                });
            }
        });
        for (n, subscriber) in subscribers.iter_mut().enumerate() {
            let refused = say(subscriber, "GET k");
            assert!(refused.is_error("ERR Can't execute 'get'"), "{refused:?}");
            assert_eq!(say(subscriber, "PING hi"), bulks(&["pong", "hi"]));
            if n % 2 == 0 {
                say(subscriber, "UNSUBSCRIBE");
                subscriber.reply().unwrap();
            } else {
                assert_eq!(
                    say(subscriber, "PUNSUBSCRIBE"),
                    confirmed("punsubscribe", "ne?s", 0)
                );
            }
            assert_eq!(say(subscriber, "PING hi"), Value::bulk(b"hi"));
        }
    });
    scene.wait_for_status("connections given back", |status| {
        status.pool_total("redis", "pins") == 0
    });
}

both_drivers!(with_resp3_a_subscriber_goes_on_asking);

fn with_resp3_a_subscriber_goes_on_asking(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4).connection;
        let mut other = plan.redis(Family::V4);
        client.send(&command(&[b"HELLO", b"3"])).unwrap();
        // The list of modules, which is empty, comes last.
        while client.line().unwrap() != b"*0\r\n" {}
        let dialogue: [(&[&[u8]], &[u8]); 5] = [
            (
                &[b"SUBSCRIBE", b"news"],
                b">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n",
            ),
            (&[b"SET", b"k", b"v"], b"+OK\r\n"),
            (&[b"GET", b"k"], b"$1\r\nv\r\n"),
            (
                &[b"UNSUBSCRIBE"],
                b">3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n",
            ),
            (&[b"PING"], b"+PONG\r\n"),
        ];
        for (n, (words, reply)) in dialogue.into_iter().enumerate() {
            client.send(&command(words)).unwrap();
            let got = client.exactly(reply.len()).unwrap();
            assert_eq!(
                got.escape_ascii().to_string(),
                reply.escape_ascii().to_string()
            );
            if n == 1 {
                assert_eq!(say(&mut other, "PUBLISH news hello"), Value::Integer(1));
                let push = b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$5\r\nhello\r\n";
                assert_eq!(client.exactly(push.len()).unwrap(), push);
            }
        }
    });
    scene.wait_for_status("connections given back", |status| {
        status.pool_total("redis", "pins") == 0
    });
}

both_drivers!(shard_channels_are_served_by_the_servers_of_their_names);

fn shard_channels_are_served_by_the_servers_of_their_names(scene: &mut Scene) {
    let plan = scene.plan();
    let keys = keys_of_all(scene);
    for (index, channel) in keys.iter().enumerate() {
        let mut subscriber = scene.on_client(|| plan.redis(Family::V4));
        scene.on_client(|| {
            let confirmation = say(&mut subscriber, &format!("SSUBSCRIBE {channel}"));
            assert_eq!(confirmation, confirmed("ssubscribe", channel, 1));
            let mut publisher = plan.redis(Family::V4);
            let heard = say(&mut publisher, &format!("SPUBLISH {channel} hello"));
            assert_eq!(heard, Value::Integer(1));
            let expected = bulks(&["smessage", channel, "hello"]);
            assert_eq!(subscriber.reply().unwrap(), expected);
        });
        let there = directly(scene, index, "PUBSUB SHARDCHANNELS");
        assert_eq!(there, bulks(&[channel]));
    }
}

both_drivers!(the_death_of_a_server_is_told_to_those_on_it);

fn the_death_of_a_server_is_told_to_those_on_it(scene: &mut Scene) {
    let plan = scene.plan();
    let key = keys_of_all(scene).swap_remove(0);
    let [mut waiting, mut subscribed, mut transacting] =
        scene.on_client(|| [0, 1, 2].map(|_| plan.redis(Family::V4)));
    scene.on_client(|| {
        say(&mut subscribed, "SUBSCRIBE news");
        say(&mut transacting, "MULTI");
        say(&mut transacting, &format!("APPEND {key} y"));
        let list = format!("BLPOP {key}:none 0");
        let words: Vec<&[u8]> = list.split(' ').map(str::as_bytes).collect();
        waiting.connection.send(&command(&words)).unwrap();
    });
    scene.wait_for_status("own connections", |status| {
        status.pool_total("redis", "pins") == 3
    });
    for index in 0..3 {
        scene.server_mut(ServerKind::Redis, index).kill();
    }
    scene.on_client(|| {
        assert!(subscribed.connection.is_closed());
        let reply = waiting.reply().unwrap();
        assert!(reply.is_error("ERR Connection"), "{reply:?}");
        eventually("the loss is noticed", || {
            !matches!(
                say(&mut transacting, &format!("APPEND {key} y")),
                Value::Simple(_)
            ) || say(&mut transacting, "EXEC").is_error("EXECABORT")
        });
    });
    scene.wait_for_status("nothing is left", |status| {
        status.pool_total("redis", "clients_closed_lost") == 1
    });
}

both_drivers!(
    at_the_cap_clients_are_told_so,
    LabOptions {
        queues: 1,
        ..LabOptions::default()
    },
    |stage| LabConfig::new(stage, Family::V4).every_pool("own_connections_max = 2"),
    at_the_cap_clients_are_told_so
);

fn at_the_cap_clients_are_told_so(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut subscribers = [0, 1].map(|_| plan.redis(Family::V4));
        for subscriber in &mut subscribers {
            say(subscriber, "SUBSCRIBE news");
        }
        let mut client = plan.redis(Family::V4);
        for text in ["SUBSCRIBE news", "WATCH k", "BLPOP k 0"] {
            let refused = say(&mut client, text);
            assert!(
                refused.is_error("ERR No server connection left"),
                "{refused:?}"
            );
        }
        assert_eq!(say(&mut client, "MULTI"), Value::ok());
        assert!(say(&mut client, "SET k v").is_error("ERR No server connection left"));
        assert!(say(&mut client, "EXEC").is_error("EXECABORT"));
        assert_eq!(
            say(&mut subscribers[0], "UNSUBSCRIBE"),
            confirmed("unsubscribe", "news", 0)
        );
        assert_eq!(say(&mut subscribers[0], "SET k v"), Value::ok());
        assert_eq!(say(&mut client, "WATCH k"), Value::ok());
    });
    scene.wait_for_status("the refusals", |status| {
        status.pool_total("redis", "pins_refused") == 4
    });
}
