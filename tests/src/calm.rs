//! Whether a worker works for what arrives, or spins.

use crate::appliance::Status;
use crate::client::resp::{Redis, Value};
use crate::scene::Scene;
use std::time::Instant;

/// Requests that the check drives past whatever the test holds open.
const REQUESTS: u64 = 500;

/// Turns that one request may cost: it arrives, goes to its server, its reply comes and leaves, and each of these may be
/// acknowledged apart. A worker that spins takes a hundred and more in the time of one request.
const TURNS_PER_REQUEST: u64 = 6;

/// Turns that timers may cost, for each millisecond that passes. A worker that spins takes dozens, however little of its core it
/// gets.
const TURNS_PER_MS: u64 = 1;

/// Fails if the workers do more than requests and their timers give them to do. `client` asks, served by the pool of real Redis
/// servers; what else is open is idle, blocked or half closed, and must not keep them busy. Requests that they still take from
/// others count as well.
pub fn assert_nobody_spins(scene: &mut Scene, client: &mut Redis) {
    let requests = |status: &Status| status.pool_total("redis", "requests");
    let turns = |status: &Status| -> u64 {
        let workers = 0..status.workers().len();
        workers
            .map(|worker| status.turns(worker, "busy_turns") + status.socket(worker, "waits"))
            .sum()
    };
    let before = scene.appliance.status().expect("Tidegate tells its status");
    let started = Instant::now();
    for number in 0..REQUESTS {
        let reply = client.words(&format!("SET calm-{number} x"));
        assert_eq!(reply.expect("the client is served"), Value::ok());
    }
    let after = scene.wait_for_status("the requests' count", |status| {
        requests(status) >= requests(&before) + REQUESTS
    });
    let elapsed_ms = started.elapsed().as_millis() as u64;
    let (taken, spent) = (
        requests(&after) - requests(&before),
        turns(&after) - turns(&before),
    );
    // Each turn may have a wait of its own.
    let most = 2 * (taken * TURNS_PER_REQUEST + elapsed_ms * TURNS_PER_MS);
    assert!(
        spent <= most,
        "{spent} turns and waits for {taken} requests in {elapsed_ms} ms, at most {most} were expected: somebody spins"
    );
}
