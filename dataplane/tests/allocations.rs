//! A worker allocates everything at start: serving requests, accepting and closing connections takes no memory from the system.

mod common;
// The allocator's trait is unsafe.
#[allow(unsafe_code)]
mod counting;

use common::{REPLY, scene};
use counting::{ALLOCATIONS, IS_WORKER};
use std::sync::atomic::Ordering;
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;

#[test]
fn serving_requests_and_connections_allocates_nothing() {
    for idle in ["spin", "adaptive"] {
        let mut scene = scene(idle, true, || IS_WORKER.set(true));
        scene.reach_server();
        let connections = |scene: &mut common::Scene, count: usize| {
            for _ in 0..count {
                scene.peer.received.clear();
                scene.peer.closed = None;
                let id = scene.peer.request();
                scene
                    .peer
                    .turn_until("the reply", |peer| peer.received == REPLY);
                for request in 1..10 {
                    scene.peer.request_on(id);
                    let bytes = REPLY.len() * (request + 1);
                    scene
                        .peer
                        .turn_until("the reply", |peer| peer.received.len() == bytes);
                }
                scene.peer.finish(id);
                scene
                    .peer
                    .turn_until("the close", |peer| peer.closed.is_some());
            }
        };
        // The connection to the server, and whatever the C library allocates at the first call of something.
        connections(&mut scene, 3);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        assert!(
            before > 0,
            "the worker's start does allocate: the counter works"
        );
        connections(&mut scene, 200);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "idle = {idle}");
        assert_eq!(scene.end(Command::Stop).0, Ended::Stopped);
    }
}
