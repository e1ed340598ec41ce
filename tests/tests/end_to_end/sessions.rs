//! Clients of real Redis servers that differ: in their dialect, their database, who they are, and how they write their commands.

use std::net::SocketAddr;
use std::process::Command;
use tidegate_tests::both_drivers;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::{Role, Stage};

fn redis_alone() -> LabOptions {
    LabOptions {
        memcached: 0,
        ..LabOptions::default()
    }
}

/// A client that speaks RESP3.
fn resp3(to: SocketAddr) -> Redis {
    let mut client = Redis::open(to).unwrap();
    let Value::Map(facts) = client.words("HELLO 3").unwrap() else {
        panic!("HELLO 3 is answered with a map")
    };
    assert!(facts.contains(&(Value::bulk(b"proto"), Value::Integer(3))));
    client
}

fn script(client: &mut Redis, text: &str) -> Value {
    client
        .ask(&[b"EVAL", text.as_bytes(), b"1", b"anything"])
        .unwrap()
}

fn texts(texts: &[&str]) -> Vec<Value> {
    texts
        .iter()
        .map(|text| Value::bulk(text.as_bytes()))
        .collect()
}

both_drivers!(each_client_gets_the_types_of_its_dialect);

fn each_client_gets_the_types_of_its_dialect(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    scene.on_client(|| {
        let mut two = Redis::open(to).unwrap();
        let mut three = resp3(to);
        for request in ["HSET h f v", "SADD s m", "ZADD z 1.5 m", "XADD x 1-1 f v"] {
            assert!(!matches!(two.words(request).unwrap(), Value::Error(_)));
        }
        let pair = || (Value::bulk(b"f"), Value::bulk(b"v"));
        // Both connections in turn, so that a mix-up would show.
        for _ in 0..20 {
            assert_eq!(
                two.words("HGETALL h").unwrap(),
                Value::Array(Some(texts(&["f", "v"])))
            );
            assert_eq!(three.words("HGETALL h").unwrap(), Value::Map(vec![pair()]));
            assert_eq!(
                two.words("SMEMBERS s").unwrap(),
                Value::Array(Some(texts(&["m"])))
            );
            assert_eq!(
                three.words("SMEMBERS s").unwrap(),
                Value::Set(texts(&["m"]))
            );
            assert_eq!(two.words("ZSCORE z m").unwrap(), Value::bulk(b"1.5"));
            assert_eq!(
                three.words("ZSCORE z m").unwrap(),
                Value::Double("1.5".to_owned())
            );
            assert_eq!(two.words("GET none").unwrap(), Value::Bulk(None));
            assert_eq!(three.words("GET none").unwrap(), Value::Null);
            assert_eq!(
                two.words("XREAD COUNT 1 STREAMS none 0").unwrap(),
                Value::Array(None)
            );
            assert_eq!(
                three.words("XREAD COUNT 1 STREAMS none 0").unwrap(),
                Value::Null
            );
            assert!(three.words("INCR h").unwrap().is_error("WRONGTYPE"));
        }
        let mut of_scripts = |text: &str| script(&mut three, text);
        let set = "redis.setresp(3);";
        assert_eq!(
            of_scripts(&format!("{set} return true")),
            Value::Boolean(true)
        );
        assert_eq!(
            of_scripts(&format!("{set} return false")),
            Value::Boolean(false)
        );
        assert_eq!(
            of_scripts(&format!("{set} return {{double=-2.5}}")),
            Value::Double("-2.5".to_owned())
        );
        assert_eq!(
            of_scripts(&format!(
                "{set} return {{big_number='1234567999999999999999999'}}"
            )),
            Value::BigNumber("1234567999999999999999999".to_owned())
        );
        assert_eq!(
            of_scripts(&format!(
                "{set} return {{verbatim_string={{format='txt',string='a b'}}}}"
            )),
            Value::Verbatim(b"txt:a b".to_vec())
        );
        assert_eq!(
            of_scripts(&format!("{set} return {{map={{f={{set={{m=true}}}}}}}}")),
            Value::Map(vec![(Value::bulk(b"f"), Value::Set(texts(&["m"])))])
        );
        // And what the proxy joins.
        assert_eq!(
            three.words("MSET a 1 b 2 c 3 d 4 e 5").unwrap(),
            Value::ok()
        );
        let mut expected = texts(&["1", "2", "3", "4", "5"]);
        expected.insert(2, Value::Null);
        assert_eq!(
            three.words("MGET a b none c d e").unwrap(),
            Value::Array(Some(expected))
        );
        assert_eq!(
            three.words("DEL a b none c d e").unwrap(),
            Value::Integer(5)
        );
    });
}

both_drivers!(a_dialect_can_be_changed_in_the_middle);

fn a_dialect_can_be_changed_in_the_middle(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    scene.on_client(|| {
        let mut client = Redis::open(to).unwrap();
        let mut requests = Vec::new();
        for turn in 0..50 {
            let version = 2 + turn % 2;
            requests.push(format!(
                "SET k{turn} {turn}\r\nHELLO {version}\r\nGET none\r\nMGET k{turn} none\r\n"
            ));
        }
        client
            .connection
            .send(requests.concat().as_bytes())
            .unwrap();
        for turn in 0..50 {
            let null = if turn % 2 == 0 {
                Value::Bulk(None)
            } else {
                Value::Null
            };
            assert_eq!(client.reply().unwrap(), Value::ok());
            let hello = client.reply().unwrap();
            assert_eq!(matches!(hello, Value::Map(_)), turn % 2 == 1, "{hello:?}");
            assert_eq!(client.reply().unwrap(), null, "turn {turn}");
            let number = Value::bulk(turn.to_string().as_bytes());
            assert_eq!(
                client.reply().unwrap(),
                Value::Array(Some(vec![number, null])),
                "turn {turn}"
            );
        }
    });
}

both_drivers!(databases_are_apart);

fn databases_are_apart(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    scene.on_client(|| {
        let mut clients: Vec<Redis> = (0..4).map(|_| Redis::open(to).unwrap()).collect();
        for (database, client) in clients.iter_mut().enumerate() {
            assert_eq!(
                client.words(&format!("SELECT {database}")).unwrap(),
                Value::ok()
            );
            for key in 0..30 {
                let set = format!("SET shared{key} {database}");
                assert_eq!(client.words(&set).unwrap(), Value::ok());
            }
        }
        for (database, client) in clients.iter_mut().enumerate() {
            for key in 0..30 {
                assert_eq!(
                    client.words(&format!("GET shared{key}")).unwrap(),
                    Value::bulk(database.to_string().as_bytes())
                );
            }
            assert!(client.words("SELECT 16").unwrap().is_error("ERR DB index"));
        }
        // The database goes with the connection, and RESET leaves it.
        assert_eq!(
            Redis::open(to).unwrap().words("GET shared1").unwrap(),
            Value::bulk(b"0")
        );
        assert_eq!(
            clients[3].words("RESET").unwrap(),
            Value::Simple("RESET".to_owned())
        );
        assert_eq!(clients[3].words("GET shared1").unwrap(), Value::bulk(b"0"));
    });
}

/// Servers that know a user for the proxy and nobody else.
fn with_users(stage: &dyn Stage) -> LabConfig {
    stage.host(Role::Server).run(|| {
        for server in stage.servers(ServerKind::Redis) {
            let mut direct = Redis::open(server.address(Family::V4)).unwrap();
            for line in [
                "ACL SETUSER proxy on >behind ~* +@all",
                "ACL SETUSER default off",
            ] {
                assert_eq!(direct.words(line).unwrap(), Value::ok());
            }
        }
    });
    let mut config = LabConfig::new(stage, Family::V4);
    for line in [
        "redis_auth = \"sesame\"",
        "redis_user = \"alice\"",
        "server_auth = \"behind\"",
        "server_user = \"proxy\"",
    ] {
        config = config.every_pool(line);
    }
    config
}

both_drivers!(
    users_log_in_on_both_sides,
    redis_alone(),
    with_users,
    users_log_in_on_both_sides
);

fn users_log_in_on_both_sides(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    scene.on_client(|| {
        let mut client = Redis::open(to).unwrap();
        assert!(client.words("GET k").unwrap().is_error("NOAUTH"));
        assert!(client.words("HELLO 3").unwrap().is_error("NOAUTH"));
        assert!(client.words("AUTH sesame").unwrap().is_error("WRONGPASS"));
        assert!(client.words("AUTH alice no").unwrap().is_error("WRONGPASS"));
        assert_eq!(client.words("AUTH alice sesame").unwrap(), Value::ok());
        assert_eq!(client.words("SET k v").unwrap(), Value::ok());
        let hello = client.words("HELLO 3 AUTH alice sesame SETNAME me");
        assert!(matches!(hello.unwrap(), Value::Map(_)));
        assert_eq!(client.words("CLIENT GETNAME").unwrap(), Value::bulk(b"me"));
        assert_eq!(client.words("GET k").unwrap(), Value::bulk(b"v"));
        assert_eq!(client.words("SELECT 5").unwrap(), Value::ok());
        assert_eq!(client.words("GET k").unwrap(), Value::Null);
        assert_eq!(
            client.words("RESET").unwrap(),
            Value::Simple("RESET".to_owned())
        );
        assert!(client.words("GET k").unwrap().is_error("NOAUTH"));
    });
    let log = scene.appliance.log();
    for secret in ["sesame", "behind"] {
        assert!(!log.contains(secret), "a password stands in the log");
    }
}

both_drivers!(replies_that_nobody_wants_are_left_out);

fn replies_that_nobody_wants_are_left_out(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    scene.on_client(|| {
        let mut client = Redis::open(to).unwrap();
        let requests = "CLIENT REPLY OFF\r\nSET r 1\r\nMSET s 2 t 3\r\nNOSUCH\r\nECHO no\r\nCLIENT REPLY ON\r\n\
             MGET r s t\r\nCLIENT REPLY SKIP\r\nGET r\r\nGET s\r\n";
        client.connection.send(requests.as_bytes()).unwrap();
        assert_eq!(client.reply().unwrap(), Value::ok());
        assert_eq!(
            client.reply().unwrap(),
            Value::Array(Some(texts(&["1", "2", "3"])))
        );
        assert_eq!(client.reply().unwrap(), Value::bulk(b"2"));
    });
}

both_drivers!(commands_can_be_typed);

fn commands_can_be_typed(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    scene.on_client(|| {
        let mut client = Redis::open(to).unwrap();
        let mut type_in = |line: &str| {
            client.connection.send(line.as_bytes()).unwrap();
            client.reply().unwrap()
        };
        assert_eq!(type_in("PING\r\n"), Value::Simple("PONG".to_owned()));
        assert_eq!(type_in("set \"a b\" 'it\\'s'\n"), Value::ok());
        assert_eq!(type_in("\r\n  GET \"\\x61 b\" \r\n"), Value::bulk(b"it's"));
        let long = "v".repeat(20_000);
        assert_eq!(type_in(&format!("set long {long}\r\n")), Value::ok());
        assert_eq!(type_in("get long\r\n"), Value::bulk(long.as_bytes()));
        assert!(type_in("GET / HTTP/1.1\r\n").is_error("ERR wrong number of arguments"));
        assert!(type_in("get \"k\r\n").is_error("ERR Protocol error: unbalanced quotes"));
        assert_eq!(client.connection.rest().unwrap(), b"");
    });
}

both_drivers!(redis_cli_works_in_both_dialects);

fn redis_cli_works_in_both_dialects(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    let run = |arguments: &[&str]| {
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let output = Command::new("redis-cli")
            .args(["-h", &host, "-p", &port])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    };
    scene.on_client(|| {
        assert_eq!(run(&["hset", "cli", "f", "v"]), "1");
        assert_eq!(run(&["hgetall", "cli"]), "f\nv");
        assert_eq!(run(&["-3", "--json", "hgetall", "cli"]), "{\"f\":\"v\"}");
        assert_eq!(run(&["-3", "-n", "3", "exists", "cli"]), "0");
        assert_eq!(run(&["-n", "3", "exists", "cli"]), "0");
        assert_eq!(run(&["config", "get", "databases"]), "databases\n16");
        assert_eq!(run(&["config", "get", "save"]), "save");
        assert!(run(&["config", "get", "*"]).contains("maxclients"));
        assert!(!run(&["config", "get", "*"]).contains("requirepass"));
        let client = run(&["client", "info"]);
        assert!(client.starts_with("id=") && client.contains(" resp=2 "));
    });
}
