//! Failing servers behind a pool with `compat = "twemproxy"`: what clients read, when they are closed, and that it is what nutcracker
//! does where that is installed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidegate_tests::both_twins;
use tidegate_tests::client::Connection;
use tidegate_tests::client::resp::{Redis, Value, command};
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::stage::{Driver, Role, Stage};
use tidegate_tests::twins::{TwinPool, Twins, assert_answer, commands};

/// Long enough for anything that is waited for here; it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where nothing listens.
fn nobody(stage: &dyn Stage) -> SocketAddr {
    stage.plan().fake(0, Family::V4)
}

/// A client of the first Redis server itself, on the server host.
fn first_redis(stage: &dyn Stage) -> Redis {
    Redis::open(stage.servers(ServerKind::Redis)[0].address(Family::V4)).unwrap()
}

fn pool(
    name: &'static str,
    kind: ServerKind,
    servers: &[SocketAddr],
    more: &[(&'static str, &'static str)],
) -> TwinPool {
    TwinPool {
        name,
        kind,
        servers: servers.to_vec(),
        tidegate: more.iter().map(|(tidegate, _)| *tidegate).collect(),
        nutcracker: more.iter().map(|(_, nutcracker)| *nutcracker).collect(),
    }
}

fn options() -> LabOptions {
    LabOptions {
        memcached: 1,
        redis: 2,
        fakes: 1,
        ..LabOptions::default()
    }
}

/// A connection to the first Redis server on which a script runs until it is killed.
fn send_endless_script(twins: &Twins) -> Redis {
    twins.scene.on_server(|| {
        let mut client = first_redis(twins.scene.stage());
        let script = command(&[b"EVAL", b"while true do end", b"0"]);
        client.connection.send(&script).unwrap();
        client
    })
}

/// The keys that a pool on `to` has on its live and on its dead server, of each two.
fn live_and_dead(kind: ServerKind, to: SocketAddr) -> [[String; 2]; 2] {
    let mut found = [Vec::new(), Vec::new()];
    for n in 0..64 {
        let mut connection = Connection::open(to).unwrap();
        let key = format!("key-{n}");
        let request = match kind {
            ServerKind::Redis => commands(&[&format!("GET {key}")]),
            ServerKind::Memcached => format!("get {key}\r\n").into_bytes(),
        };
        connection.send(&request).unwrap();
        let reply = connection.line().unwrap();
        let dead = reply.ends_with(b"Connection refused\r\n");
        assert!(dead || reply.starts_with(b"$") || reply == b"END\r\n");
        found[usize::from(dead)].push(key);
    }
    found.map(|keys| [keys[0].clone(), keys[1].clone()])
}

both_twins!(a_server_that_is_down_fails_what_needs_it_and_closes_behind_reads_of_several_keys);

fn a_server_that_is_down_fails_what_needs_it_and_closes_behind_reads_of_several_keys(
    driver: Driver,
) {
    let pools = |stage: &dyn Stage| {
        let half_dead = |kind| [stage.servers(kind)[0].address(Family::V4), nobody(stage)];
        let [redis, memcached] = [ServerKind::Redis, ServerKind::Memcached].map(half_dead);
        vec![
            pool("redis", ServerKind::Redis, &redis, &[]),
            pool("memcached", ServerKind::Memcached, &memcached, &[]),
        ]
    };
    let Some(twins) = Twins::raise(driver, options(), |_| {}, pools) else {
        return;
    };
    let mut keys = Vec::new();
    for (name, to) in twins.ways("redis") {
        twins.flush().unwrap();
        twins.scene.on_client(|| {
            let [[live, live2], [dead, dead2]] = live_and_dead(ServerKind::Redis, to);
            for (request, closed) in [
                (format!("GET {dead}"), false),
                (format!("MGET {dead}"), false),
                (format!("MGET {dead} {dead2}"), true),
                (format!("MGET {live} {dead} {live2}"), true),
                (format!("DEL {dead}"), false),
                (format!("DEL {live} {dead}"), false),
                (format!("UNLINK {dead} {dead2}"), false),
                (format!("TOUCH {dead} {live2}"), false),
                (format!("MSET {dead} 1 {dead2} 2"), false),
                (format!("MSET {live} 1 {dead} 2"), false),
                (format!("EXISTS {dead} {live}"), false),
            ] {
                let refused = b"-ERR Connection refused\r\n";
                assert_answer(
                    (name, to),
                    ServerKind::Redis,
                    &commands(&[&request]),
                    refused,
                    closed,
                );
            }
            let exists = commands(&[&format!("EXISTS {live2} {dead}")]);
            assert_answer((name, to), ServerKind::Redis, &exists, b":0\r\n", false);
        });
        keys.push(
            twins
                .scene
                .on_client(|| live_and_dead(ServerKind::Redis, to)),
        );
    }
    for (name, to) in twins.ways("memcached") {
        twins.scene.on_client(|| {
            let [[live, live2], [dead, dead2]] = live_and_dead(ServerKind::Memcached, to);
            for (request, closed) in [
                (format!("get {dead}\r\n"), false),
                (format!("get {dead} {dead2}\r\n"), true),
                (format!("gets {live} {live2} {dead}\r\n"), true),
                (format!("set {dead} 0 0 1\r\nv\r\n"), false),
                (format!("delete {dead}\r\n"), false),
                (
                    format!("set {dead} 0 0 1 noreply\r\nv\r\nget {dead}\r\n"),
                    false,
                ),
            ] {
                let refused = b"SERVER_ERROR Connection refused\r\n";
                // `version` may ask the dead server: what is open is tried with a key of the live one.
                let mut connection = Connection::open(to).unwrap();
                connection.send(request.as_bytes()).unwrap();
                assert_eq!(
                    connection.exactly(refused.len()).unwrap(),
                    refused,
                    "{name} {request}"
                );
                if closed {
                    assert!(connection.is_closed(), "{name} {request}");
                } else {
                    connection
                        .send(format!("get {live}\r\n").as_bytes())
                        .unwrap();
                    assert_eq!(connection.line().unwrap(), b"END\r\n", "{name} {request}");
                }
            }
        });
    }
    assert!(
        keys.iter().all(|found| *found == keys[0]),
        "both map keys alike"
    );
}

both_twins!(a_server_that_comes_back_serves_again);

fn a_server_that_comes_back_serves_again(driver: Driver) {
    let pools = |stage: &dyn Stage| {
        let servers: Vec<SocketAddr> = stage
            .servers(ServerKind::Redis)
            .iter()
            .map(|s| s.address(Family::V4))
            .collect();
        vec![pool("redis", ServerKind::Redis, &servers, &[])]
    };
    let Some(mut twins) = Twins::raise(driver, options(), |_| {}, pools) else {
        return;
    };
    let keys: Vec<String> = (0..20).map(|n| format!("key-{n}")).collect();
    let to = twins.tidegate("redis");
    // Whose keys are missing once the first server is down.
    let served = |twins: &Twins| -> Vec<bool> {
        twins.scene.on_client(|| {
            let mut client = Redis::open(to).unwrap();
            let one = |key: &String| match client.words(&format!("GET {key}")).unwrap() {
                Value::Bulk(None) => true,
                Value::Error(text) => {
                    let known = [
                        "ERR Connection refused",
                        "ERR Connection reset by peer",
                        "ERR unknown",
                    ];
                    assert!(known.contains(&text.as_str()), "{text}");
                    false
                }
                other => panic!("{other:?}"),
            };
            keys.iter().map(one).collect()
        })
    };
    assert!(served(&twins).iter().all(|live| *live));
    twins.scene.server_mut(ServerKind::Redis, 0).kill();
    let during = served(&twins);
    assert!(
        during.contains(&true) && during.contains(&false),
        "{during:?}"
    );
    twins
        .scene
        .server_mut(ServerKind::Redis, 0)
        .restart()
        .unwrap();
    let started = Instant::now();
    while served(&twins).contains(&false) {
        assert!(
            started.elapsed() < PATIENCE,
            "the server does not serve again"
        );
    }
}

both_twins!(servers_that_refuse_to_serve_are_told_as_failures);

fn servers_that_refuse_to_serve_are_told_as_failures(driver: Driver) {
    let more = [("timeout_ms = 20000", "timeout: 20000")];
    let pools = |stage: &dyn Stage| {
        let servers = [stage.servers(ServerKind::Redis)[0].address(Family::V4)];
        vec![pool("redis", ServerKind::Redis, &servers, &more)]
    };
    let Some(twins) = Twins::raise(driver, options(), |_| {}, pools) else {
        return;
    };
    let each = |lines: &[&str], reply: &str, closed: bool| {
        for way in twins.ways("redis") {
            let request = commands(lines);
            twins.scene.on_client(|| {
                assert_answer(way, ServerKind::Redis, &request, reply.as_bytes(), closed);
            });
        }
    };
    let on_server = |words: &str| {
        twins
            .scene
            .on_server(|| first_redis(twins.scene.stage()).words(words).unwrap())
    };
    let invalid = "-ERR Invalid argument\r\n";

    each(&["SET k v"], "+OK\r\n", false);
    assert_eq!(on_server("CONFIG SET maxmemory 1"), Value::ok());
    each(&["SET k w"], invalid, false);
    each(&["MSET k w l w"], invalid, false);
    each(&["GET k"], "$1\r\nv\r\n", false);
    assert_eq!(on_server("CONFIG SET maxmemory 0"), Value::ok());
    each(&["SET k v"], "+OK\r\n", false);

    // A replica without its master takes no writes. That is an error like others, but not for requests of several keys.
    assert_eq!(on_server("REPLICAOF 127.0.0.1 1"), Value::ok());
    let read_only = "-READONLY You can't write against a read only replica.\r\n";
    each(&["DEL k"], read_only, false);
    each(&["DEL k l"], invalid, false);
    each(&["SET k w"], read_only, false);
    assert_eq!(on_server("REPLICAOF NO ONE"), Value::ok());

    assert_eq!(on_server("CONFIG SET busy-reply-threshold 1"), Value::ok());
    let mut stuck = send_endless_script(&twins);
    let started = Instant::now();
    while !on_server("GET k").is_error("BUSY") {
        assert!(started.elapsed() < PATIENCE, "the script does not run");
    }
    each(&["GET k"], invalid, false);
    each(&["MGET k l"], invalid, true);
    each(&["DEL k l"], invalid, false);
    assert_eq!(on_server("SCRIPT KILL"), Value::ok());
    let ended = stuck.reply().unwrap();
    assert!(matches!(ended, Value::Error(_)), "{ended:?}");
    each(&["GET k"], "$1\r\nv\r\n", false);
}

both_twins!(a_slow_script_times_out_and_a_fast_one_does_not);

fn a_slow_script_times_out_and_a_fast_one_does_not(driver: Driver) {
    let more = [("timeout_ms = 200", "timeout: 200")];
    // A server lets a script be killed only when it has been busy with it for that long, by default 5 s.
    let hasten = |stage: &dyn Stage| {
        let words = "CONFIG SET busy-reply-threshold 1";
        let reply = stage
            .host(Role::Server)
            .run(|| first_redis(stage).words(words).unwrap());
        assert_eq!(reply, Value::ok());
    };
    let pools = |stage: &dyn Stage| {
        let servers = [stage.servers(ServerKind::Redis)[0].address(Family::V4)];
        vec![pool("redis", ServerKind::Redis, &servers, &more)]
    };
    let Some(twins) = Twins::raise(driver, options(), hasten, pools) else {
        return;
    };
    for (name, to) in twins.ways("redis") {
        twins.scene.on_client(|| {
            let mut client = Redis::open(to).unwrap();
            let script = "local x=0;for i=1,100 do x=x+i end;return x";
            assert_eq!(
                client
                    .ask(&[b"EVAL", script.as_bytes(), b"1", b"tmp"])
                    .unwrap(),
                Value::Integer(5050),
                "{name}"
            );
            let endless = "while true do end";
            let reply = client
                .ask(&[b"EVAL", endless.as_bytes(), b"1", b"tmp"])
                .unwrap();
            assert_eq!(
                reply,
                Value::Error("ERR Connection timed out".to_owned()),
                "{name}"
            );
        });
        let started = Instant::now();
        while twins.scene.on_server(|| {
            first_redis(twins.scene.stage())
                .words("SCRIPT KILL")
                .unwrap()
        }) != Value::ok()
        {
            assert!(started.elapsed() < PATIENCE, "the script cannot be ended");
        }
        twins.scene.on_client(|| {
            let started = Instant::now();
            // Until the late reply has been swallowed.
            while Redis::open(to).unwrap().words("SET k v").unwrap() != Value::ok() {
                assert!(started.elapsed() < PATIENCE, "{name} does not serve again");
            }
        });
    }
}

both_twins!(passwords_of_clients_and_of_servers_are_told_apart_as_by_nutcracker);

fn passwords_of_clients_and_of_servers_are_told_apart_as_by_nutcracker(driver: Driver) {
    let auth = |password: &'static str| match password {
        "hello" => [
            "redis_auth = \"hello\"",
            "redis_auth: hello",
            "server_auth = \"hello\"",
        ],
        _ => [
            "redis_auth = \"other\"",
            "redis_auth: other",
            "server_auth = \"other\"",
        ],
    };
    let demand = |stage: &dyn Stage| {
        stage.host(Role::Server).run(|| {
            let reply = first_redis(stage)
                .words("CONFIG SET requirepass hello")
                .unwrap();
            assert_eq!(reply, Value::ok());
        });
    };
    let pools = |stage: &dyn Stage| {
        let servers = [stage.servers(ServerKind::Redis)[0].address(Family::V4)];
        let make = |name, password| {
            let [client, both, server] = auth(password);
            let mut pool = pool(name, ServerKind::Redis, &servers, &[(client, both)]);
            pool.tidegate.push(server);
            pool
        };
        vec![
            make("right", "hello"),
            make("wrong", "other"),
            pool("none", ServerKind::Redis, &servers, &[]),
        ]
    };
    let Some(twins) = Twins::raise(driver, options(), demand, pools) else {
        return;
    };
    let noauth = "-NOAUTH Authentication required\r\n";
    let servers = "-NOAUTH Authentication required.\r\n";
    let invalid = "-ERR invalid password\r\n";
    let dialogues: &[(&str, &[&str], String)] = &[
        (
            "right",
            &[
                "PING",
                "SET k v",
                "GET k",
                "AUTH bad",
                "AUTH hello",
                "SET k v",
                "PING",
                "GET k",
                "AUTH bad",
                "PING",
                "GET k",
                "AUTH hello",
            ],
            format!(
                "{0}{invalid}+OK\r\n+OK\r\n+PONG\r\n$1\r\nv\r\n{invalid}{noauth}{noauth}+OK\r\n",
                noauth.repeat(3)
            ),
        ),
        (
            "wrong",
            &["PING", "SET k v", "AUTH other", "PING", "SET k v", "GET k"],
            format!("{noauth}{noauth}+OK\r\n+PONG\r\n{servers}{servers}"),
        ),
        (
            "none",
            &["PING", "SET k v", "GET k", "AUTH any"],
            format!("+PONG\r\n{servers}{servers}-ERR Client sent AUTH, but no password is set\r\n"),
        ),
    ];
    for (pool, lines, reply) in dialogues {
        for way in twins.ways(pool) {
            let request = commands(lines);
            twins.scene.on_client(|| {
                assert_answer(way, ServerKind::Redis, &request, reply.as_bytes(), false);
            });
        }
    }
    // The worker tells its manager in its own time.
    twins.scene.appliance.wait_for_log("the refusal", |line| {
        line.contains("refused the proxy's password")
    });
}
