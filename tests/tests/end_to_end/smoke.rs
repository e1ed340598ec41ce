//! The smoke test itself: it has to notice what is wrong, and to be content with what is right.

use std::net::SocketAddr;
use std::process::Output;
use tidegate_tests::both_drivers;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::lab::program;
use tidegate_tests::lab::servers::ServerKind;
use tidegate_tests::scene::Scene;

/// Runs it on the client host.
fn smoke(scene: &Scene, pools: &[(&str, SocketAddr)]) -> (Option<i32>, String) {
    let mut command = scene
        .client_host()
        .command(program("tidegate-smoke").unwrap());
    command.args(["--connections", "8", "--requests", "50"]);
    for (option, address) in pools {
        command.arg(option).arg(address.to_string());
    }
    let Output { status, stdout, .. } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stdout).into_owned())
}

both_drivers!(pools_that_serve_pass);

fn pools_that_serve_pass(scene: &mut Scene) {
    let pool = |kind| scene.plan().pool(kind, Family::V4);
    let pools = [
        ("--redis", pool(ServerKind::Redis)),
        ("--memcached", pool(ServerKind::Memcached)),
    ];
    let (code, printed) = smoke(scene, &pools);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("1600 replies, all of them right."),
        "{printed}"
    );
}

both_drivers!(a_pool_of_another_protocol_and_one_that_nobody_serves_fail);

fn a_pool_of_another_protocol_and_one_that_nobody_serves_fail(scene: &mut Scene) {
    let plan = scene.plan();
    let other = plan.pool(ServerKind::Memcached, Family::V4);
    let nobody = plan.extra_pool(0, Family::V4);
    for wrong in [other, nobody] {
        let right = ("--memcached", other);
        let (code, printed) = smoke(scene, &[right, ("--redis", wrong)]);
        assert_eq!(code, Some(1), "{printed}");
        assert!(
            printed.contains(&format!("NOT right: redis {wrong}")),
            "{printed}"
        );
        assert!(!printed.contains("NOT right: memcached"), "{printed}");
    }
}
