//! Another configuration for a running instance, on every driver: servers, pools and listeners come and go, and clients notice nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tidegate_tests::both_drivers;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::config::{LabConfig, PoolText};
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;

/// Clients of each worker.
const CONNECTIONS: u16 = 3;
/// Configurations that are taken up while they ask.
const ROUNDS: u64 = 10;
/// Requests that a client sends at most: what a test that goes wrong may cost.
const REQUESTS_MAX: u64 = 2_000_000;

fn config(stage: &dyn Stage) -> LabConfig {
    LabConfig::new(stage, Family::V4)
}

/// Takes up a configuration, and says its generation.
fn take_up(scene: &mut Scene, config: &LabConfig) -> String {
    std::fs::write(scene.appliance.config_file(), config.to_toml()).unwrap();
    let name = scene.stage().name().to_owned();
    let output = scene.appliance.ask(&["reload", "--name", &name]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", scene.appliance.log());
    said
}

fn connection(scene: &mut Scene, worker: u16, number: u16, to: SocketAddr) -> Redis {
    let connection = scene.connection_of(worker, number, to);
    Redis { connection }
}

fn is_no_error(reply: &std::io::Result<Value>) -> bool {
    reply
        .as_ref()
        .is_ok_and(|reply| !matches!(reply, Value::Error(_)))
}

both_drivers!(
    servers_come_and_go_under_load_and_nobody_sees_an_error,
    LabOptions::default(),
    config,
    servers_come_and_go_under_load_and_nobody_sees_an_error
);

fn servers_come_and_go_under_load_and_nobody_sees_an_error(scene: &mut Scene) {
    let to = scene.plan().pool(ServerKind::Redis, Family::V4);
    let mut clients = Vec::new();
    for worker in 0..2 {
        clients.extend((0..CONNECTIONS).map(|number| connection(scene, worker, number, to)));
    }
    let whole = config(scene.stage());
    let place = whole.pools.iter().position(|pool| pool.name == "redis");
    let place = place.expect("a pool of Redis servers");
    let servers = whole.pools[place].servers.clone();
    assert!(servers.len() >= 3, "{servers:?}");
    let before = scene.appliance.status().unwrap();
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || {
                for round in 0..REQUESTS_MAX / 3 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("c{number}:k{}", round % 50);
                    for command in [
                        format!("SET {key} {round}"),
                        format!("GET {key}"),
                        format!("MGET {key} c{number}:k1 c{number}:k2"),
                    ] {
                        let reply = client.words(&command);
                        assert!(is_no_error(&reply), "{command}: {reply:?}");
                    }
                    sent.fetch_add(3, Ordering::Relaxed);
                }
            });
        }
        for round in 0..ROUNDS {
            let mut next = whole.clone();
            let [a, b, c] = [0, 1, 2].map(|index| servers[index].clone());
            next.pools[place].servers = match round % 4 {
                0 => vec![a, b],
                1 => vec![c],
                2 => vec![b, a, c],
                _ => vec![c, a],
            };
            let from = sent.load(Ordering::Relaxed);
            take_up(scene, &next);
            // Requests go on in every configuration.
            while sent.load(Ordering::Relaxed) < from + 200 {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sent = sent.load(Ordering::Relaxed);
    let after = scene.wait_for_status("all requests counted", |status| {
        status.pool_total("redis", "requests") >= sent
    });
    assert_eq!(after.workers(), before.workers(), "the same processes");
    assert_eq!(after.0["generation"], ROUNDS + 1);
    for worker in after.0["workers"].as_array().unwrap() {
        assert_eq!(worker["generation"], ROUNDS + 1, "{worker}");
    }
    for counter in ["forward_errors", "timeouts", "clients_closed_lost"] {
        assert_eq!(after.pool_total("redis", counter), 0, "{counter}");
    }
}

both_drivers!(
    a_pool_with_a_listener_comes_and_goes_while_another_serves,
    LabOptions::default(),
    config,
    a_pool_with_a_listener_comes_and_goes_while_another_serves
);

fn a_pool_with_a_listener_comes_and_goes_while_another_serves(scene: &mut Scene) {
    let first = scene.plan().pool(ServerKind::Redis, Family::V4);
    let second = scene.plan().extra_pool(0, Family::V4);
    let mut stays = connection(scene, 0, 0, first);
    assert_eq!(stays.words("SET a 1").unwrap(), Value::ok());
    let whole = config(scene.stage());
    let servers = scene.servers(ServerKind::Redis);
    let servers: Vec<SocketAddr> = servers.iter().map(|s| s.address(Family::V4)).collect();
    let plan = scene.plan();
    let extra = PoolText::extra(plan, 0, "extra", ServerKind::Redis, &servers[..1]);
    let mut more = whole.clone();
    // In front, so that every number of what stays changes.
    more.pools.insert(0, extra);
    for round in 0..3 {
        take_up(scene, &more);
        assert_eq!(stays.words("GET a").unwrap(), Value::bulk(b"1"));
        let mut comes = connection(scene, 1, 1 + round, second);
        assert_eq!(comes.words("SET b 2").unwrap(), Value::ok());
        assert_eq!(comes.words("GET b").unwrap(), Value::bulk(b"2"));
        take_up(scene, &whole);
        assert_eq!(stays.words("GET a").unwrap(), Value::bulk(b"1"));
        assert!(comes.words("GET b").is_err(), "its pool is no more");
    }
}

both_drivers!(
    a_lower_limit_of_clients_closes_nobody_and_takes_nobody_beyond_it,
    LabOptions {
        queues: 1,
        memcached: 0,
        redis: 1,
        ..LabOptions::default()
    },
    config,
    a_lower_limit_of_clients_closes_nobody_and_takes_nobody_beyond_it
);

fn a_lower_limit_of_clients_closes_nobody_and_takes_nobody_beyond_it(scene: &mut Scene) {
    let open = |scene: &Scene| scene.on_client(|| scene.plan().redis(Family::V4));
    let ping = |client: &mut Redis| client.words("PING").unwrap();
    let pong = Value::Simple("PONG".to_owned());
    let full = Value::Error("ERR max number of clients reached".to_owned());
    let limited = |scene: &mut Scene, clients: usize| {
        let limit = format!("clients_max = {clients}");
        let limited = config(scene.stage()).every_pool(&limit);
        take_up(scene, &limited);
    };
    let wait_for_clients = |scene: &mut Scene, clients: usize| {
        scene.wait_for_status("the end of a client", |status| {
            status.pool_total("redis", "clients") == clients as u64
        });
    };
    let mut clients: Vec<Redis> = (0..3).map(|_| open(scene)).collect();
    for client in &mut clients {
        assert_eq!(ping(client), pong);
    }

    limited(scene, 1);
    while !clients.is_empty() {
        for client in &mut clients {
            assert_eq!(ping(client), pong);
        }
        assert_eq!(open(scene).reply().unwrap(), full);
        clients.pop();
        wait_for_clients(scene, clients.len());
    }
    clients.push(open(scene));
    assert_eq!(ping(&mut clients[0]), pong);
    assert_eq!(open(scene).reply().unwrap(), full);

    limited(scene, 2);
    clients.push(open(scene));
    for client in &mut clients {
        assert_eq!(ping(client), pong);
    }
    assert_eq!(open(scene).reply().unwrap(), full);
    let status = scene.wait_for_status("the count of those refused", |status| {
        status.pool_total("redis", "clients_refused") == 5
    });
    assert_eq!(status.pool_total("redis", "client_connections"), 5);
}
