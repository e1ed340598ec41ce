//! A worker allocates everything at start: serving requests, accepting and closing connections takes no memory from the system.

// The allocator below is the only way to see allocations.
#![allow(unsafe_code)]

mod common;

use common::{REPLY, scene};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_dataplane::control::Command;
use tidegate_dataplane::poll_loop::Ended;

/// Allocations of threads that said they are workers.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

fn count() {
    // A thread that is being torn down is no worker.
    if IS_WORKER.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
