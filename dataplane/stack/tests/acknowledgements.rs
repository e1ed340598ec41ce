//! When acknowledgements leave: never later than their burst, or with the reply.

mod common;

use common::{ACK, CLIENT, Options, SERVER, Tcp, World};
use tidegate_config::AckMode;
use tidegate_proxy::streams::{StreamId, Streams};
use tidegate_stack::limits::HOLD_US;

fn with_reply() -> Options {
    Options {
        ack: AckMode::WithReply,
        client_buffer_bytes: 16_384,
        ..Options::default()
    }
}

fn immediate() -> Options {
    Options {
        client_buffer_bytes: 16_384,
        ..Options::default()
    }
}

/// A world whose client acknowledges at once, so that only the server's habit is seen.
fn world(options: &Options) -> (World, StreamId, StreamId) {
    let mut world = World::mixed(&immediate(), options);
    let (client, server) = world.open();
    // Opens the client's congestion window, so that a burst leaves as one.
    for _ in 0..16 {
        world.client().send(client, &[0; 1_448]);
        world.run(1);
        consume_all(&mut world, server);
        world.pass(2 * HOLD_US, HOLD_US);
    }
    world.record = true;
    (world, client, server)
}

/// Sends `bytes` from the client in segments and lets the server take them in one burst without sending anything.
fn burst(world: &mut World, client: StreamId, bytes: usize) {
    assert_eq!(world.client().send(client, &vec![1; bytes]), bytes);
    world.transmit(CLIENT);
    world.carry(CLIENT);
    world.receive(SERVER);
}

fn consume_all(world: &mut World, server: StreamId) {
    let received = world.server().received(server);
    world.server().consume(server, received);
}

fn egress(world: &mut World) -> Vec<Tcp> {
    world.log.clear();
    world.transmit(SERVER);
    world.carry(SERVER);
    world.sent_by(SERVER)
}

#[test]
fn a_burst_of_four_segments_gets_one_acknowledgement() {
    let (mut world, client, _) = world(&immediate());
    burst(&mut world, client, 4 * 1_448);
    assert_eq!(world.sent_by(CLIENT).len(), 4);
    let sent = egress(&mut world);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags, sent[0].payload.len()), (ACK, 0));
    assert_eq!(egress(&mut world), [], "and only once");
}

#[test]
fn a_reply_that_is_ready_carries_the_acknowledgement() {
    let (mut world, client, server) = world(&immediate());
    let alone = world.server().counters().acks_alone;
    burst(&mut world, client, 100);
    consume_all(&mut world, server);
    world.server().send(server, b"reply");
    let sent = egress(&mut world);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].payload, b"reply");
    assert_eq!(sent[0].acknowledgement, world.sent_by_client_end());
    assert_eq!(world.server().counters().acks_alone, alone);
}

impl World {
    fn sent_by_client_end(&mut self) -> u32 {
        // The client has sent nothing since: its next sequence number is what it acknowledges next.
        self.log.clear();
        self.run(1);
        self.sent_by(CLIENT)
            .last()
            .map_or(0, |segment| segment.sequence)
    }
}

#[test]
fn a_complete_request_is_acknowledged_with_its_reply() {
    let (mut world, client, server) = world(&with_reply());
    burst(&mut world, client, 100);
    consume_all(&mut world, server);
    world.server().expect_reply(server, true);
    assert_eq!(egress(&mut world), [], "the acknowledgement waits");
    assert_eq!(world.server().counters().acks_held, 1);
    world.now_us += HOLD_US - 1;
    world.receive(SERVER);
    assert_eq!(egress(&mut world), []);
    world.server().send(server, b"reply");
    let sent = egress(&mut world);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].payload, b"reply");
}

#[test]
fn a_held_acknowledgement_leaves_alone_when_the_reply_is_late() {
    let (mut world, client, server) = world(&with_reply());
    burst(&mut world, client, 100);
    consume_all(&mut world, server);
    world.server().expect_reply(server, true);
    assert_eq!(egress(&mut world), []);
    let due = world
        .server()
        .next_timer_us()
        .expect("the hold has a deadline");
    assert!(due <= world.now_us + HOLD_US);
    world.now_us = due;
    world.receive(SERVER);
    let sent = egress(&mut world);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags, sent[0].payload.len()), (ACK, 0));
}

#[test]
fn an_incomplete_request_is_acknowledged_in_the_same_pass() {
    let (mut world, client, server) = world(&with_reply());
    burst(&mut world, client, 100);
    // The proxy expects a reply to something earlier, but leaves the beginning of the next request in the buffer.
    world.server().expect_reply(server, true);
    world.server().consume(server, 60);
    let sent = egress(&mut world);
    assert_eq!(
        sent.len(),
        1,
        "whoever waits for the acknowledgement to send the rest gets it at once"
    );
    assert_eq!(world.server().counters().acks_held, 0);
}

#[test]
fn without_an_expected_reply_nothing_is_held() {
    let (mut world, client, server) = world(&with_reply());
    burst(&mut world, client, 100);
    consume_all(&mut world, server);
    assert_eq!(egress(&mut world).len(), 1);

    // A hold that has begun ends when the reply is called off.
    burst(&mut world, client, 100);
    consume_all(&mut world, server);
    world.server().expect_reply(server, true);
    assert_eq!(egress(&mut world), []);
    world.server().expect_reply(server, false);
    assert_eq!(egress(&mut world).len(), 1);
}

#[test]
fn a_hold_never_covers_more_than_two_segments() {
    let (mut world, client, server) = world(&with_reply());
    world.server().expect_reply(server, true);
    burst(&mut world, client, 1_448);
    consume_all(&mut world, server);
    assert_eq!(egress(&mut world), []);
    burst(&mut world, client, 1_448);
    consume_all(&mut world, server);
    let sent = egress(&mut world);
    assert_eq!(sent.len(), 1, "two full segments are acknowledged at once");
}

#[test]
fn the_server_leg_holds_until_the_next_request_carries_the_acknowledgement() {
    let mut world = World::mixed(&with_reply(), &immediate());
    let (client, server) = world.open();
    world.run(2);
    world.server().send(server, b"reply");
    world.transmit(SERVER);
    world.carry(SERVER);
    world.receive(CLIENT);
    let waiting = world.client().received(client);
    world.client().consume(client, waiting);
    world.record = true;
    world.transmit(CLIENT);
    world.carry(CLIENT);
    assert_eq!(world.sent_by(CLIENT), []);
    world.client().send(client, b"next");
    world.transmit(CLIENT);
    world.carry(CLIENT);
    let sent = world.sent_by(CLIENT);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].payload, b"next");
}

#[test]
fn a_fin_is_never_held() {
    let (mut world, client, server) = world(&with_reply());
    world.server().expect_reply(server, true);
    world.client().send(client, b"bye");
    world.client().finish(client);
    world.transmit(CLIENT);
    world.carry(CLIENT);
    world.receive(SERVER);
    consume_all(&mut world, server);
    assert_eq!(egress(&mut world).len(), 1);
}
