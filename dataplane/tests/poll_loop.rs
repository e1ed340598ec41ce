//! The poll loop with its real layers, over a wire.

mod common;

use common::{PATIENCE, Peer, REPLY, scene};
use std::time::{Duration, Instant};
use tidegate_dataplane::control::Command;
use tidegate_dataplane::limits::{IDLE_AWAKE_US, SLEEP_MAX_US};
use tidegate_dataplane::poll_loop::Ended;
use tidegate_link::Announcement;
use tidegate_proxy::streams::{CloseReason, StreamId, Streams};

#[test]
fn a_request_crosses_the_loop_whether_it_spins_or_sleeps() {
    for (idle, bells) in [("spin", false), ("adaptive", true), ("adaptive", false)] {
        let mut scene = scene(idle, bells);
        scene.reach_server();
        scene.peer.request();
        scene
            .peer
            .turn_until("the reply", |peer| peer.received == REPLY);
        let (ended, poll_loop, _) = scene.end(Command::Stop);
        assert_eq!(ended, Ended::Stopped);
        assert!(poll_loop.counters.busy_turns > 0 && poll_loop.counters.busy_ns > 0);
        if !bells {
            assert_eq!(
                poll_loop.counters.sleeps, 0,
                "a wire without bells cannot be slept on"
            );
        }
    }
}

#[test]
fn an_idle_worker_sleeps_and_a_bell_or_a_frame_wakes_it() {
    let mut scene = scene("adaptive", true);
    let started = Instant::now();
    let mut reader = scene.around.statistics;
    while reader.read_loop().sleeps == 0 {
        assert!(started.elapsed() < PATIENCE, "it never slept");
        std::thread::sleep(Duration::from_micros(IDLE_AWAKE_US));
    }
    scene.around.statistics = reader;
    scene.reach_server();
    scene.peer.request();
    scene
        .peer
        .turn_until("the reply", |peer| peer.received == REPLY);
    assert_eq!(scene.end(Command::ManagerGone).0, Ended::ManagerGone);
}

#[test]
fn an_idle_worker_has_a_heartbeat_whether_it_spins_or_sleeps() {
    for idle in ["spin", "adaptive"] {
        let mut scene = scene(idle, true);
        let first = scene.around.statistics.read_loop().heartbeat;
        let started = Instant::now();
        while scene.around.statistics.read_loop().heartbeat < first + 3 {
            assert!(started.elapsed() < PATIENCE, "idle = {idle}: no heartbeat");
            std::thread::sleep(Duration::from_micros(SLEEP_MAX_US / 10));
        }
        scene.end(Command::Stop);
    }
}

#[test]
fn statistics_add_up_after_a_request() {
    let mut scene = scene("adaptive", true);
    scene.reach_server();
    scene.peer.request();
    scene
        .peer
        .turn_until("the reply", |peer| peer.received == REPLY);
    let started = Instant::now();
    loop {
        let seen = scene.around.statistics.read().clone();
        if seen.pools[0].replies == 1 {
            assert_eq!(
                (
                    seen.pools[0].requests,
                    seen.servers[0].requests,
                    seen.servers[0].replies
                ),
                (1, 1, 1)
            );
            assert_eq!((seen.stack.accepted, seen.stack.connected), (1, 1));
            break;
        }
        assert!(started.elapsed() < PATIENCE, "not published: {seen:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    scene.end(Command::Stop);
}

#[test]
fn a_port_that_moves_keeps_its_connections_and_says_where_it_is() {
    const MOVED: [u8; 6] = [2, 0, 0, 0, 0, 9];
    let mut scene = scene("adaptive", true);
    scene.reach_server();
    let id = scene.peer.request();
    scene
        .peer
        .turn_until("the reply", |peer| peer.received == REPLY);
    scene.around.paths.set_station(0, MOVED);
    let addresses = vec!["10.0.0.1".parse().unwrap()];
    let announcement = Announcement::new(0, MOVED, addresses);
    scene.around.commands.send(Command::Announce(announcement));
    // It goes to all, and is no TCP.
    scene.peer.turn_until("the announcement", |peer| {
        peer.stack.counters().frames_not_ours > 0
    });
    scene.peer.finds_worker_at(MOVED);
    scene.peer.request_on(id);
    scene.peer.turn_until("the reply from there", |peer| {
        peer.received.len() == 2 * REPLY.len()
    });
    let (_, poll_loop, _) = scene.end(Command::Stop);
    let counters = poll_loop.network.stack.counters();
    assert_eq!((counters.accepted, counters.connected), (1, 1));
}

#[test]
fn a_drain_delivers_what_is_owed_and_closes_in_order() {
    let mut scene = scene("adaptive", true);
    scene.reach_server();
    scene.peer.answers = false;
    scene.peer.request();
    let waiting = |peer: &mut Peer| peer.stack.counters().accepted == 1;
    scene.peer.turn_until("the request at the server", waiting);
    scene.around.commands.send(Command::Drain {
        deadline_us: 15_000_000,
    });
    for _ in 0..100 {
        scene.peer.turn();
        std::thread::yield_now();
    }
    assert!(!scene.worker.is_finished(), "a reply is owed");
    scene.peer.answers = true;
    // The server looks at its waiting request again.
    for id in 0..scene.peer.stack.slots() as u32 {
        scene.peer.stack.mark_ready(StreamId(id));
    }
    let worker = scene.worker;
    scene.peer.turn_until("the end", |peer| {
        worker.is_finished() && peer.closed.is_some()
    });
    assert_eq!(scene.peer.received, REPLY);
    assert_eq!(scene.peer.closed, Some(CloseReason::Finished));
    assert_eq!(worker.join().unwrap().0, Ended::Drained);
}

#[test]
fn a_drain_ends_at_its_deadline_with_what_is_owed_named() {
    let mut scene = scene("adaptive", true);
    scene.reach_server();
    scene.peer.answers = false;
    scene.peer.request();
    let waiting = |peer: &mut Peer| peer.stack.counters().accepted == 1;
    scene.peer.turn_until("the request at the server", waiting);
    scene.around.commands.send(Command::Drain {
        deadline_us: 50_000,
    });
    let worker = scene.worker;
    scene.peer.turn_until("the end", |peer| {
        worker.is_finished() && peer.closed.is_some()
    });
    assert_eq!(worker.join().unwrap().0, Ended::DeadlinePassed { owed: 1 });
    assert_eq!(
        scene.peer.closed,
        Some(CloseReason::Reset),
        "the client knows"
    );
}
