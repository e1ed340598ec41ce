//! More connections than slots, floods, reused addresses, full rings.

mod common;

use common::{ACK, CLIENT, FIN, Options, RST, SERVER, SYN, Tcp, World, syn};
use std::collections::HashSet;
use tidegate_proxy::streams::{CloseReason, ConnectError, ServerId, StreamStatus, Streams};

/// Puts a forged frame into the server's ring and lets it run one turn; returns what it answered.
fn inject(world: &mut World, segment: &Tcp) -> Vec<Tcp> {
    world.record = true;
    world.log.clear();
    world.arrive(SERVER, &segment.frame(CLIENT));
    world.receive(SERVER);
    world.transmit(SERVER);
    world.take_sent(SERVER)
}

/// Opens a connection by hand from `port`; returns the next sequence number of each end.
fn handshake(world: &mut World, port: u16, sequence: u32) -> (u32, u32) {
    let answers = inject(world, &syn(port, sequence));
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].flags, SYN | ACK);
    let theirs = answers[0].sequence.wrapping_add(1);
    let ours = sequence.wrapping_add(1);
    let done = Tcp {
        sequence: ours,
        acknowledgement: theirs,
        flags: ACK,
        ..syn(port, 0)
    };
    assert_eq!(inject(world, &done), []);
    (ours, theirs)
}

#[test]
fn thousands_of_connections_are_accepted_in_one_burst() {
    const CONNECTIONS: usize = 5_000;
    let options = Options {
        client_slots: CONNECTIONS,
        server_slots: CONNECTIONS,
        server_buffer_bytes: 4_096,
        half_open_max: CONNECTIONS,
        ring_frames: 2 * CONNECTIONS,
        ..Options::default()
    };
    let mut world = World::new(&options);
    for _ in 0..CONNECTIONS {
        let id = world.client().connect(ServerId(0)).expect("there is room");
        assert_eq!(world.client().send(id, &id.0.to_be_bytes()), 4);
    }
    assert_eq!(
        world.client().connect(ServerId(0)),
        Err(ConnectError::NoSlot)
    );
    let mut seen = HashSet::new();
    for _ in 0..6 {
        world.turn(|host, stack| {
            while let Some(id) = stack.next_ready() {
                if host == SERVER && stack.received(id) == 4 {
                    let mut number = [0; 4];
                    stack.copy(id, &mut number);
                    assert!(seen.insert(number));
                }
            }
        });
    }
    assert_eq!(seen.len(), CONNECTIONS);
    let counters = world.server().counters();
    assert_eq!(
        (counters.accepted, counters.clients_open),
        (CONNECTIONS as u64, CONNECTIONS as u64)
    );
    assert_eq!(
        counters.retransmits + world.client().counters().retransmits,
        0
    );
    world.check_sums();
}

#[test]
fn a_syn_without_a_free_slot_is_dropped_and_counted() {
    let mut world = World::new(&Options {
        client_slots: 2,
        ..Options::default()
    });
    handshake(&mut world, 1_001, 1);
    handshake(&mut world, 1_002, 1);
    assert_eq!(inject(&mut world, &syn(1_003, 1)), []);
    assert_eq!(world.server().counters().frames_no_slot, 1);
    world.check_sums();
}

#[test]
fn a_reset_in_the_handshake_frees_the_slot() {
    let mut world = World::new(&Options {
        client_slots: 1,
        ..Options::default()
    });
    inject(&mut world, &syn(1_001, 50));
    assert_eq!(world.server().counters().half_open, 1);
    let reset = Tcp {
        sequence: 51,
        flags: RST,
        ..syn(1_001, 0)
    };
    inject(&mut world, &reset);
    assert_eq!(world.server().counters().half_open, 0);
    handshake(&mut world, 1_002, 1);
    world.check_sums();
}

#[test]
fn a_new_syn_replaces_a_handshake_that_the_client_gave_up() {
    let mut world = World::new(&Options::default());
    let first = inject(&mut world, &syn(1_001, 50));
    assert_eq!(
        inject(&mut world, &syn(1_001, 50)),
        [],
        "the same SYN again is answered by smoltcp's timer"
    );
    let second = inject(&mut world, &syn(1_001, 90_000));
    assert_eq!(first[0].acknowledgement, 51);
    assert_eq!(second[0].acknowledgement, 90_001);
    assert_eq!(world.server().counters().half_open, 1);
    world.check_sums();
}

/// Closes the connection of `port` from our side first, so that it stays in TIME-WAIT here.
fn into_time_wait(world: &mut World, port: u16, (ours, theirs): (u32, u32)) -> (u32, u32) {
    let id = world.server().next_ready().expect("it was accepted");
    world.server().release(id);
    let fin = inject(
        world,
        &Tcp {
            sequence: ours,
            acknowledgement: theirs,
            flags: ACK,
            ..syn(port, 0)
        },
    );
    assert_eq!(fin[0].flags & FIN, FIN);
    let fin = Tcp {
        sequence: ours,
        acknowledgement: theirs + 1,
        flags: FIN | ACK,
        ..syn(port, 0)
    };
    assert_eq!(inject(world, &fin).len(), 1);
    assert_eq!(world.server().counters().time_wait, 1);
    (ours + 1, theirs + 1)
}

#[test]
fn a_syn_reopens_a_connection_in_time_wait() {
    let mut world = World::new(&Options::default());
    let ends = handshake(&mut world, 1_001, 7_000);
    let (ours, _) = into_time_wait(&mut world, 1_001, ends);
    handshake(&mut world, 1_001, ours + 10_000);
    let counters = world.server().counters();
    assert_eq!(
        (
            counters.time_wait_reused,
            counters.time_wait,
            counters.accepted
        ),
        (1, 0, 2)
    );
    world.check_sums();
}

#[test]
fn time_wait_gives_its_slot_to_a_new_client() {
    let mut world = World::new(&Options {
        client_slots: 1,
        ..Options::default()
    });
    let ends = handshake(&mut world, 1_001, 7_000);
    into_time_wait(&mut world, 1_001, ends);
    handshake(&mut world, 1_002, 1);
    let counters = world.server().counters();
    assert_eq!(
        (
            counters.time_wait_recycled,
            counters.time_wait,
            counters.accepted
        ),
        (1, 0, 2)
    );
}

#[test]
fn time_wait_ends_by_itself() {
    let mut world = World::new(&Options::default());
    let ends = handshake(&mut world, 1_001, 7_000);
    into_time_wait(&mut world, 1_001, ends);
    world.pass(10_100_000, 10_000);
    let counters = world.server().counters();
    assert_eq!((counters.time_wait, counters.clients_open), (0, 0));
    assert_eq!(
        world.server().next_timer_us(),
        None,
        "nothing is left to wait for"
    );
}

#[test]
fn a_rebooted_client_gets_in_after_its_reset() {
    let mut world = World::new(&Options::default());
    let (ours, theirs) = handshake(&mut world, 1_001, 7_000);
    let old = world.server().next_ready().expect("it was accepted");
    // The client forgot the connection and opens one from the same port.
    let challenge = inject(&mut world, &syn(1_001, 999_000));
    assert_eq!(challenge.len(), 1);
    assert_eq!(
        (
            challenge[0].flags,
            challenge[0].sequence,
            challenge[0].acknowledgement
        ),
        (ACK, theirs, ours)
    );
    assert_eq!(world.server().counters().syn_on_established, 1);
    assert_eq!(
        world.server().status(old),
        StreamStatus::Open,
        "a forged SYN changes nothing"
    );
    // It answers the challenge with a RST at the acknowledged number, and repeats its SYN.
    inject(
        &mut world,
        &Tcp {
            sequence: challenge[0].acknowledgement,
            flags: RST,
            ..syn(1_001, 0)
        },
    );
    assert_eq!(
        world.server().status(old),
        StreamStatus::Closed(CloseReason::Reset)
    );
    handshake(&mut world, 1_001, 999_000);
    assert_eq!(world.server().counters().accepted, 2);
    assert_ne!(world.server().next_ready(), None);
    world.check_sums();
}

#[test]
fn a_guessed_reset_is_challenged_and_an_exact_one_believed() {
    let mut world = World::new(&Options::default());
    let (ours, theirs) = handshake(&mut world, 1_001, 7_000);
    let id = world.server().next_ready().expect("it was accepted");
    for guess in [1, 100, 4_000] {
        let reset = Tcp {
            sequence: ours + guess,
            flags: RST,
            ..syn(1_001, 0)
        };
        let challenge = inject(&mut world, &reset);
        assert_eq!(challenge.len(), 1);
        assert_eq!(
            (challenge[0].sequence, challenge[0].acknowledgement),
            (theirs, ours)
        );
        assert_eq!(inject(&mut world, &reset), [], "once in half a second");
        world.now_us += 500_000;
    }
    assert_eq!(world.server().status(id), StreamStatus::Open);
    inject(
        &mut world,
        &Tcp {
            sequence: ours,
            flags: RST,
            ..syn(1_001, 0)
        },
    );
    assert_eq!(
        world.server().status(id),
        StreamStatus::Closed(CloseReason::Reset)
    );
    assert_eq!(world.server().counters().resets_challenged, 6);
    world.check_sums();
}

#[test]
fn while_draining_time_wait_is_not_reopened() {
    let mut world = World::new(&Options::default());
    let ends = handshake(&mut world, 1_001, 7_000);
    let (ours, _) = into_time_wait(&mut world, 1_001, ends);
    world.server().stop_accepting();
    let answers = inject(&mut world, &syn(1_001, ours + 10_000));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].flags & RST, RST);
    world.check_sums();
}

#[test]
fn the_handshake_offers_what_the_port_and_the_peer_allow() {
    let mss = |options: &[u8]| {
        options
            .windows(4)
            .find(|part| part[..2] == [2, 4])
            .map(|part| u16::from_be_bytes([part[2], part[3]]))
    };
    let timestamp = |options: &[u8]| options.windows(2).any(|part| part == [8, 10]);
    for (ipv6, expected) in [(false, 1_460), (true, 1_440)] {
        let mut world = World::new(&Options {
            ipv6,
            client_buffer_bytes: 262_144,
            ..Options::default()
        });
        world.record = true;
        world.open();
        let (syn, syn_ack) = (
            world.sent_by(CLIENT).remove(0),
            world.sent_by(SERVER).remove(0),
        );
        for segment in [&syn, &syn_ack] {
            assert_eq!(mss(&segment.options), Some(expected));
            assert!(timestamp(&segment.options), "{segment:?}");
        }
        assert!(
            syn_ack.options.windows(3).any(|part| part == [3, 3, 3]),
            "a window of 256 KiB needs a shift of 3: {syn_ack:?}"
        );
    }
    // A peer without any option gets none of them.
    let mut world = World::new(&Options::default());
    let answer = inject(&mut world, &syn(1_001, 5)).remove(0);
    assert_eq!(
        (mss(&answer.options), answer.options.len()),
        (Some(1_460), 4)
    );
}

#[test]
fn challenges_are_throttled() {
    let mut world = World::new(&Options {
        ring_frames: 4_096,
        ..Options::default()
    });
    handshake(&mut world, 1_001, 7_000);
    let (ours, theirs) = handshake(&mut world, 1_002, 8_000);
    for sequence in 0..3_000 {
        world.arrive(SERVER, &syn(1_001, sequence).frame(CLIENT));
    }
    let reset = Tcp {
        sequence: ours + 1,
        flags: RST,
        ..syn(1_002, 0)
    };
    world.arrive(SERVER, &reset.frame(CLIENT));
    world.receive(SERVER);
    world.transmit(SERVER);
    let challenges = world.take_sent(SERVER);
    let to = |port| {
        let mine = |challenge: &&Tcp| challenge.destination.port() == port;
        challenges.iter().filter(mine).collect::<Vec<_>>()
    };
    assert_eq!(to(1_001).len(), 1, "one client takes nothing from others");
    let [challenge] = to(1_002)[..] else {
        panic!("{challenges:?}");
    };
    assert_eq!(
        (challenge.sequence, challenge.acknowledgement),
        (theirs, ours)
    );
    assert_eq!(world.server().counters().syn_on_established, 3_000);
    world.check_sums();
}

#[test]
fn nobody_knows_how_many_challenges_are_left() {
    const FLOWS: u16 = 1_600;
    let mut world = World::new(&Options {
        client_slots: usize::from(FLOWS),
        ring_frames: 2_048,
        ..Options::default()
    });
    for port in 0..FLOWS {
        handshake(&mut world, 1_001 + port, 7_000);
    }
    let mut seen = HashSet::new();
    for _ in 0..8 {
        world.now_us += 1_000_000;
        for port in 0..FLOWS {
            world.arrive(SERVER, &syn(1_001 + port, 5).frame(CLIENT));
        }
        world.receive(SERVER);
        world.transmit(SERVER);
        let challenges = world.take_sent(SERVER).len();
        assert!((500..1_500).contains(&challenges), "{challenges}");
        seen.insert(challenges);
    }
    assert!(seen.len() >= 7, "{seen:?}");
    world.check_sums();
}

#[test]
fn a_fast_retransmission_that_finds_the_ring_full_leaves_later() {
    const SEGMENT_BYTES: usize = 536;
    let mut world = World::new(&Options {
        ring_frames: 7,
        ..Options::default()
    });
    let mut open = |port| {
        let ends = handshake(&mut world, port, 7_000);
        (world.server().next_ready().expect("it was accepted"), ends)
    };
    let (stream, (ours, theirs)) = open(1_001);
    let (other, _) = open(1_002);
    world.server().send(stream, &[1; 5 * SEGMENT_BYTES]);
    world.transmit(SERVER);
    assert_eq!(world.take_sent(SERVER).len(), 5);
    world.server().send(other, &[2; 7 * SEGMENT_BYTES]);
    world.transmit(SERVER);
    // The first of the five is lost, and the ring has no room for another.
    let duplicate = Tcp {
        sequence: ours,
        acknowledgement: theirs,
        flags: ACK,
        ..syn(1_001, 0)
    };
    for _ in 0..4 {
        world.arrive(SERVER, &duplicate.frame(CLIENT));
    }
    world.receive(SERVER);
    world.transmit(SERVER);
    assert_eq!(world.take_sent(SERVER).len(), 7);
    let (mut repeated, mut probes) = (0, 0);
    for _ in 0..3_000 {
        world.transmit(SERVER);
        for segment in world.take_sent(SERVER) {
            let ours = segment.destination.port() == 1_001;
            repeated += u32::from(ours && segment.sequence == theirs);
            if ours && segment.sequence == theirs.wrapping_sub(1) {
                probes += 1;
                world.arrive(SERVER, &duplicate.frame(CLIENT));
            }
        }
        world.now_us += 10_000;
        world.receive(SERVER);
    }
    assert!(
        repeated > 0 && probes <= 10,
        "{repeated} repeated, {probes} probes"
    );
    world.check_sums();
}

#[test]
fn a_full_transmit_ring_delays_and_loses_nothing() {
    let mut options = Options {
        ring_frames: 3,
        ..Options::default()
    };
    options.client_buffer_bytes = 32_768;
    let mut world = World::new(&options);
    let streams: Vec<_> = (0..4).map(|_| world.open()).collect();
    for (number, (_, server)) in streams.iter().enumerate() {
        assert_eq!(
            world.server().send(*server, &vec![number as u8; 30_000]),
            30_000
        );
    }
    world.transmit(SERVER);
    assert_eq!(world.hosts[SERVER].ports[0].tx.ring.len(), 3);
    assert!(world.server().has_pending_egress());
    let mut received = [0; 4];
    for _ in 0..400 {
        world.turn(|host, stack| {
            if host == CLIENT {
                for (number, (client, _)) in streams.iter().enumerate() {
                    let bytes = stack.received(*client);
                    let mut part = vec![9; bytes];
                    stack.copy(*client, &mut part);
                    assert!(part.iter().all(|byte| usize::from(*byte) == number));
                    stack.consume(*client, bytes);
                    received[number] += bytes;
                }
            }
        });
    }
    assert_eq!(received, [30_000; 4]);
    assert_eq!(world.server().counters().retransmits, 0);
    assert!(!world.server().has_pending_egress());
}

#[test]
fn a_reset_that_finds_no_room_is_counted() {
    let mut world = World::new(&Options {
        ring_frames: 1,
        ..Options::default()
    });
    let stray = Tcp {
        flags: ACK,
        ..syn(1_001, 5)
    };
    world.arrive(SERVER, &stray.frame(CLIENT));
    world.receive(SERVER);
    world.arrive(SERVER, &stray.frame(CLIENT));
    world.receive(SERVER);
    let counters = world.server().counters();
    assert_eq!(
        (counters.frames_unknown_flow, counters.frames_tx_full),
        (1, 1)
    );
    world.check_sums();
}

#[test]
fn one_flow_leaves_room_for_the_others_in_a_pass() {
    let options = Options {
        client_buffer_bytes: 262_144,
        server_buffer_bytes: 262_144,
        ..Options::default()
    };
    let mut world = World::new(&options);
    let (client, server) = world.open();
    // Slow start opens the congestion window first.
    for _ in 0..60 {
        let room = world.client().send_room(client);
        world.client().send(client, &vec![1; room]);
        world.turn(|host, stack| {
            if host == SERVER {
                let received = stack.received(server);
                stack.consume(server, received);
            }
        });
    }
    world.run(4);
    let received = world.server().received(server);
    world.server().consume(server, received);
    world.run(4);
    assert_eq!(world.client().send(client, &vec![1; 262_144]), 262_144);
    world.transmit(CLIENT);
    assert_eq!(world.hosts[CLIENT].ports[0].tx.ring.len(), 32);
    assert!(world.client().has_pending_egress());
}
