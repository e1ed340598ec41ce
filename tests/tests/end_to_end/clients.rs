//! Clients that are slow, deaf, rude, senseless or too many. Others do not notice, and no worker spins for them.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use tidegate_tests::appliance::Status;
use tidegate_tests::both_drivers;
use tidegate_tests::calm::assert_nobody_spins;
use tidegate_tests::client::Connection;
use tidegate_tests::client::resp::{Redis, Value, command};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::plan::Plan;
use tidegate_tests::random::Random;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::{Driver, Stage};

/// Connects to a pool from the client host.
fn connect(scene: &Scene, kind: ServerKind) -> Connection {
    let to = scene.plan().pool(kind, Family::V4);
    scene.on_client(|| Connection::open(to).expect("the pool accepts"))
}

fn redis(scene: &Scene) -> Redis {
    let connection = connect(scene, ServerKind::Redis);
    Redis { connection }
}

/// Waits until `opened` clients were accepted in all, and `left` of them are left.
fn wait_for_clients(scene: &mut Scene, opened: usize, left: usize) {
    scene.wait_for_status("the end of the clients", |status| {
        let sum = |counter| -> u64 {
            let workers = 0..status.workers().len();
            workers.map(|worker| status.stack(worker, counter)).sum()
        };
        sum("accepted") == opened as u64 && sum("clients_open") == left as u64
    });
}

/// Runs `body`, and fails if a worker had to be started again for it.
fn workers_survive(scene: &mut Scene, body: impl FnOnce(&mut Scene)) {
    let before = scene.appliance.status().unwrap().workers();
    body(scene);
    let after = scene.appliance.status().unwrap().workers();
    assert_eq!(after, before, "a worker was started again");
}

both_drivers!(requests_that_come_byte_by_byte_hold_up_nobody);

fn requests_that_come_byte_by_byte_hold_up_nobody(scene: &mut Scene) {
    const SLOW: usize = 16;
    let mut fast = redis(scene);
    let mut slow: Vec<Redis> = (0..SLOW).map(|_| redis(scene)).collect();
    let requests: Vec<Vec<u8>> = (0..SLOW)
        .map(|number| command(&[b"SET", format!("slow-{number}").as_bytes(), b"value"]))
        .collect();
    for at in 0..requests.iter().map(Vec::len).max().unwrap_or(0) {
        for (client, request) in slow.iter_mut().zip(&requests) {
            if let Some(byte) = request.get(at) {
                client.connection.send(&[*byte]).unwrap();
            }
        }
        assert_eq!(fast.words("SET fast 1").unwrap(), Value::ok());
    }
    for client in &mut slow {
        assert_eq!(client.reply().unwrap(), Value::ok());
    }
    // Half a request is nothing to be busy with.
    for (client, request) in slow.iter_mut().zip(&requests) {
        client
            .connection
            .send(&request[..request.len() / 2])
            .unwrap();
    }
    assert_nobody_spins(scene, &mut fast);
}

/// Should buffers have no end.
const BYTES_MAX: usize = 64 << 20;

/// Sends `request` again and again without waiting, `sent` bytes of which are sent already; returns how many more were.
fn send_what_fits(client: &Redis, request: &[u8], sent: usize) -> usize {
    let burst = request.repeat(100);
    let mut more = 0;
    let mut stream = client.connection.stream();
    stream.set_nonblocking(true).unwrap();
    while sent + more < BYTES_MAX {
        match stream.write(&burst[(sent + more) % request.len()..]) {
            Ok(bytes) => more += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("after {sent} + {more} bytes: {error}"),
        }
    }
    stream.set_nonblocking(false).unwrap();
    more
}

/// Whether the Redis pool takes no requests but those that `client` sends meanwhile.
fn serves_only(scene: &mut Scene, client: &mut Redis) -> bool {
    const REQUESTS: u64 = 200;
    let requests = |status: &Status| status.pool_total("redis", "requests");
    let before = requests(&scene.appliance.status().unwrap());
    for _ in 0..REQUESTS {
        assert_eq!(client.words("SET beside 1").unwrap(), Value::ok());
    }
    let after = scene.wait_for_status("the requests' count", |status| {
        requests(status) >= before + REQUESTS
    });
    requests(&after) == before + REQUESTS
}

both_drivers!(what_is_sent_while_nothing_is_read_is_all_answered_later);

fn what_is_sent_while_nothing_is_read_is_all_answered_later(scene: &mut Scene) {
    // The reply is about as long as the request, so that neither direction is spared.
    let value = vec![b'k'; 200];
    let request = command(&[b"GET", &value]);
    let mut other = redis(scene);
    assert_eq!(other.ask(&[b"SET", &value, &value]).unwrap(), Value::ok());

    let mut deaf = redis(scene);
    let (mut sent, mut still) = (0, 0);
    // Blocked for good, not only for as long as the proxy is slower than this loop.
    while still < 3 && sent < BYTES_MAX {
        let more = send_what_fits(&deaf, &request, sent);
        sent += more;
        let quiet = serves_only(scene, &mut other);
        still = if more == 0 && quiet { still + 1 } else { 0 };
    }
    assert!(
        sent < BYTES_MAX,
        "nothing stops a client that does not read"
    );
    assert_nobody_spins(scene, &mut other);

    let whole = sent.div_ceil(request.len());
    let missing = &request[request.len() - (whole * request.len() - sent)..];
    let mut sender = deaf.connection.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.write_all(missing).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        for number in 0..whole {
            assert_eq!(
                deaf.reply().unwrap(),
                Value::bulk(&value),
                "reply {number} of {whole}"
            );
        }
    });
    assert!(deaf.connection.is_closed());
}

both_drivers!(
    a_client_that_never_reads_is_closed_and_counted,
    LabOptions {
        memcached: 0,
        ..LabOptions::default()
    },
    impatient,
    a_client_that_never_reads_is_closed_and_counted
);

/// Little is held for a client that does not read.
fn impatient(stage: &dyn Stage) -> LabConfig {
    LabConfig::new(stage, Family::V4)
        .worker("client_stall_ms = 1000")
        .worker("client_reply_hold_bytes = 65536")
}

fn a_client_that_never_reads_is_closed_and_counted(scene: &mut Scene) {
    let mut other = redis(scene);
    let value = vec![b'v'; 64 << 10];
    assert_eq!(other.ask(&[b"SET", b"big", &value]).unwrap(), Value::ok());
    // More than is taken in the client's stead, by its kernel, by the proxy and on sockets by the worker's kernel; and where frames
    // are counted so few that their way here, and away once the client is closed, is not what keeps workers busy.
    let replies = match scene.driver() {
        Driver::Kernel => 512,
        Driver::Afxdp | Driver::DpdkPacket | Driver::DpdkXdp => 32,
    };
    let mut deaf = redis(scene);
    deaf.connection
        .send(&command(&[b"GET", b"big"]).repeat(replies))
        .unwrap();
    assert_nobody_spins(scene, &mut other);
    scene.wait_for_status("the end of the deaf client", |status| {
        status.pool_total("redis", "clients_closed_stalled") == 1
    });
    wait_for_clients(scene, 2, 1);
    assert_eq!(
        other.ask(&[b"GET", b"big"]).unwrap(),
        Value::Bulk(Some(value))
    );
}

both_drivers!(a_half_closed_connection_ends_when_nothing_is_owed);

fn a_half_closed_connection_ends_when_nothing_is_owed(scene: &mut Scene) {
    const EACH: usize = 8;
    let mut other = redis(scene);
    // Nothing asked, half a request, and a request with its reply under way.
    let cases: [(&[u8], &[u8]); 3] = [
        (b"", b""),
        (b"*2\r\n$3\r\nGET\r\n$4\r\nha", b""),
        (b"*2\r\n$3\r\nGET\r\n$4\r\nhalf\r\n", b"$-1\r\n"),
    ];
    for (sent, expected) in cases {
        for _ in 0..EACH {
            let mut client = connect(scene, ServerKind::Redis);
            client.send(sent).unwrap();
            client.finish_sending().unwrap();
            let got = client.rest().unwrap();
            let shown = got.escape_ascii();
            // An end in the middle of a request may be answered by the protocol's error.
            let is_error = expected.is_empty() && !sent.is_empty() && got.starts_with(b"-ERR");
            assert!(
                got == expected || is_error,
                "{} and an end brought {shown}",
                sent.escape_ascii()
            );
        }
    }
    wait_for_clients(scene, 1 + cases.len() * EACH, 1);
    assert_nobody_spins(scene, &mut other);
}

both_drivers!(clients_that_reset_leave_nothing_behind);

fn clients_that_reset_leave_nothing_behind(scene: &mut Scene) {
    const RESETS: usize = 200;
    let mut other = redis(scene);
    let value = vec![b'v'; 100_000];
    assert_eq!(other.ask(&[b"SET", b"reset", &value]).unwrap(), Value::ok());
    workers_survive(scene, |scene| {
        for number in 0..RESETS {
            let mut client = redis(scene);
            let request = command(&[b"GET", b"reset"]);
            match number % 4 {
                0 => {}
                1 => client.connection.send(&request[..10]).unwrap(),
                2 => client.connection.send(&request.repeat(20)).unwrap(),
                _ => {
                    client.connection.send(&request.repeat(2)).unwrap();
                    client.reply().unwrap();
                }
            }
            client.connection.reset().unwrap();
        }
        wait_for_clients(scene, 1 + RESETS, 1);
        assert_nobody_spins(scene, &mut other);
    });
}

/// Bytes of the protocols' own words in an order that makes no sense, and noise.
fn garbage(random: &mut Random) -> Vec<u8> {
    const WORDS: &[&[u8]] = &[
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"*3\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"$3\r\n",
        b"$-7\r\n",
        b"$0\r\n\r\n",
        b"+OK\r\n",
        b":1\r\n",
        b"GET",
        b"get",
        b"set a 0 0 5\r\n",
        b"set a 0 0 5 noreply\r\n",
        b"gets ",
        b"MSET",
        b"noreply",
        b"18446744073709551616",
        b"-1",
        b"\0",
        b"END\r\n",
        b"VALUE a 0 1\r\n",
        b"quit",
        b"incr a 1\r\n",
    ];
    let mut bytes = Vec::new();
    for _ in 0..random.below(40) {
        if random.below(4) == 0 {
            let count = random.below(50);
            bytes.extend(random.bytes(count));
        } else {
            bytes.extend(*random.pick(WORDS));
        }
    }
    bytes
}

both_drivers!(garbage_is_answered_or_the_connection_ends);

fn garbage_is_answered_or_the_connection_ends(scene: &mut Scene) {
    const ROUNDS: u64 = 300;
    workers_survive(scene, |scene| {
        let mut other = redis(scene);
        for seed in 0..ROUNDS {
            let sent = garbage(&mut Random::new(seed));
            for kind in [ServerKind::Memcached, ServerKind::Redis] {
                let mut client = connect(scene, kind);
                // The proxy may have closed the connection at the first wrong byte.
                let _ = client.send(&sent);
                let _ = client.finish_sending();
                client
                    .rest()
                    .unwrap_or_else(|error| panic!("seed {seed}, {kind:?}: {error}"));
            }
        }
        wait_for_clients(scene, 1 + 2 * ROUNDS as usize, 1);
        assert_nobody_spins(scene, &mut other);
    });
}

const SLOTS: usize = 4;

both_drivers!(
    clients_beyond_the_slots_wait_and_are_served,
    LabOptions {
        queues: 1,
        memcached: 0,
        redis: 1,
        ..LabOptions::default()
    },
    |stage| LabConfig::new(stage, Family::V4).worker(&format!("clients_max = {SLOTS}")),
    clients_beyond_the_slots_wait_and_are_served
);

fn clients_beyond_the_slots_wait_and_are_served(scene: &mut Scene) {
    let ping = |client: &mut Redis| {
        let reply = client.words("PING").unwrap();
        assert_eq!(reply, Value::Simple("PONG".to_owned()));
    };
    let mut first: Vec<Redis> = (0..SLOTS).map(|_| redis(scene)).collect();
    first.iter_mut().for_each(ping);
    let (host, plan) = (scene.client_host(), scene.plan());
    std::thread::scope(|threads| {
        for _ in 0..2 * SLOTS {
            let host = &host;
            threads.spawn(move || host.run(|| ping(&mut Plan::redis(plan, Family::V4))));
        }
        let driver = scene.driver();
        scene.wait_for_status("a full table", |status| match driver {
            Driver::Kernel => status.socket(0, "accepts_paused_slots") > 0,
            Driver::Afxdp | Driver::DpdkPacket | Driver::DpdkXdp => {
                status.stack(0, "frames_no_slot") > 0
            }
        });
        assert_nobody_spins(scene, &mut first[0]);
        first.clear();
    });
    wait_for_clients(scene, 3 * SLOTS, 0);
}

/// Places of each pool.
const PLACES: usize = 3;
/// Of clients that were refused and do not close, a worker with so few slots keeps one.
const WORKER_SLOTS: usize = 16;

both_drivers!(
    clients_beyond_their_pools_limit_are_told_so_and_leave_others_their_place,
    LabOptions {
        queues: 1,
        memcached: 1,
        redis: 1,
        ..LabOptions::default()
    },
    |stage| LabConfig::new(stage, Family::V4)
        .worker(&format!("clients_max = {WORKER_SLOTS}"))
        .every_pool(&format!("clients_max = {PLACES}")),
    clients_beyond_their_pools_limit_are_told_so_and_leave_others_their_place
);

/// What a client gets that asks as soon as it is connected, up to the end of its connection, which it does not close itself.
fn refused(scene: &Scene, kind: ServerKind, request: &[u8]) -> (Connection, String) {
    let mut connection = connect(scene, kind);
    // Its place may be that of the next by now: then it is reset.
    let _sent = connection.send(request);
    let got = connection.rest().expect("an error, and the end");
    (connection, String::from_utf8_lossy(&got).into_owned())
}

fn clients_beyond_their_pools_limit_are_told_so_and_leave_others_their_place(scene: &mut Scene) {
    const FULL: &str = "-ERR max number of clients reached\r\n";
    let ping = |client: &mut Redis| {
        let reply = client.words("PING").unwrap();
        assert_eq!(reply, Value::Simple("PONG".to_owned()));
    };
    let mut first: Vec<Redis> = (0..PLACES).map(|_| redis(scene)).collect();
    first.iter_mut().for_each(ping);
    // More than the worker has slots, and none closes its end.
    let mut stay = Vec::new();
    for _ in 0..2 * WORKER_SLOTS {
        let (connection, got) = refused(scene, ServerKind::Redis, b"PING\r\n");
        assert_eq!(got, FULL);
        stay.push(connection);
    }
    first.iter_mut().for_each(ping);
    let version = |connection: &mut Connection| {
        connection.send(b"version\r\n").unwrap();
        assert!(connection.line().unwrap().starts_with(b"VERSION "));
    };
    let mut others: Vec<Connection> = (0..PLACES)
        .map(|_| connect(scene, ServerKind::Memcached))
        .collect();
    others.iter_mut().for_each(version);
    let binary_noop = [&b"\x80\x0a"[..], &[0; 22]].concat();
    for request in [&b"version\r\n"[..], &binary_noop] {
        let (_, got) = refused(scene, ServerKind::Memcached, request);
        assert_eq!(got, "ERROR Too many open connections\r\n");
    }
    drop(stay);
    first.pop();
    scene.wait_for_status("a place", |status| {
        status.pool_total("redis", "clients") == PLACES as u64 - 1
    });
    first.push(redis(scene));
    first.iter_mut().for_each(ping);
    let (_, got) = refused(scene, ServerKind::Redis, b"PING\r\n");
    assert_eq!(got, FULL);
    others.iter_mut().for_each(version);
    let status = scene.wait_for_status("the counters", |status| {
        status.pool_total("redis", "clients_refused") == 2 * WORKER_SLOTS as u64 + 1
    });
    for (pool, counter, count) in [
        ("redis", "clients", PLACES),
        ("redis", "client_connections", PLACES + 1),
        ("memcached", "clients", PLACES),
        ("memcached", "client_connections", PLACES),
        ("memcached", "clients_refused", 2),
    ] {
        assert_eq!(
            status.pool_total(pool, counter),
            count as u64,
            "{pool} {counter}"
        );
    }
    drop((first, others));
    scene.wait_for_status("everybody's end", |status| {
        status.stack(0, "clients_open") == status.stack(0, "time_wait")
    });
}
