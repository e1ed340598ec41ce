//! `/metrics`, `/healthz` and JSON of a running instance, over both drivers.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidegate_tests::config::LabConfig;
use tidegate_tests::http::get;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::load::Load;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::{Driver, Role, Stage};
use tidegate_tests::{both_drivers, plan::Plan};

/// Turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

const REQUESTS: usize = 500;

/// Where the page is. In the lab the appliance has a loopback interface of its own.
fn page(driver: Driver, plan: Plan) -> SocketAddr {
    match driver {
        Driver::Kernel => plan.extra_pool(0, Family::V4),
        Driver::Afxdp | Driver::DpdkPacket | Driver::DpdkXdp => {
            SocketAddr::from(([127, 0, 0, 1], 9_119))
        }
    }
}

fn with_page(stage: &dyn Stage) -> LabConfig {
    let address = page(stage.driver(), stage.plan());
    LabConfig::new(stage, Family::V4).top(&format!("http_listen = \"{address}\""))
}

fn ask(scene: &Scene, path: &str) -> (u16, String) {
    let address = page(scene.driver(), scene.plan());
    let host = scene.stage().host(Role::Appliance);
    host.run(|| get(address, path, "").unwrap_or_else(|error| panic!("{path}: {error:?}")))
}

/// Asks until the answer is as wanted: what is told is up to a second old.
fn wait_for(scene: &Scene, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let started = Instant::now();
    loop {
        let (status, body) = ask(scene, path);
        if wanted(status, &body) {
            return body;
        }
        assert!(started.elapsed() < PATIENCE, "{path}: {status} {body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

both_drivers!(
    what_was_asked_for_is_told,
    LabOptions::default(),
    with_page,
    |scene| {
        let load = Load {
            kind: ServerKind::Redis,
            targets: vec![scene.plan().pool(ServerKind::Redis, Family::V4)],
            connections: 4,
            requests: REQUESTS,
            value_bytes: 100,
        };
        let report = scene.on_client(|| load.run().unwrap());
        assert_eq!(report.wrong, 0, "{report:?}");
        let sent = 4 * REQUESTS as u64;
        let stats = wait_for(scene, "/api/stats", |status, body| {
            let stats: Value = serde_json::from_str(body).unwrap_or_default();
            status == 200 && stats["pools"][1]["counters"]["requests"] == sent
        });
        let stats: Value = serde_json::from_str(&stats).unwrap();
        assert_eq!(stats["name"], scene.stage().name());
        assert_eq!(stats["pools"][1]["servers"].as_array().unwrap().len(), 3);
        let line = format!("tidegate_pool_requests_total{{pool=\"redis\"}} {sent}");
        wait_for(scene, "/metrics", |status, body| {
            status == 200 && body.lines().any(|found| found == line)
        });
        wait_for(scene, "/api/history", |_, body| {
            let points: Value = serde_json::from_str(body).unwrap_or_default();
            let last = points.as_array().and_then(|points| points.last());
            last.is_some_and(|last| last["pools"][1][0] == "redis" && last["busy"][1].is_number())
        });
    }
);

both_drivers!(
    a_worker_that_died_is_seen,
    LabOptions::default(),
    with_page,
    |scene| {
        wait_for(scene, "/healthz", |status, body| {
            status == 200 && body == "ok\n"
        });
        let worker = scene.appliance.status().unwrap().workers()[1].pid;
        let pid = nix::unistd::Pid::from_raw(worker);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        wait_for(scene, "/api/events", |_, body| {
            body.contains("killed by SIGKILL")
        });
        wait_for(scene, "/healthz", |status, _| status == 200);
        wait_for(scene, "/api/stats", |_, body| {
            let stats: Value = serde_json::from_str(body).unwrap_or_default();
            stats["workers"][1]["restarts"] == 1
        });
    }
);
