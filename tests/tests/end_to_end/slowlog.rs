//! The slow log, from the request of a client to the table of `tidegate slowlog`.

use serde_json::Value as Json;
use std::time::{Duration, Instant};
use tidegate_tests::both_drivers;
use tidegate_tests::client::HANG_GUARD;
use tidegate_tests::client::resp::Value;
use tidegate_tests::config::{LabConfig, PoolText};
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;

/// Everything that a server is asked for takes a microsecond; the other pool has no slow log.
fn configure(stage: &dyn Stage) -> LabConfig {
    let plan = stage.plan();
    let redis = [plan.server(ServerKind::Redis, 0, Family::V4)];
    let pool = PoolText::on(plan, "noted", ServerKind::Redis, &redis).with("slowlog_us = 1");
    let quiet = PoolText::extra(plan, 0, "quiet", ServerKind::Redis, &redis).with("slowlog_us = 0");
    LabConfig::without_pools(stage)
        .top("slowlog_entries_max = 3")
        .pool(pool)
        .pool(quiet)
}

/// What `tidegate slowlog` prints.
fn slowlog(scene: &Scene, arguments: &[&str]) -> String {
    let mut words = vec!["slowlog", "--name", scene.stage().name()];
    words.extend(arguments);
    let output = scene.appliance.ask(&words).unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The log as JSON, once it satisfies `condition`: workers tell of slow requests soon, not at once.
fn log_with(scene: &Scene, what: &str, condition: impl Fn(&Json) -> bool) -> Json {
    let started = Instant::now();
    loop {
        let log: Json = serde_json::from_str(&slowlog(scene, &["--json", "get", "100"])).unwrap();
        if condition(&log) {
            return log;
        }
        assert!(started.elapsed() < HANG_GUARD, "no {what}: {log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

both_drivers!(
    slow_requests_are_told_with_key_client_and_server,
    LabOptions {
        memcached: 0,
        redis: 1,
        ..LabOptions::default()
    },
    configure,
    slow_requests_are_told_with_key_client_and_server
);

fn slow_requests_are_told_with_key_client_and_server(scene: &mut Scene) {
    let plan = scene.plan();
    assert_eq!(slowlog(scene, &[]), "no slow requests\n");
    let client = scene.on_client(|| {
        let mut quiet = tidegate_tests::client::resp::Redis::open(plan.extra_pool(0, Family::V4))
            .expect("the pool accepts");
        assert_eq!(quiet.words("GET unseen").unwrap(), Value::Bulk(None));
        let mut client = plan.redis(Family::V4);
        assert_eq!(client.words("SET user:17 abc").unwrap(), Value::ok());
        assert_eq!(client.words("PING").unwrap(), Value::Simple("PONG".into()));
        assert_eq!(client.words("GET user:17").unwrap(), Value::bulk(b"abc"));
        client.connection.stream().local_addr().unwrap().to_string()
    });
    let log = log_with(scene, "both requests", |log| log["len"] == 2);
    let [get, set] = &log["entries"].as_array().unwrap()[..] else {
        panic!("{log}");
    };
    assert_eq!(
        (&get["command"], &set["command"]),
        (&"get".into(), &"set".into())
    );
    let server = plan.server(ServerKind::Redis, 0, Family::V4);
    for entry in [get, set] {
        assert_eq!(entry["key"], "user:17", "{entry}");
        assert_eq!(entry["pool"], "noted", "{entry}");
        assert_eq!(entry["client"], client.as_str(), "{entry}");
        assert_eq!(entry["server"], server.to_string(), "{entry}");
        assert_eq!(entry["end"], "replied", "{entry}");
        assert!(entry["server_us"].as_u64() > Some(0), "{entry}");
    }
    assert_eq!(
        (&get["request_bytes"], &get["reply_bytes"]),
        (&26.into(), &9.into())
    );
    let text = slowlog(scene, &[]);
    assert!(text.contains("user:17") && text.contains(&client), "{text}");

    // The log keeps the latest.
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        for number in 0..10 {
            client.words(&format!("GET k{number}")).unwrap();
        }
    });
    let log = log_with(scene, "the last request", |log| {
        log["entries"][0]["key"] == "k9"
    });
    assert_eq!(log["len"], 3, "{log}");
    assert_eq!(slowlog(scene, &["len"]), "3\n");
    assert_eq!(slowlog(scene, &["reset"]), "");
    assert_eq!(slowlog(scene, &["len"]), "0\n");
    let slow =
        |status: &tidegate_tests::appliance::Status, pool| status.pool_total(pool, "slow_requests");
    scene.wait_for_status("the count", |status| slow(status, "noted") == 12);
    let status = scene.appliance.status().unwrap();
    assert_eq!(slow(&status, "quiet"), 0);
}
