//! A flood of SYNs from everywhere: what is open stays as fast as it was, new clients get in, and no memory is taken.
//!
//! Turns are counted, not time. The counting allocator is that of the whole test binary, which is why it has one test.

mod common;

use common::{CLIENT, Options, SERVER, SYN, Tcp, World, listening};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tidegate_proxy::streams::{StreamId, Streams};
use tidegate_stack::Stack;

/// SYNs in all, and in each turn: a burst of frames.
const FLOOD: u64 = 100_000;
const PER_TURN: u64 = 64;

/// What an open connection asks in one go.
const QUESTION: &[u8] = b"a question";

/// A SYN from anywhere but the client's own network, none like another.
fn syn(world: &mut World, number: u64) -> Vec<u8> {
    let random = world.random.next();
    let host = Ipv4Addr::from(0x0b00_0000 | (random as u32 & 0x00ff_ffff));
    let source = SocketAddr::new(IpAddr::V4(host), 1_024 + (number % 60_000) as u16);
    Tcp {
        sequence: (random >> 32) as u32,
        ..Tcp::new(source, listening(false), SYN)
    }
    .frame(CLIENT)
}

fn echo(host: usize, stack: &mut Stack) {
    while let Some(id) = stack.next_ready() {
        if host == SERVER {
            let received = stack.received(id);
            stack.forward(id, id, received);
        }
    }
}

/// A turn of both hosts; what the server takes of memory in it is not to be.
fn turn(world: &mut World) {
    world.receive(CLIENT);
    echo(CLIENT, &mut world.hosts[CLIENT].stack);
    world.transmit(CLIENT);
    world.carry(CLIENT);
    let taken = allocation_counter::measure(|| {
        world.receive(SERVER);
        echo(SERVER, &mut world.hosts[SERVER].stack);
        world.transmit(SERVER);
    });
    assert_eq!(taken.count_total, 0, "the server takes memory");
    world.carry(SERVER);
    world.now_us += world.step_us;
}

/// How many turns a question takes to be echoed.
fn turns(world: &mut World, id: StreamId, mut each_turn: impl FnMut(&mut World)) -> u64 {
    assert_eq!(world.client().send(id, QUESTION), QUESTION.len());
    for turns in 1..100 {
        each_turn(world);
        turn(world);
        let received = world.client().received(id);
        if received == QUESTION.len() {
            world.client().consume(id, received);
            return turns;
        }
    }
    panic!("the question is not answered");
}

#[test]
fn a_hundred_thousand_syns_cost_an_open_connection_no_turn() {
    let options = Options {
        client_slots: 2_048,
        half_open_max: 1_024,
        ring_frames: 4_096,
        ..Options::default()
    };
    let mut world = World::new(&options);
    let (client, _) = world.open();
    let alone = turns(&mut world, client, |_| {});
    let mut sent = 0;
    while sent < FLOOD {
        let beside = turns(&mut world, client, |world| {
            for _ in 0..PER_TURN {
                let frame = syn(world, sent);
                world.arrive(SERVER, &frame);
                sent += 1;
            }
        });
        assert_eq!(beside, alone, "after {sent} SYNs");
    }
    let counters = world.server().counters();
    assert_eq!((counters.half_open, counters.clients_open), (1_024, 1_025));
    assert_eq!(
        counters.half_open_evicted + counters.half_open_expired,
        sent - 1_024
    );
    assert_eq!((counters.frames_no_slot, counters.accepted), (0, 1));
    // Who means it gets in at once.
    let (late, _) = world.open();
    assert_eq!(turns(&mut world, late, |_| {}), alone);
    // What was forged is gone in its time, without a word.
    let resets = world.server().counters().resets_sent;
    world.pass(4_000_000, 10_000);
    let counters = world.server().counters();
    assert_eq!((counters.half_open, counters.clients_open), (0, 2));
    assert_eq!(counters.resets_sent, resets);
    world.check_sums();
}
