//! A port gets another link address under its connections.

mod common;

use common::{CLIENT, MACS, Options, SERVER, World, path};
use tidegate_proxy::streams::{ServerId, StreamId, StreamStatus, Streams};
use tidegate_stack::{Path, Stack};

const NEW: [u8; 6] = [2, 0, 0, 0, 0, 9];

fn take(stack: &mut Stack, id: StreamId) -> Vec<u8> {
    let mut bytes = vec![0; stack.received(id)];
    let copied = stack.copy(id, &mut bytes);
    stack.consume(id, copied);
    bytes
}

/// How the server is reached once its neighbours know.
fn moved(ipv6: bool) -> Path {
    Path {
        next_hop_mac: NEW,
        ..path(ipv6, CLIENT)
    }
}

/// The link addresses, from and to, of everything that `host` sends in one egress pass.
fn ends(world: &mut World, host: usize) -> Vec<([u8; 6], [u8; 6])> {
    world.log.clear();
    world.record = true;
    world.transmit(host);
    world.carry(host);
    world.record = false;
    let part = |frame: &[u8], at: usize| frame[at..at + 6].try_into().unwrap();
    let ends = world.log.iter();
    ends.map(|(_, frame)| (part(frame, 6), part(frame, 0)))
        .collect()
}

#[test]
fn an_open_connection_goes_on_when_the_end_that_listens_moves() {
    for ipv6 in [false, true] {
        let mut world = World::new(&Options {
            ipv6,
            ..Options::default()
        });
        let (client, server) = world.open();
        world.server().set_station(0, NEW);
        // The client has yet to hear of it.
        assert_eq!(world.client().send(client, b"lost"), 4);
        world.run(2);
        assert_eq!(world.server().counters().frames_other_station, 1);
        assert_eq!(world.server().received(server), 0);
        // What the server sends comes from there.
        assert_eq!(world.server().send(server, b"pong"), 4);
        assert_eq!(ends(&mut world, SERVER), [(NEW, MACS[CLIENT])]);
        // The announcement arrives.
        world.client().set_path(ServerId(0), Some(moved(ipv6)));
        world.pass(3_000_000, 10_000);
        assert_eq!(take(world.client(), client), b"pong");
        assert_eq!(take(world.server(), server), b"lost", "it was sent again");
        assert_eq!(world.client().status(client), StreamStatus::Open);
        world.check_sums();
    }
}

#[test]
fn an_open_connection_goes_on_when_the_end_that_connected_moves() {
    let mut world = World::new(&Options::default());
    let (client, server) = world.open();
    world.client().set_station(0, NEW);
    assert_eq!(world.client().send(client, b"ping"), 4);
    assert_eq!(ends(&mut world, CLIENT), [(NEW, MACS[SERVER])]);
    world.run(2);
    assert_eq!(take(world.server(), server), b"ping");
    assert_eq!(world.server().send(server, b"pong"), 4);
    assert_eq!(ends(&mut world, SERVER), [(MACS[SERVER], NEW)]);
    world.run(2);
    assert_eq!(take(world.client(), client), b"pong");
    // The next connection begins there, and a path that is told again changes nothing.
    world
        .client()
        .set_path(ServerId(0), Some(path(false, CLIENT)));
    world.client().connect(ServerId(0)).expect("there is room");
    assert_eq!(ends(&mut world, CLIENT), [(NEW, MACS[SERVER])]);
    assert_eq!(world.server().counters().frames_other_station, 0);
    world.check_sums();
}

#[test]
fn what_nobody_knows_is_answered_from_the_new_address_and_other_ports_stay() {
    let mut world = World::new(&Options::default());
    world.server().set_station(0, NEW);
    world.server().set_station(1, [7; 6]);
    world.client().connect(ServerId(0)).expect("there is room");
    world.run(2);
    assert_eq!(world.server().counters().frames_other_station, 1);
    world.client().set_path(ServerId(0), Some(moved(false)));
    world.transmit(CLIENT);
    world.carry(CLIENT);
    world.receive(SERVER);
    world.server().stop_accepting();
    world.client().connect(ServerId(0)).expect("there is room");
    world.transmit(CLIENT);
    world.carry(CLIENT);
    world.receive(SERVER);
    // A SYN-ACK, and a RST for whom it does not listen any more.
    let sent = ends(&mut world, SERVER);
    assert!(!sent.is_empty() && sent.iter().all(|ends| *ends == (NEW, MACS[CLIENT])));
}
