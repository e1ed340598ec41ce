//! Servers that die, hang and come back: errors where they belong, no reply to the wrong client, recovery.

use nix::sys::signal::Signal;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;
use tidegate_tests::appliance::Status;
use tidegate_tests::both_drivers;
use tidegate_tests::client::eventually;
use tidegate_tests::client::memcached::{Memcached, items};
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::plan::Plan;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::{Driver, Stage};

/// A key that `holds` for, out of numbered candidates.
fn key_where(mut holds: impl FnMut(&str) -> bool) -> String {
    (0..1_000)
        .map(|number| format!("probe-{number}"))
        .find(|key| holds(key))
        .expect("some key lands on each server")
}

/// A key of the Redis pool that lands on server `index`.
fn redis_key_on(scene: &Scene, index: usize) -> String {
    let plan = scene.plan();
    let server = scene.servers(ServerKind::Redis)[index].address(Family::V4);
    key_where(|key| {
        let set = scene.on_client(|| {
            plan.redis(Family::V4)
                .words(&format!("SET {key} x"))
                .unwrap()
        });
        assert_eq!(set, Value::ok());
        scene.on_server(|| {
            Redis::open(server)
                .unwrap()
                .words(&format!("EXISTS {key}"))
                .unwrap()
        }) == Value::Integer(1)
    })
}

fn with_pool_lines(stage: &dyn Stage, lines: &[&str]) -> LabConfig {
    let config = LabConfig::new(stage, Family::V4);
    lines
        .iter()
        .fold(config, |config, line| config.every_pool(line))
}

/// Sends a signal to a server.
fn signal(scene: &mut Scene, kind: ServerKind, index: usize, signal: Signal) {
    let process = scene.server_mut(kind, index).process();
    process.expect("the server is up").signal(signal);
}

both_drivers!(
    a_stopped_server_times_out_and_its_late_replies_reach_nobody,
    LabOptions::default(),
    |stage| with_pool_lines(stage, &["timeout_ms = 200"]),
    a_stopped_server_times_out_and_its_late_replies_reach_nobody
);

fn a_stopped_server_times_out_and_its_late_replies_reach_nobody(scene: &mut Scene) {
    let plan = scene.plan();
    let key = redis_key_on(scene, 0);
    let other = redis_key_on(scene, 1);
    let (get, get_other) = (format!("GET {key}"), format!("GET {other}"));

    signal(scene, ServerKind::Redis, 0, Signal::SIGSTOP);
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        // Distinct values would show a reply that went astray.
        for _ in 0..3 {
            let reply = client.words(&get).unwrap();
            assert!(reply.is_error("ERR"), "{reply:?}");
            assert_eq!(
                client.words(&get_other).unwrap(),
                Value::bulk(b"x"),
                "the other servers are not concerned"
            );
        }
    });
    signal(scene, ServerKind::Redis, 0, Signal::SIGCONT);
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        eventually("recovery after SIGCONT", || {
            client.words(&get).unwrap() == Value::bulk(b"x")
        });
        for number in 0..200 {
            let value = format!("late-{number}");
            assert_eq!(
                client.words(&format!("SET {key} {value}")).unwrap(),
                Value::ok()
            );
            assert_eq!(client.words(&get).unwrap(), Value::bulk(value.as_bytes()));
        }
    });
}

both_drivers!(
    a_dead_server_gets_errors_until_it_is_back,
    LabOptions::default(),
    |stage| with_pool_lines(stage, &["timeout_ms = 1000"]),
    a_dead_server_gets_errors_until_it_is_back
);

fn a_dead_server_gets_errors_until_it_is_back(scene: &mut Scene) {
    let plan = scene.plan();
    let key = redis_key_on(scene, 0);
    scene.server_mut(ServerKind::Redis, 0).kill();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        for _ in 0..5 {
            assert!(
                client.words(&format!("GET {key}")).unwrap().is_error("ERR"),
                "one reply for each request"
            );
        }
        let many = client
            .words(&format!("MGET {key} a b c d e f g h"))
            .unwrap();
        assert!(
            many.is_error("ERR"),
            "a part that failed fails the whole: {many:?}"
        );
    });
    scene.server_mut(ServerKind::Redis, 0).restart().unwrap();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        eventually("recovery after the restart", || {
            client.words(&format!("GET {key}")).unwrap() == Value::Bulk(None)
        });
        assert_eq!(
            client.words(&format!("SET {key} back")).unwrap(),
            Value::ok()
        );
    });
}

/// A server that fails twice is left out for a second.
const EJECTING: &[&str] = &[
    "timeout_ms = 500",
    "auto_eject_hosts = true",
    "server_failure_limit = 2",
    "server_retry_timeout_ms = 1000",
];

both_drivers!(
    an_ejected_server_hands_its_keys_over_and_takes_them_back,
    LabOptions::default(),
    |stage| with_pool_lines(stage, EJECTING),
    an_ejected_server_hands_its_keys_over_and_takes_them_back
);

fn an_ejected_server_hands_its_keys_over_and_takes_them_back(scene: &mut Scene) {
    let plan = scene.plan();
    let key = redis_key_on(scene, 0);
    scene.server_mut(ServerKind::Redis, 0).kill();
    let set = format!("SET {key} elsewhere");
    scene.on_client(|| {
        // A client on each worker, because each worker judges servers by what it sees itself.
        for _ in 0..8 {
            let mut client = plan.redis(Family::V4);
            eventually("ejection", || client.words(&set).unwrap() == Value::ok());
        }
    });
    let ejects = scene
        .appliance
        .status()
        .unwrap()
        .pool_total("redis", "ejects");
    assert!(ejects > 0, "no ejection was counted");
    scene.server_mut(ServerKind::Redis, 0).restart().unwrap();
    let server = scene.servers(ServerKind::Redis)[0].address(Family::V4);
    eventually("the return of the keys", || {
        scene.on_client(|| {
            let _ = plan.redis(Family::V4).words(&set);
        });
        scene.on_server(|| Redis::open(server).unwrap().words("DBSIZE").unwrap())
            != Value::Integer(0)
    });
}

/// Stops one server and kills another for a while.
fn disturb(scene: &mut Scene, stopped: ServerKind, killed: ServerKind, index: usize) {
    signal(scene, stopped, index, Signal::SIGSTOP);
    scene.server_mut(killed, index).kill();
    sleep(Duration::from_millis(300));
    scene.server_mut(killed, index).restart().unwrap();
    signal(scene, stopped, index, Signal::SIGCONT);
}

/// What the clients of the cross-talk test share.
#[derive(Default)]
struct Watch {
    calm: AtomicBool,
    errors: AtomicU64,
}

/// Ends the disturbance when dropped.
struct Calm<'w>(&'w Watch);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.calm.store(true, Ordering::Relaxed);
    }
}

/// How long a client waits after a round with errors. Without it a server that is down makes the others so busy that it does not
/// come up again on a machine with few cores.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// Rounds in a calm after which something is wrong.
const ROUNDS_IN_CALM_MAX: usize = 5_000;

/// Successes that each client needs after the servers are calm again.
const CALM_ROUNDS: usize = 30;

/// A client whose values name it and its round, on a connection that `open` makes. Any value that it did not write itself
/// fails the test, in `play`, which returns the number of errors that replaced replies.
fn witness<C>(
    plan: Plan,
    token: usize,
    watch: &Watch,
    open: fn(Plan, Family) -> C,
    play: fn(&mut C, usize, u64) -> io::Result<u64>,
) {
    let mut client = None;
    let (mut round, mut rounds_in_calm, mut calm_rounds) = (0_u64, 0, 0);
    while calm_rounds < CALM_ROUNDS {
        round += 1;
        let calm = watch.calm.load(Ordering::Relaxed);
        rounds_in_calm += usize::from(calm);
        assert!(
            rounds_in_calm < ROUNDS_IN_CALM_MAX,
            "client {token} still gets errors although nothing is disturbed"
        );
        match play(
            client.get_or_insert_with(|| open(plan, Family::V4)),
            token,
            round,
        ) {
            Ok(errors) => {
                watch.errors.fetch_add(errors, Ordering::Relaxed);
                calm_rounds += usize::from(calm && errors == 0);
                if errors > 0 {
                    sleep(ERROR_PAUSE);
                }
            }
            Err(error) => {
                let hung = error.kind() == ErrorKind::WouldBlock;
                assert!(!hung, "client {token} got no reply in round {round}");
                assert_ne!(
                    error.kind(),
                    ErrorKind::InvalidData,
                    "client {token}: {error}"
                );
                client = None;
            }
        }
    }
}

fn memcached_witness_round(client: &mut Memcached, token: usize, round: u64) -> io::Result<u64> {
    let keys: Vec<String> = (0..4)
        .map(|number| format!("w{token}-{number}-{round}"))
        .collect();
    let mut request = Vec::new();
    for key in &keys {
        request.extend(format!("set {key} {token} 0 {}\r\n{key}\r\n", key.len()).into_bytes());
    }
    request.extend(format!("get {}\r\n", keys.join(" ")).into_bytes());
    client.connection.send(&request)?;
    let mut errors = 0;
    for key in &keys {
        let reply = client.reply()?;
        let refused = reply.starts_with(b"SERVER_ERROR");
        assert!(
            refused || reply == b"STORED\r\n",
            "set {key}: {}",
            reply.escape_ascii()
        );
        errors += u64::from(refused);
    }
    let reply = client.reply()?;
    if reply.starts_with(b"SERVER_ERROR") {
        return Ok(errors + 1);
    }
    for item in items(&reply)? {
        assert!(
            keys.iter().any(|key| key.as_bytes() == item.key),
            "client {token} got {}",
            item.key.escape_ascii()
        );
        assert_eq!(
            (item.flags as usize, &item.value),
            (token, &item.key),
            "client {token} in round {round}"
        );
    }
    Ok(errors)
}

fn redis_witness_round(client: &mut Redis, token: usize, round: u64) -> io::Result<u64> {
    let key = format!("r{token}-{round}");
    let others: Vec<String> = (0..4).map(|number| format!("{key}-{number}")).collect();
    let mut words: Vec<&[u8]> = vec![b"MSET"];
    for other in &others {
        words.extend([other.as_bytes(), other.as_bytes()]);
    }
    let mut get: Vec<&[u8]> = vec![b"MGET"];
    get.extend(others.iter().map(String::as_bytes));
    let set = client.ask(&words)?;
    assert!(
        set == Value::ok() || set.is_error(""),
        "client {token}: {set:?}"
    );
    let got = client.ask(&get)?;
    match &got {
        Value::Array(Some(values)) => {
            assert_eq!(values.len(), others.len());
            for (value, key) in values.iter().zip(&others) {
                let own = *value == Value::bulk(key.as_bytes()) || *value == Value::Bulk(None);
                assert!(
                    own,
                    "client {token} in round {round} got {value:?} for {key}"
                );
            }
        }
        Value::Error(_) => {}
        other => panic!("client {token}: {other:?}"),
    }
    Ok(u64::from(set != Value::ok()) + u64::from(matches!(got, Value::Error(_))))
}

both_drivers!(
    no_reply_reaches_another_client_while_servers_die_and_hang,
    LabOptions::default(),
    |stage| with_pool_lines(stage, &["timeout_ms = 150"]),
    no_reply_reaches_another_client_while_servers_die_and_hang
);

fn no_reply_reaches_another_client_while_servers_die_and_hang(scene: &mut Scene) {
    const CLIENTS: usize = 12;
    let watch = Watch::default();
    let (plan, client_host) = (scene.plan(), scene.client_host());
    std::thread::scope(|scope| {
        for token in 0..CLIENTS {
            let (watch, host) = (&watch, &client_host);
            scope.spawn(move || {
                host.run(|| {
                    witness(plan, token, watch, Plan::memcached, memcached_witness_round);
                });
            });
            scope.spawn(move || {
                host.run(|| witness(plan, token, watch, Plan::redis, redis_witness_round));
            });
        }
        // Also when this thread fails: the others would go on for ever.
        let _calm = Calm(&watch);
        for round in 0..6 {
            disturb(scene, ServerKind::Memcached, ServerKind::Redis, round % 3);
            disturb(
                scene,
                ServerKind::Redis,
                ServerKind::Memcached,
                (round + 1) % 3,
            );
        }
    });
    assert!(
        watch.errors.load(Ordering::Relaxed) > 0,
        "the disturbance disturbed nobody: the test proved nothing"
    );
}

/// The kernel has no link to lose on loopback, so this has no turn with its sockets.
fn a_link_that_goes_down_is_told_and_traffic_goes_on_when_it_is_back(driver: Driver) {
    let configure = |stage: &dyn Stage| LabConfig::new(stage, Family::V4);
    let Some(mut scene) = Scene::raise(driver, LabOptions::default(), configure) else {
        return;
    };
    let pool = scene.plan().pool(ServerKind::Redis, Family::V4);
    let mut before = scene.on_client(|| Redis::open(pool).unwrap());
    assert_eq!(before.words("SET key before").unwrap(), Value::ok());
    let tell = |status: &Status| status.0["ports"][0]["link_down"] == true;
    let cable = |scene: &Scene, state: &str| {
        let command = format!("ip link set eth0 {state}");
        scene.lab().hosts.client.shell(&command).unwrap();
    };
    cable(&scene, "down");
    scene.wait_for_status("a port without link", tell);
    let shown = scene.appliance.status_text().unwrap();
    assert!(shown.contains("NO LINK"), "{shown}");
    assert!(scene.appliance.log().contains("eth1 has no link"));
    cable(&scene, "up");
    scene.wait_for_status("its link", |status: &Status| !tell(status));
    assert!(scene.appliance.log().contains("eth1 has a link again"));
    // TCP bridges a gap: the same connection goes on.
    assert_eq!(before.words("GET key").unwrap(), Value::bulk(b"before"));
    scene.on_client(|| {
        let mut after = Redis::open(pool).unwrap();
        assert_eq!(after.words("GET key").unwrap(), Value::bulk(b"before"));
    });
}

#[test]
fn a_link_that_goes_down_is_told_afxdp() {
    a_link_that_goes_down_is_told_and_traffic_goes_on_when_it_is_back(Driver::Afxdp);
}

#[cfg(feature = "dpdk")]
#[test]
fn a_link_that_goes_down_is_told_dpdk_packet() {
    a_link_that_goes_down_is_told_and_traffic_goes_on_when_it_is_back(Driver::DpdkPacket);
}
