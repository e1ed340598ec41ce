//! A worker over kernel sockets allocates everything at start, too.

// The allocator's trait is unsafe.
#[allow(unsafe_code)]
mod counting;
mod sockets;

use counting::{ALLOCATIONS, IS_WORKER};
use sockets::worker::{REPLY, REQUEST, Scene};
use sockets::{read_exactly, read_to_end, write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;

#[test]
fn serving_requests_and_connections_allocates_nothing() {
    for idle in ["spin", "adaptive"] {
        let scene = Scene::new(idle, || IS_WORKER.set(true));
        scene.go.send(()).unwrap();
        let connections = |count: usize| {
            for _ in 0..count {
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
        };
        // The connection to the server, and whatever the C library allocates at the first call of something.
        connections(3);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        assert!(
            before > 0,
            "the worker's start does allocate: the counter works"
        );
        connections(100);
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "idle = {idle}");
        assert_eq!(scene.end(Command::Stop).0, Ended::Stopped);
    }
}
