//! A worker allocates everything at start: serving requests, accepting and closing connections takes no memory from the system.

mod common;

use common::{REPLY, scene};
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;

/// How often a worker's loop takes memory while it serves so many connections.
fn allocations(idle: &str, connections: usize) -> u64 {
    let mut scene = scene(idle, true);
    scene.reach_server();
    for _ in 0..connections {
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
    let (ended, _, allocations) = scene.end(Command::Stop);
    assert_eq!(ended, Ended::Stopped);
    allocations
}

#[test]
fn serving_requests_and_connections_allocates_nothing() {
    let one = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1_u8))));
    assert_eq!(one.count_total, 1, "the counter works");
    for idle in ["spin", "adaptive"] {
        // Whatever the C library allocates at the first call of something.
        allocations(idle, 3);
        assert_eq!(
            allocations(idle, 3),
            allocations(idle, 200),
            "idle = {idle}"
        );
    }
}
