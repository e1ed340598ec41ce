//! Servers that break the protocol. Each request still gets one reply, one error or a closed connection, and soon.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use tidegate_tests::both_drivers;
use tidegate_tests::calm::assert_nobody_spins;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::client::{Connection, reset};
use tidegate_tests::config::{LabConfig, PoolText};
use tidegate_tests::fake::Fake;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;

/// What a fake does with a connection.
type Behaviour = fn(TcpStream);

/// Waits for the first request of a connection; what comes with it is all of it.
fn request(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
}

/// Every behaviour, by name. The first word of the name tells the protocol.
const FAKES: &[(&str, Behaviour)] = &[
    ("memcached says something that is no reply", |stream| {
        say(stream, b"\x00\xffwhat?\r\n\r\n");
    }),
    ("memcached ends in the middle of a value", |stream| {
        say_and_end(stream, b"VALUE a 0 100\r\nabc");
    }),
    ("memcached resets in the middle of a value", |stream| {
        say_and_reset(stream, b"VALUE a 0 100\r\nabc");
    }),
    ("memcached announces a value of impossible size", |stream| {
        say(stream, b"VALUE a 0 99999999999999999999\r\nabc\r\nEND\r\n");
    }),
    ("memcached writes a line without end", |mut stream| {
        request(&mut stream);
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    }),
    ("memcached says nothing", hold),
    ("memcached closes", |stream| say_and_end(stream, b"")),
    ("memcached only closes its sending half", finish_and_hold),
    ("redis says something that is no reply", |stream| {
        say(stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }),
    ("redis announces a value of impossible size", |stream| {
        say(stream, b"$99999999999999999999\r\n");
    }),
    ("redis announces a negative size", |stream| {
        say(stream, b"$-7\r\n");
    }),
    ("redis nests arrays deeper than anybody reads", |stream| {
        say_and_end(stream, &b"*1\r\n".repeat(10_000));
    }),
    ("redis ends in the middle of a value", |stream| {
        say_and_end(stream, b"$100\r\nabc");
    }),
    ("redis resets in the middle of a value", |stream| {
        say_and_reset(stream, b"$100\r\nabc");
    }),
    ("redis says nothing", hold),
];

/// Keeps a connection until the proxy ends it.
fn hold(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while matches!(stream.read(&mut request), Ok(bytes) if bytes > 0) {}
}

fn finish_and_hold(mut stream: TcpStream) {
    request(&mut stream);
    let _ = stream.shutdown(Shutdown::Write);
    hold(stream);
}

fn say(mut stream: TcpStream, reply: &[u8]) {
    request(&mut stream);
    let _ = stream.write_all(reply);
    hold(stream);
}

fn say_and_end(mut stream: TcpStream, reply: &[u8]) {
    request(&mut stream);
    let _ = stream.write_all(reply);
    let _ = stream.shutdown(Shutdown::Both);
}

fn say_and_reset(mut stream: TcpStream, reply: &[u8]) {
    request(&mut stream);
    let _ = stream.write_all(reply);
    let _ = reset(stream);
}

/// Plays the fake `number`: every connection gets the same treatment.
fn play(scene: &Scene, number: usize, behave: Behaviour) -> Fake {
    let address = scene.plan().fake(number, Family::V4);
    scene.on_server(|| Fake::play(address, behave))
}

fn kind(name: &str) -> ServerKind {
    if name.starts_with("redis") {
        ServerKind::Redis
    } else {
        ServerKind::Memcached
    }
}

/// The pool of the fake `number`.
fn fake_pool(stage: &dyn Stage, number: usize, kind: ServerKind) -> PoolText {
    let server = stage.plan().fake(number, Family::V4);
    let name = format!("fake-{number}");
    PoolText::extra(stage.plan(), number, &name, kind, &[server])
}

both_drivers!(
    servers_that_break_the_protocol_cost_an_error_and_nothing_else,
    LabOptions {
        memcached: 1,
        redis: 0,
        fakes: 1,
        ..LabOptions::default()
    },
    |stage| {
        let pools = FAKES.iter().enumerate().map(|(number, (name, _))| {
            fake_pool(stage, number, kind(name)).with("timeout_ms = 300")
        });
        pools.fold(LabConfig::new(stage, Family::V4), LabConfig::pool)
    },
    servers_that_break_the_protocol_cost_an_error_and_nothing_else
);

fn servers_that_break_the_protocol_cost_an_error_and_nothing_else(scene: &mut Scene) {
    let plan = scene.plan();
    let _fakes: Vec<Fake> = FAKES
        .iter()
        .enumerate()
        .map(|(number, (_, behave))| play(scene, number, *behave))
        .collect();
    let before = scene.appliance.status().unwrap().workers();
    scene.on_client(|| {
        for (number, (name, _)) in FAKES.iter().enumerate() {
            for _ in 0..3 {
                ask_once(plan.extra_pool(number, Family::V4), name);
            }
            assert_eq!(
                plan.memcached(Family::V4).set(b"beside", 0, b"1").unwrap(),
                "STORED",
                "after: {name}"
            );
        }
    });
    assert_eq!(
        scene.appliance.status().unwrap().workers(),
        before,
        "a worker was started again"
    );
}

/// One request; a reply must be the protocol's error, or the connection closes.
fn ask_once(to: SocketAddr, name: &str) {
    let outcome = match kind(name) {
        ServerKind::Memcached => {
            let mut client = Memcached::open(to).unwrap();
            let reply = client.ask(b"get a\r\n");
            reply.map(|reply| {
                (
                    reply.starts_with(b"SERVER_ERROR"),
                    reply.escape_ascii().to_string(),
                )
            })
        }
        ServerKind::Redis => {
            let mut client = Redis::open(to).unwrap();
            match client.words("GET a") {
                // A reply is passed on while it arrives, so the beginning of a senseless one reaches the client. It has to end.
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    client.connection.rest().map(|_| (true, String::new()))
                }
                reply => {
                    reply.map(|reply| (matches!(reply, Value::Error(_)), format!("{reply:?}")))
                }
            }
        }
    };
    match outcome {
        Ok((right, shown)) => assert!(right, "{name}: {shown}"),
        Err(error) => {
            let ended = matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
            );
            assert!(ended, "{name}: {error}");
        }
    }
}

both_drivers!(
    a_server_that_answers_byte_by_byte_is_slow_and_no_more,
    LabOptions {
        memcached: 0,
        redis: 0,
        fakes: 1,
        ..LabOptions::default()
    },
    |stage| LabConfig::without_pools(stage).pool(fake_pool(stage, 0, ServerKind::Redis)),
    a_server_that_answers_byte_by_byte_is_slow_and_no_more
);

fn a_server_that_answers_byte_by_byte_is_slow_and_no_more(scene: &mut Scene) {
    let plan = scene.plan();
    let _fake = play(scene, 0, |mut stream| {
        request(&mut stream);
        let _ = stream.set_nodelay(true);
        for byte in b"$5\r\nhello\r\n" {
            let _ = stream.write_all(&[*byte]);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    scene.on_client(|| {
        let reply = Redis::open(plan.extra_pool(0, Family::V4))
            .unwrap()
            .words("GET a")
            .unwrap();
        assert_eq!(reply, Value::bulk(b"hello"));
    });
}

/// How a server fails a request, what it does with the connection (`None`: it does not even listen), and what the client
/// is told.
type Failure = (&'static str, Option<Behaviour>, &'static str);

const FAILURES: &[Failure] = &[
    ("refuses", None, "Connection refused"),
    (
        "resets",
        Some(|stream| say_and_reset(stream, b"")),
        "Connection reset by peer",
    ),
    (
        "closes",
        Some(|stream| say_and_end(stream, b"")),
        "Connection closed by server",
    ),
    (
        "closes its sending half",
        Some(finish_and_hold),
        "Connection closed by server",
    ),
    ("says nothing", Some(hold), "Connection timed out"),
    (
        "says something that is no reply",
        Some(|stream| say(stream, b"\x00\xffwhat?\r\n")),
        "Invalid reply from server",
    ),
];

/// Both protocols, each with the failures in a row.
const KINDS: [ServerKind; 2] = [ServerKind::Memcached, ServerKind::Redis];

both_drivers!(
    the_error_names_what_the_server_did_and_nobody_spins,
    LabOptions {
        memcached: 0,
        redis: 1,
        fakes: 1,
        ..LabOptions::default()
    },
    |stage| {
        let pools = KINDS.iter().enumerate().flat_map(|(half, kind)| {
            let first = half * FAILURES.len();
            (first..first + FAILURES.len())
                .map(|number| fake_pool(stage, number, *kind).with("timeout_ms = 300"))
        });
        pools.fold(LabConfig::new(stage, Family::V4), LabConfig::pool)
    },
    the_error_names_what_the_server_did_and_nobody_spins
);

fn the_error_names_what_the_server_did_and_nobody_spins(scene: &mut Scene) {
    const ROUNDS: usize = 3;
    let plan = scene.plan();
    let failures = KINDS
        .iter()
        .flat_map(|kind| FAILURES.iter().map(move |failure| (*kind, failure)));
    // Clients stay, so that whatever is wrong with a server's end goes on while the workers are watched.
    let (mut clients, mut fakes) = (Vec::new(), Vec::new());
    for (number, (kind, (what, behave, told))) in failures.enumerate() {
        fakes.extend(behave.map(|behave| play(scene, number, behave)));
        let to = plan.extra_pool(number, Family::V4);
        let mut client = scene.on_client(|| Connection::open(to).unwrap());
        for _ in 0..ROUNDS {
            let (request, error) = match kind {
                ServerKind::Memcached => (&b"get a\r\n"[..], format!("SERVER_ERROR {told}\r\n")),
                ServerKind::Redis => (
                    &b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"[..],
                    format!("-ERR {told}\r\n"),
                ),
            };
            client.send(request).unwrap();
            let line = client.line().unwrap();
            assert_eq!(String::from_utf8_lossy(&line), error, "{kind:?} {what}");
        }
        clients.push(client);
    }
    let mut other = scene.on_client(|| plan.redis(Family::V4));
    assert_nobody_spins(scene, &mut other);
}
