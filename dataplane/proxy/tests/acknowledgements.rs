//! Whether a reply will acknowledge what was received: where not, the sender must not be told that one is expected.

use crate::model::{World, limits, pool};
use tidegate_config::Protocol;
use tidegate_proxy::streams::{StreamId, Streams};

/// A world whose only server takes no requests, and its client.
fn world(requests: &[u8]) -> (World, usize) {
    let mut world = World::new(&[pool(Protocol::Memcached, 1)], &limits(), 1);
    world.servers[0].stopped = true;
    let client = world.connect(requests.to_vec());
    deliver(&mut world);
    (world, client)
}

/// Everything that was sent is with the proxy, long before a request times out.
fn deliver(world: &mut World) {
    for _ in 0..200 {
        world.step();
    }
}

fn expects(world: &mut World, client: usize) -> bool {
    assert!(
        world.clients[client].to_send.is_empty(),
        "everything arrived"
    );
    let id = world.clients[client].id;
    world.streams.stream(id).expects
}

fn say(world: &mut World, client: usize, bytes: &[u8]) {
    world.clients[client].to_send.extend(bytes);
    deliver(world);
}

fn id(world: &World, client: usize) -> StreamId {
    world.clients[client].id
}

#[test]
fn a_request_that_is_not_answered_has_no_reply_to_wait_for() {
    let (mut world, client) = world(b"set a 0 0 1 noreply\r\nx\r\n");
    assert!(!expects(&mut world, client));
    say(&mut world, client, b"get a\r\n");
    assert!(expects(&mut world, client), "this one is answered");
    say(&mut world, client, b"set a 0 0 1 noreply\r\nx\r\n");
    assert!(!expects(&mut world, client));
}

#[test]
fn an_upload_that_is_not_answered_has_no_reply_to_wait_for() {
    let mut request = b"set a 0 0 6000 noreply\r\n".to_vec();
    request.extend([b'x'; 6_000]);
    let (mut world, client) = world(&request);
    assert!(!expects(&mut world, client));
    say(&mut world, client, b"\r\n");
    assert!(!expects(&mut world, client), "it is complete");
    assert_eq!(world.proxy.owed(), 1);
}

#[test]
fn a_held_request_that_is_incomplete_does_not_wait_for_the_reply_to_an_earlier_one() {
    let (mut world, client) = world(b"get a\r\n");
    assert!(expects(&mut world, client));
    say(&mut world, client, b"set a 0 0 2000\r\n");
    say(&mut world, client, &[b'x'; 2_000]);
    let stream = id(&world, client);
    assert_eq!(world.streams.received(stream), 0, "it is held");
    assert!(!expects(&mut world, client));
    say(&mut world, client, b"\r\n");
    assert!(expects(&mut world, client), "it is complete");
}

#[test]
fn a_refused_request_that_is_incomplete_does_not_wait_for_the_reply_to_an_earlier_one() {
    let (mut world, client) = world(b"get a\r\n");
    let mut refused = b"set ".to_vec();
    refused.extend([b'k'; 251]);
    refused.extend(b" 0 0 2000\r\n");
    say(&mut world, client, &refused);
    say(&mut world, client, &[b'x'; 1_000]);
    let stream = id(&world, client);
    assert_eq!(world.streams.received(stream), 0, "it is skipped");
    assert!(!expects(&mut world, client));
}

#[test]
fn a_server_waits_for_an_acknowledgement_only_while_it_owes_a_reply() {
    let (mut world, _) = world(b"get a\r\nget b\r\n");
    let link = StreamId(world.server_slots(0)[0]);
    let mut may_wait = |bytes: &[u8]| {
        world.say(0, bytes);
        deliver(&mut world);
        assert_eq!(world.streams.received(link), 0);
        world.streams.stream(link).expects
    };
    assert!(!may_wait(b"END\r\n"), "a second reply is owed");
    assert!(!may_wait(b"VALUE b 0 2\r\n"), "the rest is owed");
    assert!(may_wait(b"bb\r\nEND\r\n"));
}

#[test]
fn a_server_that_owes_the_rest_of_a_part_is_not_taken_for_one_that_owes_nothing() {
    let (mut world, client) = world(b"get a\r\n");
    let link = StreamId(world.server_slots(0)[0]);
    world.say(0, b"END\r\n");
    deliver(&mut world);
    assert!(world.streams.stream(link).expects);
    say(&mut world, client, b"get a b\r\n");
    world.say(0, b"VALUE a 0 2\r\naa\r\n");
    deliver(&mut world);
    assert!(!world.streams.stream(link).expects);
}
