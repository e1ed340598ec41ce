//! More clients than slots, and floods of those who never come.

mod common;

use common::{ACK, CLIENT, Options, SERVER, Tcp, World, syn};
use tidegate_proxy::streams::{StreamStatus, Streams};
use tidegate_stack::limits::HALF_OPEN_SPARED_US;

/// More clients than slots, all at once: those who come too late wait until their SYN comes again, and nobody's handshake is given up.
#[test]
fn a_burst_of_clients_beyond_the_slots_resets_nobody() {
    let options = Options {
        client_slots: 8,
        half_open_max: 8,
        ..Options::default()
    };
    let mut world = World::new(&options);
    for port in 1..=20 {
        world.arrive(SERVER, &syn(port, 0).frame(CLIENT));
    }
    world.receive(SERVER);
    world.transmit(SERVER);
    let answers = world.take_sent(SERVER);
    let ports: Vec<_> = answers.iter().map(|tcp| tcp.destination.port()).collect();
    assert_eq!(ports, (1..=8).collect::<Vec<_>>());
    let counters = world.server().counters();
    assert_eq!(
        (counters.frames_no_slot, counters.half_open_evicted),
        (12, 0)
    );
    for answer in &answers[1..] {
        let ack = Tcp {
            sequence: 1,
            acknowledgement: answer.sequence.wrapping_add(1),
            ..Tcp::new(answer.destination, answer.source, ACK)
        };
        world.arrive(SERVER, &ack.frame(CLIENT));
    }
    world.receive(SERVER);
    world.transmit(SERVER);
    assert_eq!(world.take_sent(SERVER), []);
    assert_eq!(world.server().counters().accepted, 7);
    world.check_sums();
}

#[test]
fn where_every_slot_is_taken_a_handshake_gives_way_once_it_is_old() {
    let mut world = World::new(&Options {
        client_slots: 8,
        half_open_max: 8,
        ..Options::default()
    });
    let mut knock = |ports: std::ops::RangeInclusive<u16>, passes_us: u64| {
        world.now_us += passes_us;
        for port in ports {
            world.arrive(SERVER, &syn(port, 0).frame(CLIENT));
        }
        world.receive(SERVER);
        world.transmit(SERVER);
        world.take_sent(SERVER);
        let counters = world.server().counters();
        (counters.frames_no_slot, counters.half_open_evicted)
    };
    assert_eq!(knock(1..=8, 0), (0, 0));
    assert_eq!(knock(9..=10, HALF_OPEN_SPARED_US - 1), (2, 0));
    assert_eq!(knock(11..=12, 1), (2, 2));
}

#[test]
fn a_syn_flood_evicts_its_own_and_clients_still_get_in() {
    let mut world = World::new(&Options {
        client_slots: 64,
        half_open_max: 16,
        ..Options::default()
    });
    for port in 0..5_000 {
        world.arrive(
            SERVER,
            &syn(1_024 + port, u32::from(port) * 977).frame(CLIENT),
        );
        if port % 100 == 99 {
            world.receive(SERVER);
            world.transmit(SERVER);
            let ring = &mut world.hosts[SERVER].ports[0].tx.ring;
            ring.drop_front(ring.len());
        }
    }
    let counters = world.server().counters();
    assert_eq!(counters.half_open, 16);
    assert_eq!(counters.half_open_evicted, 5_000 - 16);
    assert_eq!(counters.clients_open, 16);
    let (_, server) = world.open();
    assert_eq!(world.server().status(server), StreamStatus::Open);
    // The reaper takes the rest, and says no word to the forged addresses.
    let resets = world.server().counters().resets_sent;
    world.pass(4_000_000, 10_000);
    let counters = world.server().counters();
    assert_eq!((counters.half_open, counters.half_open_expired), (0, 15));
    assert_eq!(counters.clients_open, 1);
    assert_eq!(counters.resets_sent, resets);
    world.check_sums();
}
