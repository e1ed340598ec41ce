//! Clients that differ: in their dialect, who they are, and whether they want replies.

use crate::model::dialogue::{commands, play, text};
use crate::model::redis::{HELLO_2, HELLO_3, redis, says, vanish_all};
use crate::model::{World, limits, pool};
use tidegate_config::{PoolConfig, Protocol, Secret, WorkerConfig};

const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

const NO_AUTH: &str = "-NOAUTH Authentication required.\r\n";

#[test]
fn hello_chooses_the_dialect_of_the_proxy_and_of_the_servers() {
    let mut world = redis(2);
    let got = says(
        &mut world,
        &[
            "HELLO",
            "GET k",
            "HGETALL h",
            "HELLO 3",
            "GET k",
            "HGETALL h",
            "HELLO",
            "HELLO 2",
            "MGET a b",
        ],
    );
    let rest = |got: &str, front: &str| -> String {
        let got = got.strip_prefix(front).unwrap_or_else(|| panic!("{got:?}"));
        let id = got
            .strip_prefix("$2\r\nid\r\n:1\r\n")
            .expect("the first client");
        let end = "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
        id.strip_prefix(end).expect("the end of HELLO").to_owned()
    };
    let got = rest(&got, HELLO_2);
    let got = got.strip_prefix("$-1\r\n*2\r\n+f\r\n$-1\r\n").unwrap();
    let got = rest(got, HELLO_3);
    let got = got.strip_prefix("_\r\n%1\r\n+f\r\n_\r\n").unwrap();
    let got = rest(got, HELLO_3);
    assert_eq!(rest(&got, HELLO_2), "*2\r\n$-1\r\n$-1\r\n");
    world.assert_idle("after the dialogue");
}

#[test]
fn elements_of_both_dialects_are_merged() {
    let mut world = redis(3);
    says(&mut world, &["MSET a 1 b 2 c 3 d 4"]);
    let got = says(
        &mut world,
        &["HELLO 3", "MGET a x b y c z d", "EXISTS a b x", "DEL a b x"],
    );
    let tail = "*7\r\n$1\r\n1\r\n_\r\n$1\r\n2\r\n_\r\n$1\r\n3\r\n_\r\n$1\r\n4\r\n:2\r\n:2\r\n";
    assert!(got.ends_with(tail), "{got:?}");
}

#[test]
fn hello_is_refused_in_the_words_of_redis() {
    let mut world = redis(1);
    for (line, reply) in [
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        (
            "HELLO x",
            "-ERR Protocol version is not an integer or out of range\r\n",
        ),
        (
            "HELLO 03",
            "-ERR Protocol version is not an integer or out of range\r\n",
        ),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        (
            "HELLO 3 AUTH default",
            "-ERR Syntax error in HELLO option 'AUTH'\r\n",
        ),
        (
            "HELLO 3 SETNAME",
            "-ERR Syntax error in HELLO option 'SETNAME'\r\n",
        ),
        (
            "HELLO 3 x\u{1}\u{7f}",
            "-ERR Syntax error in HELLO option 'x??'\r\n",
        ),
        ("HELLO 3 AUTH bob x", WRONG),
    ] {
        // The dialect stays what it was.
        assert_eq!(
            says(&mut world, &[line, "GET k"]),
            format!("{reply}$-1\r\n"),
            "{line}"
        );
    }
}

#[test]
fn a_server_that_does_not_know_resp3_is_named_and_stays_in_use() {
    let ejecting = PoolConfig {
        auto_eject_hosts: true,
        ..pool(Protocol::Redis, 1)
    };
    let mut world = World::new(&[ejecting], &limits(), 5);
    world.servers[0].databases.resp3 = false;
    let refused = "-ERR Server refused RESP3 (HELLO 3)\r\n";
    for _ in 0..4 {
        let got = says(&mut world, &["HELLO 3", "GET k"]);
        assert!(got.ends_with(refused), "{got:?}");
    }
    assert_eq!(says(&mut world, &["SET k v"]), "+OK\r\n");
    assert_eq!(world.proxy.pool_counters(0).ejects, 0);
}

#[test]
fn users_log_in_with_their_passwords() {
    let guarded = PoolConfig {
        redis_auth: Some(Secret::new("sesame".into())),
        redis_user: Some("alice".into()),
        server_auth: Some(Secret::new("behind".into())),
        server_user: Some("proxy".into()),
        ..pool(Protocol::Redis, 1)
    };
    let mut world = World::new(&[guarded], &limits(), 5);
    for (lines, reply) in [
        (&["AUTH sesame", "GET k"][..], format!("{WRONG}{NO_AUTH}")),
        (&["AUTH default sesame", "GET k"], format!("{WRONG}{NO_AUTH}")),
        (&["AUTH alice sesam", "GET k"], format!("{WRONG}{NO_AUTH}")),
        (&["AUTH alice sesame", "GET k"], "+OK\r\n$-1\r\n".into()),
        (&["AUTH alice sesame", "AUTH alice x", "GET k"], format!("+OK\r\n{WRONG}$-1\r\n")),
        (&["AUTH alice sesame", "RESET", "GET k"], format!("+OK\r\n+RESET\r\n{NO_AUTH}")),
        (&["SELECT 1", "CLIENT ID", "CONFIG GET *", "ECHO x"], NO_AUTH.repeat(4)),
        (&["HELLO 3"], "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n".into()),
        (&["HELLO 3 AUTH alice no", "GET k"], format!("{WRONG}{NO_AUTH}")),
        (&["AUTH a b c"], "-ERR syntax error\r\n".into()),
    ] {
        assert_eq!(says(&mut world, lines), reply, "{lines:?}");
    }
    let got = says(
        &mut world,
        &[
            "HELLO 3 AUTH alice sesame SETNAME me",
            "GET k",
            "CLIENT GETNAME",
        ],
    );
    assert!(
        got.starts_with(HELLO_3) && got.ends_with("_\r\n$2\r\nme\r\n"),
        "{got:?}"
    );
    assert_eq!(
        text(&world.servers[0].seen[0]),
        "*3\r\n$4\r\nAUTH\r\n$5\r\nproxy\r\n$6\r\nbehind\r\n"
    );
}

#[test]
fn a_pool_without_a_password_lets_the_default_user_in() {
    let mut world = redis(1);
    let none = "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n";
    assert_eq!(
        says(
            &mut world,
            &["AUTH x", "AUTH default x", "AUTH bob x", "PING"]
        ),
        format!("{none}+OK\r\n{WRONG}+PONG\r\n")
    );
}

#[test]
fn clients_name_themselves_and_are_told_of_themselves_alone() {
    let mut world = redis(1);
    let bad = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
    assert_eq!(
        says(
            &mut world,
            &[
                "CLIENT GETNAME",
                "CLIENT SETNAME me",
                "CLIENT GETNAME",
                "CLIENT SETNAME a\u{1}b",
                "CLIENT SETNAME ",
                "CLIENT GETNAME",
                "CLIENT ID"
            ]
        ),
        format!("$-1\r\n+OK\r\n$2\r\nme\r\n{bad}+OK\r\n$-1\r\n:1\r\n")
    );
    let long = "x".repeat(129);
    let set_long = format!("CLIENT SETNAME {long}");
    assert_eq!(
        says(
            &mut world,
            &[
                &set_long,
                "CLIENT SETINFO lib-name lib",
                "CLIENT SETINFO LIB-VER 1.2",
                "CLIENT SETINFO other x",
                "CLIENT SETINFO lib-name a\tb"
            ]
        ),
        "-ERR Client names can have at most 128 bytes at this proxy\r\n+OK\r\n+OK\r\n-ERR Unrecognized option: CLIENT SETINFO knows lib-name and lib-ver\r\n-ERR lib-name cannot contain spaces, newlines or special characters.\r\n"
    );
    let got = says(
        &mut world,
        &[
            "HELLO 3 SETNAME n",
            "SELECT 3",
            "CLIENT SETINFO lib-name lib",
            "CLIENT INFO",
        ],
    );
    let line = got
        .split("txt:")
        .nth(1)
        .expect("a verbatim text")
        .trim_end();
    let words: Vec<&str> = line.split(' ').collect();
    for word in [
        "id=3",
        "name=n",
        "db=3",
        "resp=3",
        "lib-name=lib",
        "lib-ver=",
        // redis-py fails without these.
        "qbuf=0",
        "qbuf-free=0",
        "argv-mem=0",
        "obl=0",
        "oll=0",
        "omem=0",
        "tot-mem=0",
    ] {
        assert!(words.contains(&word), "{word} in {line}");
    }
    let got = says(&mut world, &["CLIENT LIST"]);
    assert!(got.contains("id=4 ") && got.ends_with("\n\r\n"), "{got:?}");
    assert_eq!(
        says(
            &mut world,
            &[
                "CLIENT LIST TYPE pubsub",
                "CLIENT LIST ID 1 2",
                "CLIENT LIST TYPE x",
                "CLIENT LIST ID x",
                "CLIENT LIST x y"
            ]
        ),
        "$0\r\n\r\n$0\r\n\r\n-ERR Unknown client type\r\n-ERR Invalid client ID\r\n-ERR syntax error\r\n"
    );
    assert_eq!(
        says(
            &mut world,
            &[
                "CLIENT NO-EVICT on",
                "CLIENT NO-TOUCH OFF",
                "CLIENT NO-EVICT x"
            ]
        ),
        "+OK\r\n+OK\r\n-ERR syntax error\r\n"
    );
    vanish_all(&mut world);
    world.assert_idle("names go with their clients");
}

#[test]
fn replies_are_left_out_as_the_client_asks() {
    let mut world = redis(3);
    for (lines, reply) in [
        (&["CLIENT REPLY ON", "PING"][..], "+OK\r\n+PONG\r\n"),
        (&["CLIENT REPLY SKIP", "SET a 1", "GET a"], "$1\r\n1\r\n"),
        (&["CLIENT REPLY SKIP", "MGET a b c", "GET a"], "$1\r\n1\r\n"),
        (&["CLIENT REPLY SKIP", "NOSUCH", "PING"], "+PONG\r\n"),
        (
            &["CLIENT REPLY SKIP", "CLIENT REPLY ON", "PING"],
            "+OK\r\n+PONG\r\n",
        ),
        (
            &[
                "CLIENT REPLY OFF",
                "SET a 2",
                "MSET b 3 c 4",
                "LLEN a",
                "NOSUCH",
                "ECHO x",
                "CLIENT REPLY SKIP",
                "CLIENT REPLY ON",
                "MGET a b c",
            ],
            "+OK\r\n*3\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n",
        ),
        (
            &["CLIENT REPLY OFF", "RESET", "PING"],
            "+RESET\r\n+PONG\r\n",
        ),
        (
            &["CLIENT REPLY x", "PING"],
            "-ERR syntax error\r\n+PONG\r\n",
        ),
    ] {
        assert_eq!(says(&mut world, lines), reply, "{lines:?}");
    }
    let outcome = play(&mut world, &commands(&["CLIENT REPLY OFF", "QUIT"]));
    assert_eq!(outcome, (String::new(), true));
    world.assert_idle("after the dialogues");
}

#[test]
fn small_things_are_answered_as_redis_answers_them() {
    let mut world = redis(1);
    world.proxy.set_wall_clock(0, 1_700_000_000_000_123);
    let got = says(&mut world, &["TIME"]);
    assert!(got.starts_with("*2\r\n$10\r\n1700000000\r\n"), "{got:?}");
    let long = "x".repeat(3000);
    let echo = format!("ECHO {long}");
    assert_eq!(
        says(&mut world, &["ECHO hello", &echo, "PING hello", "PING"]),
        format!("$5\r\nhello\r\n$3000\r\n{long}\r\n$5\r\nhello\r\n+PONG\r\n")
    );
    assert_eq!(
        says(
            &mut world,
            &[
                "CONFIG GET databases",
                "CONFIG GET d* maxclients",
                "HELLO 3",
                "CONFIG GET nothing"
            ]
        )
        .replace(HELLO_3, ""),
        format!(
            "*2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n*4\r\n$9\r\ndatabases\r\n$2\r\n16\r\n$10\r\nmaxclients\r\n$2\r\n64\r\n{}%0\r\n",
            "$2\r\nid\r\n:3\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        )
    );
    let many = format!("CONFIG GET{}", " x".repeat(17));
    assert_eq!(
        says(&mut world, &[&many]),
        "-ERR the proxy takes at most 16 patterns of at most 64 bytes\r\n"
    );
}

#[test]
fn inline_commands_are_served_like_any_other() {
    let mut world = redis(3);
    let (got, closed) = play(
        &mut world,
        b"PING\r\nset \"a b\" 'it\\'s'\n  get \"\\x61 b\"\r\n\r\nmset k 1 l 2 m 3\r\nmget k l m n\r\nnosuch x\r\nget a b c\r\nselect 2\r\nget k\r\nquit\r\n",
    );
    assert_eq!(
        got,
        "+PONG\r\n+OK\r\n$4\r\nit's\r\n+OK\r\n*4\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$-1\r\n-ERR unknown command 'nosuch'\r\n-ERR wrong number of arguments for 'get' command\r\n+OK\r\n$-1\r\n+OK\r\n"
    );
    assert!(closed);
    let (got, closed) = play(&mut world, b"PING\r\nget \"k\r\nPING\r\n");
    assert_eq!(
        got,
        "+PONG\r\n-ERR Protocol error: unbalanced quotes in request\r\n"
    );
    assert!(closed);
    assert_eq!(world.proxy.pool_counters(0).clients_closed_protocol, 1);
    world.assert_idle("after inline commands");
}

#[test]
fn an_inline_command_may_be_larger_than_the_receive_buffer_but_not_than_a_hold() {
    let mut world = redis(1);
    let value = "v".repeat(3000);
    let (got, _) = play(&mut world, format!("set k {value}\r\nget k\r\n").as_bytes());
    assert_eq!(got, format!("+OK\r\n$3000\r\n{value}\r\n"));
    // Its array takes three times its bytes.
    let words = "a ".repeat(1500);
    let (got, closed) = play(&mut world, format!("del {words}\r\nPING\r\n").as_bytes());
    assert_eq!(
        got,
        "-ERR Request too large to be held by the proxy (limit request_hold_bytes)\r\n+PONG\r\n"
    );
    assert!(!closed);
    let (got, closed) = play(&mut world, &[b'x'; 5000]);
    assert_eq!(
        got,
        "-ERR Request too large to be held by the proxy (limit request_hold_bytes)\r\n"
    );
    assert!(!closed, "it has not sent everything");
    assert!(world.clients[2].finished);
    world.assert_idle("after large inline commands");
}

#[test]
fn hello_without_room_for_its_reply_changes_nothing() {
    let limits = WorkerConfig {
        reply_hold_bytes: 1,
        ..limits()
    };
    let mut world = World::new(&[pool(Protocol::Redis, 1)], &limits, 5);
    // What waits behind a reply that does not come takes all the room there is.
    world.servers[0].stopped = true;
    let mut lines = vec!["GET k"];
    lines.extend(["TIME"; 400]);
    let other = world.connect(commands(&lines));
    let client = world.connect(commands(&["HELLO 3", "GET k"]));
    world.pass(2_000);
    world.servers[0].stopped = false;
    world.settle(20_000);
    let got = text(&world.clients[client].got);
    assert!(got.starts_with("-ERR No room to hold"), "{got}");
    assert!(got.ends_with("\r\n$-1\r\n"), "{got}");
    world.vanish(other);
    world.vanish(client);
}
