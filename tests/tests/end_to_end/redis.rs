//! RESP2 through the proxy: split commands, local ones, and requests that are wrong.

use tidegate_tests::both_drivers;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::scene::Scene;

fn ask(client: &mut Redis, words: &[String]) -> Value {
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    client.ask(&words).unwrap()
}

/// `command` followed by `arguments`.
fn words(command: &str, arguments: &[String]) -> Vec<String> {
    [&[command.to_owned()], arguments].concat()
}

both_drivers!(commands_of_many_keys_are_split_and_merged_in_request_order);

fn commands_of_many_keys_are_split_and_merged_in_request_order(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        let keys: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
        let pairs: Vec<String> = keys
            .iter()
            .flat_map(|key| [key.clone(), key.to_uppercase()])
            .collect();
        assert_eq!(ask(&mut client, &words("MSET", &pairs)), Value::ok());

        // Misses and duplicates between the keys, each answered in its place.
        let mut asked: Vec<String> = keys.clone();
        asked.insert(7, "missing".to_owned());
        asked.push(keys[3].clone());
        asked.push(keys[3].clone());
        let expected = asked
            .iter()
            .map(|key| {
                if key == "missing" {
                    Value::Bulk(None)
                } else {
                    Value::bulk(key.to_uppercase().as_bytes())
                }
            })
            .collect();
        assert_eq!(
            ask(&mut client, &words("MGET", &asked)),
            Value::Array(Some(expected))
        );

        assert_eq!(
            ask(&mut client, &words("EXISTS", &asked)),
            Value::Integer(62)
        );
        assert_eq!(ask(&mut client, &words("TOUCH", &keys)), Value::Integer(60));
        assert_eq!(
            ask(&mut client, &words("DEL", &asked[..20])),
            Value::Integer(19)
        );
        assert_eq!(
            ask(&mut client, &words("UNLINK", &keys)),
            Value::Integer(41)
        );
        assert_eq!(ask(&mut client, &words("EXISTS", &keys)), Value::Integer(0));
    });
}

both_drivers!(commands_of_every_family_reach_the_server_of_their_key);

fn commands_of_every_family_reach_the_server_of_their_key(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        let dialogue: &[(&str, Value)] = &[
            ("APPEND s ab", Value::Integer(2)),
            ("strlen s", Value::Integer(2)),
            ("GETRANGE s 0 0", Value::bulk(b"a")),
            ("INCRBY n 41", Value::Integer(41)),
            ("INCR n", Value::Integer(42)),
            ("SETNX n 1", Value::Integer(0)),
            ("EXPIRE n 100", Value::Integer(1)),
            ("PERSIST n", Value::Integer(1)),
            ("TYPE n", Value::Simple("string".to_owned())),
            ("HSET h f 1 g 2", Value::Integer(2)),
            ("HGET h g", Value::bulk(b"2")),
            (
                "HMGET h f x",
                Value::Array(Some(vec![Value::bulk(b"1"), Value::Bulk(None)])),
            ),
            ("RPUSH l a b c", Value::Integer(3)),
            (
                "LRANGE l 0 -1",
                Value::Array(Some(vec![
                    Value::bulk(b"a"),
                    Value::bulk(b"b"),
                    Value::bulk(b"c"),
                ])),
            ),
            ("LPOP l", Value::bulk(b"a")),
            ("SADD t x", Value::Integer(1)),
            ("SISMEMBER t x", Value::Integer(1)),
            ("ZADD z 1 one 2 two", Value::Integer(2)),
            ("ZSCORE z two", Value::bulk(b"2")),
            (
                "ZRANGE z 0 0 WITHSCORES",
                Value::Array(Some(vec![Value::bulk(b"one"), Value::bulk(b"1")])),
            ),
            ("PFADD p a b", Value::Integer(1)),
            ("PFCOUNT p", Value::Integer(2)),
            ("SETBIT b 7 1", Value::Integer(0)),
            ("BITCOUNT b", Value::Integer(1)),
            (
                "EVAL return{KEYS[1],ARGV[1]} 1 k v",
                Value::Array(Some(vec![Value::bulk(b"k"), Value::bulk(b"v")])),
            ),
        ];
        for (request, expected) in dialogue {
            assert_eq!(client.words(request).unwrap(), *expected, "{request}");
        }
        assert!(
            client.words("INCR h").unwrap().is_error("WRONGTYPE"),
            "the server's own errors pass unchanged"
        );
    });
}

both_drivers!(the_proxy_answers_for_itself_what_no_key_decides);

fn the_proxy_answers_for_itself_what_no_key_decides(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        assert_eq!(
            client.words("PING").unwrap(),
            Value::Simple("PONG".to_owned())
        );
        assert_eq!(client.words("SELECT 0").unwrap(), Value::ok());
        assert!(matches!(
            client.words("COMMAND").unwrap(),
            Value::Array(Some(_))
        ));
        assert!(client.words("AUTH secret").unwrap().is_error("ERR"));
        client.connection.send(b"*1\r\n$4\r\nQUIT\r\n").unwrap();
        let farewell = client.connection.rest().unwrap();
        assert!(
            farewell.is_empty() || farewell == b"+OK\r\n",
            "{}",
            farewell.escape_ascii()
        );
    });
}

both_drivers!(
    a_pool_with_a_password_asks_for_it,
    LabOptions {
        memcached: 0,
        ..LabOptions::default()
    },
    |stage| LabConfig::new(stage, Family::V4).every_pool("redis_auth = \"opensesame\""),
    a_pool_with_a_password_asks_for_it
);

fn a_pool_with_a_password_asks_for_it(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        assert!(client.words("GET a").unwrap().is_error("NOAUTH"));
        assert!(client.words("AUTH wrong").unwrap().is_error("WRONGPASS"));
        assert!(client.words("GET a").unwrap().is_error("NOAUTH"));
        assert_eq!(client.words("AUTH opensesame").unwrap(), Value::ok());
        assert_eq!(client.words("GET a").unwrap(), Value::Bulk(None));
    });
    assert!(
        !scene.appliance.log().contains("opensesame"),
        "the password stands in the log"
    );
}

both_drivers!(wrong_requests_get_an_error_and_never_silence);

fn wrong_requests_get_an_error_and_never_silence(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let wrong: &[&[u8]] = &[
            b"*1\r\n$4\r\nKEYS\r\n",
            b"*1\r\n$7\r\nMONITOR\r\n",
            b"*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n",
            b"*2\r\n$6\r\nCONFIG\r\n$8\r\nnonsense\r\n",
            b"*4\r\n$4\r\nEVAL\r\n$1\r\ns\r\n$1\r\n2\r\n$1\r\na\r\n",
            b"*4\r\n$4\r\nEVAL\r\n$1\r\ns\r\n$99999999\r\n",
            b"*1\r\n$3\r\nGET\r\n",
            b"*3\r\n$3\r\nGET\r\n$1\r\na\r\n$1\r\nb\r\n",
            b"*2\r\n$4\r\nMSET\r\n$1\r\na\r\n",
            b"*2\r\n$6\r\nSELECT\r\n$2\r\n16\r\n",
            b"*1\r\n$8\r\nnonsense\r\n",
            b"*x\r\n",
            b"*1\r\n+GET\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$99999999999999999999\r\n",
            b"*99999999\r\n",
            b"$3\r\nGET\r\n",
        ];
        for request in wrong {
            let mut client = plan.redis(Family::V4);
            client.connection.send(request).unwrap();
            let reply = client
                .reply()
                .unwrap_or_else(|error| panic!("{}: {error}", request.escape_ascii()));
            assert!(
                matches!(reply, Value::Error(_)),
                "{} was answered {reply:?}",
                request.escape_ascii()
            );
        }
        assert_eq!(
            plan.redis(Family::V4).words("SET fine 1").unwrap(),
            Value::ok()
        );
    });
}

both_drivers!(a_refused_command_leaves_the_connection_usable);

fn a_refused_command_leaves_the_connection_usable(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        for refused in ["MOVE a 1", "GET", "CLUSTER INFO", "nonsense"] {
            assert!(
                matches!(client.words(refused).unwrap(), Value::Error(_)),
                "{refused}"
            );
            assert_eq!(
                client.words("SET usable 1").unwrap(),
                Value::ok(),
                "after {refused}"
            );
        }
    });
}
