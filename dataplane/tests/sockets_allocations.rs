//! A worker over kernel sockets allocates everything at start, too.

mod sockets;

use sockets::worker::{REPLY, REQUEST, Scene};
use sockets::{read_exactly, read_to_end, write};
use std::net::Shutdown;
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;

/// How often a worker's loop takes memory while it serves so many connections.
fn allocations(idle: &str, connections: usize) -> u64 {
    let scene = Scene::new(idle);
    scene.go.send(()).unwrap();
    for _ in 0..connections {
        let mut client = scene.client();
        for _ in 0..10 {
            write(&mut client, REQUEST);
            assert_eq!(read_exactly(&mut client, REPLY.len()), REPLY);
        }
        // More than a buffer at once, so that the ends of the rings are crossed.
        write(&mut client, &REQUEST.repeat(300));
        client.shutdown(Shutdown::Write).unwrap();
        assert!(read_to_end(&mut client) == REPLY.repeat(300));
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
            allocations(idle, 100),
            "idle = {idle}"
        );
    }
}
