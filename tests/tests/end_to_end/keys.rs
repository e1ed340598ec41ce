//! Hot and big keys, from the requests of clients to `tidegate hotkeys` and `tidegate bigkeys`.

use serde_json::Value as Json;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use tidegate_tests::both_drivers;
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::scene::Scene;

/// Runs a command beside clients of both workers that ask for `hot` nine times in ten, and for a large value now and then.
fn watch(scene: &Scene, arguments: &[&str]) -> Output {
    let plan = scene.plan();
    let done = AtomicBool::new(false);
    let mut words = arguments.to_vec();
    words.extend(["--name", scene.stage().name()]);
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            scene.on_client(|| {
                let mut clients: Vec<_> = (0..8).map(|_| plan.redis(Family::V4)).collect();
                let large = "v".repeat(20_000);
                let mut turn = 0;
                while !done.load(Ordering::Relaxed) {
                    turn += 1;
                    for client in &mut clients {
                        client.words("GET hot").unwrap();
                        if turn % 10 == 0 {
                            client.words(&format!("GET cold{turn}")).unwrap();
                        }
                    }
                    // A busy machine may have some tens of turns in the second that is watched.
                    if turn % 5 == 0 {
                        clients[0].words(&format!("SET large {large}")).unwrap();
                    }
                }
            });
        });
        let output = scene.appliance.ask(&words).unwrap();
        done.store(true, Ordering::Relaxed);
        clients.join().unwrap();
        output
    })
}

both_drivers!(
    hot_and_big_keys_of_all_workers_are_told,
    LabOptions {
        memcached: 0,
        redis: 1,
        ..LabOptions::default()
    },
    |stage| LabConfig::new(stage, Family::V4),
    hot_and_big_keys_of_all_workers_are_told
);

fn hot_and_big_keys_of_all_workers_are_told(scene: &mut Scene) {
    let output = watch(
        scene,
        &[
            "hotkeys",
            "redis",
            "--seconds",
            "1",
            "--sample",
            "1",
            "--json",
        ],
    );
    assert!(output.status.success(), "{output:?}");
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    let number = |value: &Json| value.as_u64().unwrap_or_else(|| panic!("{report}"));
    assert_eq!(report["missing"], serde_json::json!([]), "{report}");
    assert_eq!(report["counted"], report["passed"], "{report}");
    let hottest = &report["hot"][0];
    assert_eq!(
        (&hottest["key"], &hottest["pool"]),
        (&"hot".into(), &"redis".into())
    );
    assert!(
        number(&hottest["count"]) * 10 > number(&report["counted"]) * 8,
        "{report}"
    );
    assert_eq!(report["big"][0]["key"], "large", "{report}");
    assert!(number(&report["big"][0]["bytes"]) > 20_000, "{report}");

    let output = watch(scene, &["bigkeys", "--seconds", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("large") && text.contains("set"), "{text}");
    let output = watch(scene, &["hotkeys", "--seconds", "1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("hot") && text.contains("per second"),
        "{text}"
    );

    let refused = scene
        .appliance
        .ask(&["hotkeys", "nobody", "--name", scene.stage().name()]);
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("there is no pool \"nobody\", only redis"),
        "{said}"
    );
}
