//! Peers that fall silent in every state.

mod common;

use common::{CLIENT, Faults, Options, SERVER, World};
use tidegate_proxy::streams::{CloseReason, ServerId, StreamId, StreamStatus, Streams};

/// From now on no frame arrives anywhere.
fn cut(world: &mut World) {
    world.faults = Faults {
        lose: 1,
        ..Faults::default()
    };
}

fn drain_ready(world: &mut World, host: usize) -> Vec<StreamId> {
    let stack = &mut world.hosts[host].stack;
    std::iter::from_fn(|| stack.next_ready()).collect()
}

#[test]
fn a_server_that_does_not_answer_times_out() {
    let mut world = World::new(&Options::default());
    cut(&mut world);
    let id = world.client().connect(ServerId(0)).expect("there is room");
    world.pass(3_900_000, 10_000);
    assert_eq!(world.client().status(id), StreamStatus::Connecting);
    assert_eq!(
        world.client().counters().retransmits,
        2,
        "the SYN left at 0 s, 1 s and 3 s"
    );
    world.pass(200_000, 10_000);
    assert_eq!(
        world.client().status(id),
        StreamStatus::Closed(CloseReason::TimedOut)
    );
    assert_eq!(drain_ready(&mut world, CLIENT), [id]);
    assert_eq!(world.client().counters().connects_failed, 1);
    world.client().release(id);
    assert_eq!(world.client().counters().servers_open, 0);
    assert_eq!(world.client().next_timer_us(), None);
}

#[test]
fn unanswered_data_ends_the_connection() {
    let mut world = World::new(&Options::default());
    let (client, server) = world.open();
    // The connection has been idle for long: that must not count.
    world.pass(20_000_000, 100_000);
    cut(&mut world);
    world.server().send(server, b"hello?");
    world.pass(14_000_000, 10_000);
    assert_eq!(world.server().status(server), StreamStatus::Open);
    world.pass(4_000_000, 10_000);
    assert_eq!(
        world.server().status(server),
        StreamStatus::Closed(CloseReason::TimedOut)
    );
    assert_eq!(world.server().counters().flows_timed_out, 1);
    assert_eq!(world.server().counters().retransmits, 4);
    assert_eq!(
        world.client().status(client),
        StreamStatus::Open,
        "the other end has nothing to lose yet"
    );
}

#[test]
fn a_silent_client_is_probed_and_then_given_up() {
    let mut world = World::new(&Options {
        keepalive_us: Some(60_000_000),
        ..Options::default()
    });
    let (client, server) = world.open();
    world.client().abort(client);
    world.client().release(client);
    // The reset gets lost with everything else.
    world.transmit(CLIENT);
    cut(&mut world);
    world.carry(CLIENT);
    world.record = true;
    world.pass(59_900_000, 100_000);
    assert_eq!(world.sent_by(SERVER), []);
    world.pass(11_000_000, 100_000);
    assert_eq!(world.sent_by(SERVER).len(), 4);
    assert_eq!(world.server().status(server), StreamStatus::Open);
    world.pass(2_000_000, 100_000);
    assert_eq!(
        world.server().status(server),
        StreamStatus::Closed(CloseReason::TimedOut)
    );
}

#[test]
fn a_server_that_acknowledges_nothing_twice_is_told_of() {
    let mut world = World::new(&Options::default());
    let (client, server) = world.open();
    cut(&mut world);
    // What a client does not acknowledge says nothing of a server.
    world.server().send(server, b"reply");
    world.client().send(client, b"request");
    world.pass(2_900_000, 100_000);
    assert_eq!(world.client().take_silent(), None);
    world.pass(500_000, 100_000);
    assert_eq!(world.client().take_silent(), Some(ServerId(0)));
    assert_eq!(world.client().take_silent(), None);
    // At each repetition, until it is given up.
    world.pass(4_000_000, 100_000);
    assert_eq!(world.client().take_silent(), Some(ServerId(0)));
    assert_eq!(world.client().counters().servers_silent, 2);
    assert_eq!(world.server().take_silent(), None);
}

#[test]
fn an_idle_server_that_answers_no_probe_is_told_of() {
    let mut world = World::new(&Options::default());
    let (_, _) = world.open();
    cut(&mut world);
    world.pass(32_900_000, 100_000);
    assert_eq!(world.client().take_silent(), None);
    world.pass(500_000, 100_000);
    assert_eq!(world.client().take_silent(), Some(ServerId(0)));
}

#[test]
fn an_idle_client_that_answers_probes_stays() {
    let mut world = World::new(&Options {
        keepalive_us: Some(5_000_000),
        ..Options::default()
    });
    let (client, server) = world.open();
    let frames = world.client().counters().frames_in;
    world.pass(61_000_000, 50_000);
    assert_eq!(world.server().status(server), StreamStatus::Open);
    assert_eq!(world.client().status(client), StreamStatus::Open);
    let probes = world.client().counters().frames_in - frames;
    assert!((11..=14).contains(&probes), "one per interval: {probes}");
    assert_eq!(world.server().counters().retransmits, 0);
}

#[test]
fn keep_alive_survives_a_request_in_the_turn_its_timer_expires() {
    let mut world = World::new(&Options {
        keepalive_us: Some(5_000_000),
        ..Options::default()
    });
    let (client, server) = world.open();
    world.pass(4_990_000, 10_000);
    world.step_us = 1_000;
    for _ in 0..30 {
        world.client().send(client, b"request");
        world.turn(|host, stack| {
            if host == SERVER {
                // It is on its way to a server: acknowledged, not answered.
                let received = stack.received(server);
                stack.consume(server, received);
            }
        });
    }
    cut(&mut world);
    world.pass(30_000_000, 10_000);
    assert_eq!(
        world.server().status(server),
        StreamStatus::Closed(CloseReason::TimedOut)
    );
}

#[test]
fn server_connections_are_always_probed() {
    let mut world = World::new(&Options::default());
    let (client, _) = world.open();
    world.pass(29_000_000, 50_000);
    cut(&mut world);
    world.pass(13_500_000, 50_000);
    assert_eq!(
        world.client().status(client),
        StreamStatus::Closed(CloseReason::TimedOut)
    );
}

#[test]
fn a_peer_that_never_closes_loses_its_slot() {
    let mut world = World::new(&Options::default());
    let (client, server) = world.open();
    world.server().release(server);
    world.pass(1_000_000, 10_000);
    assert_eq!(world.client().status(client), StreamStatus::HalfClosed);
    assert_eq!(world.server().counters().clients_open, 1, "FIN-WAIT-2");
    // It even goes on sending, which must not keep it alive.
    for _ in 0..100 {
        world.client().send(client, &[1; 3_000]);
        world.pass(100_000, 10_000);
    }
    assert_eq!(world.server().counters().clients_open, 0);
    assert_eq!(world.server().counters().flows_timed_out, 1);
    assert_eq!(
        world.client().status(client),
        StreamStatus::Closed(CloseReason::Reset)
    );
}

#[test]
fn a_lingering_stream_gives_up_when_the_peer_is_gone() {
    let mut world = World::new(&Options::default());
    let (_, server) = world.open();
    world.server().send(server, b"last words");
    cut(&mut world);
    world.server().release(server);
    world.pass(9_900_000, 10_000);
    assert_eq!(world.server().counters().clients_open, 1);
    world.pass(300_000, 10_000);
    assert_eq!(world.server().counters().clients_open, 0);
    assert_eq!(world.server().next_timer_us(), None);
}

#[test]
fn the_next_timer_is_never_missed_by_a_sleeping_worker() {
    let mut world = World::new(&Options {
        keepalive_us: Some(7_000_000),
        ..Options::default()
    });
    let (_, server) = world.open();
    world.run(4);
    cut(&mut world);
    world.server().send(server, b"hello?");
    world.run(1);
    let start_us = world.now_us;
    let mut sleeps = 0;
    // The worker wakes only when a timer says so, and still sees every retransmission and the end.
    while let Some(at_us) = world.server().next_timer_us() {
        world.now_us = world.now_us.max(at_us);
        world.receive(SERVER);
        world.transmit(SERVER);
        world.carry(SERVER);
        sleeps += 1;
        // With egress pending a worker does not go to sleep.
        while world.server().has_pending_egress() {
            world.transmit(SERVER);
            world.carry(SERVER);
        }
        assert!(sleeps < 1_000, "a timer that never ends");
    }
    assert_eq!(
        world.server().status(server),
        StreamStatus::Closed(CloseReason::TimedOut)
    );
    assert_eq!(world.server().counters().retransmits, 4);
    assert!(world.now_us - start_us < 20_000_000);
    assert!(sleeps < 40, "{sleeps} wake-ups");
}
