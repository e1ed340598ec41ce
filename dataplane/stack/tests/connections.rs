//! The life of a connection between two stacks: opening, bytes both ways, every way to end.

mod common;

use common::{CLIENT, Faults, Options, SERVER, World};
use tidegate_proxy::streams::{CloseReason, ServerId, StreamId, StreamStatus, Streams};
use tidegate_stack::Stack;

fn both_families(test: impl Fn(Options)) {
    for ipv6 in [false, true] {
        test(Options {
            ipv6,
            ..Options::default()
        });
    }
}

fn take(stack: &mut Stack, id: StreamId) -> Vec<u8> {
    let mut bytes = vec![0; stack.received(id)];
    let copied = stack.copy(id, &mut bytes);
    assert_eq!(copied, bytes.len());
    stack.consume(id, copied);
    bytes
}

#[test]
fn bytes_arrive_both_ways_and_both_ends_close_in_order() {
    both_families(|options| {
        let mut world = World::new(&options);
        let (client, server) = world.open();
        assert_eq!(world.server().listener(server).map(|id| id.0), Some(0));
        assert_eq!(world.client().listener(client), None);
        assert_eq!(world.client().peer(client), common::listening(options.ipv6));
        assert_eq!(world.client().send(client, b"ping"), 4);
        world.run(2);
        assert_eq!(take(world.server(), server), b"ping");
        assert_eq!(world.server().send(server, b"pong"), 4);
        world.run(2);
        assert_eq!(take(world.client(), client), b"pong");

        world.client().finish(client);
        assert_eq!(world.client().send(client, b"late"), 0);
        assert_eq!(world.client().send_room(client), 0);
        world.run(2);
        assert_eq!(world.server().status(server), StreamStatus::HalfClosed);
        // A half-closed stream still takes the answer.
        assert_eq!(world.server().send(server, b"rest"), 4);
        world.server().finish(server);
        world.run(3);
        assert_eq!(world.client().status(client), StreamStatus::HalfClosed);
        assert_eq!(take(world.client(), client), b"rest");
        assert_eq!(
            world.client().status(client),
            StreamStatus::Closed(CloseReason::Finished)
        );
        assert_eq!(
            world.server().status(server),
            StreamStatus::Closed(CloseReason::Finished)
        );
        world.client().release(client);
        world.server().release(server);
        world.run(2);
        assert_eq!(world.server().counters().clients_open, 0);
        assert_eq!(
            world.client().counters().time_wait,
            1,
            "the end that closed first waits"
        );
        world.pass(11_000_000, 10_000);
        assert_eq!(world.client().counters().servers_open, 0);
        assert_eq!(world.client().counters().retransmits, 0);
        world.check_sums();
    });
}

#[test]
fn bytes_sent_before_the_connection_is_open_arrive_first() {
    both_families(|options| {
        let mut world = World::new(&options);
        let client = world.client().connect(ServerId(0)).expect("there is room");
        assert_eq!(world.client().status(client), StreamStatus::Connecting);
        assert_eq!(world.client().send_room(client), 65_536);
        assert_eq!(world.client().send(client, b"early "), 6);
        assert_eq!(world.client().send(client, b"bird"), 4);
        assert_eq!(world.client().send_queued(client), 10);
        world.client().finish(client);
        world.run(4);
        let server = world.server().next_ready().expect("it was accepted");
        assert_eq!(take(world.server(), server), b"early bird");
        assert_eq!(world.server().status(server), StreamStatus::HalfClosed);
    });
}

#[test]
fn abort_reaches_the_peer_as_reset_in_the_same_turn() {
    both_families(|options| {
        let mut world = World::new(&options);
        let (client, server) = world.open();
        world.client().abort(client);
        assert_eq!(
            world.client().status(client),
            StreamStatus::Closed(CloseReason::Finished)
        );
        world.client().release(client);
        world.transmit(CLIENT);
        world.carry(CLIENT);
        assert_eq!(world.client().counters().resets_sent, 1);
        assert_eq!(world.client().counters().servers_open, 0);
        world.receive(SERVER);
        assert_eq!(
            world.server().status(server),
            StreamStatus::Closed(CloseReason::Reset)
        );
        assert_eq!(world.server().send(server, b"into the void"), 0);
        assert_eq!(world.server().send_room(server), 0);
        world.server().finish(server);
        world.server().abort(server);
        world.server().release(server);
        assert_eq!(world.server().counters().clients_open, 0);
        assert_eq!(world.server().counters().resets_received, 1);
    });
}

#[test]
fn a_connection_to_a_closed_port_is_refused() {
    let mut world = World::new(&Options::default());
    world.server().stop_accepting();
    let client = world.client().connect(ServerId(0)).expect("there is room");
    world.run(2);
    assert_eq!(
        world.client().status(client),
        StreamStatus::Closed(CloseReason::Refused)
    );
    assert_eq!(world.client().counters().connects_failed, 1);
    assert_eq!(world.server().counters().frames_refused, 1);
    world.client().release(client);
    assert_eq!(world.client().counters().servers_open, 0);
    world.check_sums();
}

#[test]
fn a_released_open_stream_delivers_its_rest() {
    let mut world = World::new(&Options::default());
    let (client, server) = world.open();
    let rest = vec![7; 60_000];
    assert_eq!(world.client().send(client, &rest), rest.len());
    world.client().release(client);
    let mut received = Vec::new();
    for _ in 0..200 {
        world.turn(|host, stack| {
            if host == SERVER {
                received.extend(take(stack, server));
            }
        });
    }
    assert_eq!(received, rest);
    assert_eq!(world.server().status(server), StreamStatus::HalfClosed);
    world.server().release(server);
    world.pass(11_000_000, 10_000);
    assert_eq!(world.client().counters().servers_open, 0);
    assert_eq!(world.server().counters().clients_open, 0);
}

#[test]
fn streams_are_invisible_until_the_handshake_is_over() {
    let mut world = World::new(&Options::default());
    world.client().connect(ServerId(0)).expect("there is room");
    world.transmit(CLIENT);
    world.carry(CLIENT);
    world.receive(SERVER);
    world.transmit(SERVER);
    assert_eq!(world.server().counters().half_open, 1);
    assert_eq!(world.server().next_ready(), None);
    world.carry(SERVER);
    world.run(1);
    assert!(world.server().next_ready().is_some());
    assert_eq!(world.server().counters().half_open, 0);
    assert_eq!(world.server().counters().accepted, 1);
}

/// Sends `bytes` from one end to the other through forwarding at the receiver, and returns what came back.
fn transfer(world: &mut World, total: usize) {
    let (client, server) = world.open();
    let (mut sent, mut back, mut turns) = (0_usize, 0_usize, 0_u32);
    let byte = |at: usize| (at.wrapping_mul(2_654_435_761) >> 13) as u8;
    let chunk: Vec<u8> = (0..total.min(1 << 20)).map(byte).collect();
    while back < total {
        world.turn(|host, stack| {
            if host == SERVER {
                let received = stack.received(server);
                stack.forward(server, server, received);
                return;
            }
            while sent < total {
                let at = sent % chunk.len();
                let end = chunk.len().min(at + total - sent);
                let taken = stack.send(client, &chunk[at..end]);
                sent += taken;
                if taken == 0 {
                    break;
                }
            }
            while !stack.peek(client).is_empty() {
                let part = stack.peek(client);
                let bytes = part.len().min(chunk.len() - back % chunk.len());
                let at = back % chunk.len();
                assert_eq!(part[..bytes], chunk[at..at + bytes], "at byte {back}");
                stack.consume(client, bytes);
                back += bytes;
            }
        });
        turns += 1;
        assert!(turns < 4_000_000, "stuck at {sent} sent, {back} back");
    }
}

#[test]
fn sixty_four_mebibytes_pass_through_four_kibibyte_buffers() {
    let options = Options {
        server_buffer_bytes: 4_096,
        ..Options::default()
    };
    let mut world = World::new(&options);
    transfer(&mut world, 64 << 20);
    assert_eq!(world.client().counters().retransmits, 0);
    assert_eq!(world.server().counters().retransmits, 0);
    world.check_sums();
}

#[test]
fn loss_reordering_and_duplication_lose_no_byte() {
    for seed in [3, 77, 4_242] {
        for ipv6 in [false, true] {
            println!("seed {seed} ipv6 {ipv6}");
            let options = Options {
                seed,
                ipv6,
                client_buffer_bytes: 16_384,
                ..Options::default()
            };
            let mut world = World::new(&options);
            world.step_us = 1_000;
            world.open();
            world.faults = Faults {
                lose: 50,
                delay: 20,
                duplicate: 40,
            };
            transfer(&mut world, 300_000);
            let repeated =
                world.client().counters().retransmits + world.server().counters().retransmits;
            assert!(repeated > 0, "the faults were real");
            world.check_sums();
        }
    }
}

#[test]
fn a_closed_window_stops_the_sender_and_opens_again() {
    let mut world = World::new(&Options::default());
    let (client, server) = world.open();
    let bytes = vec![9; 20_000];
    assert_eq!(world.client().send(client, &bytes), bytes.len());
    world.pass(5_000_000, 5_000);
    assert_eq!(world.server().received(server), 4_096, "the buffer is full");
    let mut received = 0;
    for _ in 0..2_000 {
        world.turn(|host, stack| {
            if host == SERVER {
                received += take(stack, server).len();
            }
        });
    }
    assert_eq!(received, bytes.len());
    assert_eq!(
        world.client().counters().retransmits,
        0,
        "window probes are not retransmissions"
    );
    assert_eq!(world.client().counters().flows_timed_out, 0);
}

#[test]
fn forwarding_moves_bytes_between_streams_with_wrapped_buffers() {
    let mut world = World::new(&Options {
        server_buffer_bytes: 4_096,
        ..Options::default()
    });
    let (first, first_peer) = world.open();
    let (second, second_peer) = world.open();
    let mut expected = Vec::new();
    let mut received = Vec::new();
    for round in 0..64_usize {
        let bytes: Vec<u8> = (0..1_777).map(|at| (at * 7 + round) as u8).collect();
        assert_eq!(world.client().send(first, &bytes), bytes.len());
        expected.extend(bytes);
        for _ in 0..3 {
            world.turn(|host, stack| {
                if host == SERVER {
                    let waiting = stack.received(first_peer);
                    stack.forward(first_peer, second_peer, waiting);
                } else {
                    received.extend(take(stack, second));
                }
            });
        }
    }
    assert_eq!(received, expected);
}
