//! Frames that no honest peer sends: every one is counted under a name, none panics, none harms another connection.

mod common;

use common::{
    ACK, CLIENT, FIN, MACS, Options, PSH, RST, SERVER, SYN, Tcp, World, address, listening,
};
use proptest::prelude::*;
use tidegate_proxy::streams::{StreamStatus, Streams};

/// Rings just as large as these tests need: hundreds of worlds are made.
fn small() -> Options {
    Options {
        ring_frames: 64,
        client_slots: 8,
        server_slots: 8,
        half_open_max: 4,
        ..Options::default()
    }
}

fn stray(ipv6: bool) -> Tcp {
    Tcp {
        sequence: 1,
        acknowledgement: 2,
        payload: b"payload".to_vec(),
        ..Tcp::new(address(ipv6, CLIENT, 1_234), listening(ipv6), ACK)
    }
}

/// The counter that one frame moves.
fn counted(frame: &[u8]) -> &'static str {
    let mut world = World::new(&small());
    let before = world.server().counters();
    world.arrive(SERVER, frame);
    world.receive(SERVER);
    let after = world.server().counters();
    let moved: Vec<&str> = tidegate_channel::counters::StackCounters::ROWS
        .iter()
        .zip(before.words().iter().zip(after.words()))
        .filter(|(row, (before, after))| {
            *before != after && row.name.starts_with("frames_") && row.name != "frames_in"
        })
        .map(|(row, _)| row.name)
        .collect();
    world.check_sums();
    assert_eq!(moved.len(), 1, "{moved:?}");
    moved[0]
}

fn reframed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = stray(false).frame(CLIENT);
    change(&mut frame);
    let sum = common::checksum(&[&frame[14..24], &[0, 0], &frame[26..34]].concat());
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn frames_for_other_stations_are_nothing_to_us() {
    for ipv6 in [false, true] {
        let mut world = World::new(&small());
        let opening = Tcp::new(address(ipv6, CLIENT, 9), listening(ipv6), SYN);
        let mut frames: Vec<_> = [&stray(ipv6), &opening]
            .map(|segment| segment.frame(CLIENT))
            .into();
        frames.push([&MACS[SERVER][..], &MACS[CLIENT], &[8, 6], &[0; 46]].concat());
        // Each byte of the address alone makes it another's.
        for (frame, byte) in frames.iter().flat_map(|f| (0..6).map(move |at| (f, at))) {
            let mut frame = frame.clone();
            frame[byte] ^= 2;
            world.arrive(SERVER, &frame);
        }
        world.receive(SERVER);
        world.transmit(SERVER);
        let counters = world.server().counters();
        assert_eq!(counters.frames_other_station, 18, "{counters:?}");
        assert_eq!((counters.clients_open, counters.segments_sent), (0, 0));
        let host = &world.hosts[SERVER];
        assert!(host.ports[0].tx.ring.len() == 0 && host.handed.frames.is_empty());
        world.check_sums();
    }
}

#[test]
fn every_fault_has_its_own_counter() {
    let good = stray(false).frame(CLIENT);
    assert_eq!(counted(&good), "frames_unknown_flow");
    for bytes in 0..good.len() {
        let expected = "frames_runt";
        assert_eq!(counted(&good[..bytes]), expected, "cut to {bytes} bytes");
    }
    let ipv6 = stray(true).frame(CLIENT);
    for bytes in 0..ipv6.len() {
        assert_eq!(
            counted(&ipv6[..bytes]),
            "frames_runt",
            "IPv6 cut to {bytes} bytes"
        );
    }
    let cases: [(&str, &str, Vec<u8>); 17] = [
        (
            "an ARP frame",
            "frames_not_tcp",
            [&MACS[1][..], &MACS[0], &[8, 6], &[0; 28]].concat(),
        ),
        (
            "a VLAN tag",
            "frames_not_tcp",
            [&good[..12], &[0x81, 0, 0, 1], &good[12..]].concat(),
        ),
        ("UDP", "frames_not_tcp", reframed(|frame| frame[23] = 17)),
        (
            "a first fragment",
            "frames_not_tcp",
            reframed(|frame| frame[20] = 0x20),
        ),
        (
            "a later fragment",
            "frames_not_tcp",
            reframed(|frame| frame[21] = 4),
        ),
        (
            "version 5",
            "frames_not_tcp",
            reframed(|frame| frame[14] = 0x55),
        ),
        (
            "a header of 16 bytes",
            "frames_runt",
            reframed(|frame| frame[14] = 0x44),
        ),
        (
            "a header longer than the packet",
            "frames_runt",
            reframed(|frame| frame[14] = 0x4f),
        ),
        (
            "a total length below the header's",
            "frames_runt",
            reframed(|frame| frame[17] = 30),
        ),
        (
            "a total length above the frame's",
            "frames_runt",
            reframed(|frame| frame[16] = 1),
        ),
        (
            "a TCP header of 16 bytes",
            "frames_runt",
            reframed(|frame| frame[46] = 0x40),
        ),
        (
            "a TCP header longer than the segment",
            "frames_runt",
            reframed(|frame| frame[46] = 0xf0),
        ),
        (
            "a group address",
            "frames_not_ours",
            reframed(|frame| frame[0] = 1),
        ),
        (
            "another station's address",
            "frames_other_station",
            reframed(|frame| frame[5] ^= 1),
        ),
        ("an IPv4 header checksum", "frames_bad_checksum", {
            let mut frame = good.clone();
            frame[24] ^= 1;
            frame
        }),
        (
            "a TCP checksum",
            "frames_bad_checksum",
            reframed(|frame| frame[50] ^= 1),
        ),
        ("an IPv6 extension header", "frames_not_tcp", {
            let mut frame = ipv6.clone();
            frame[20] = 0;
            frame
        }),
    ];
    for (name, counter, frame) in cases {
        assert_eq!(counted(&frame), counter, "{name}");
    }
}

#[test]
fn impossible_segments_are_malformed() {
    let flags = [SYN | FIN, SYN | RST, FIN | RST, SYN | FIN | RST];
    for flags in flags {
        assert_eq!(
            counted(
                &Tcp {
                    flags,
                    ..stray(false)
                }
                .frame(CLIENT)
            ),
            "frames_malformed"
        );
    }
    for source in [
        "255.255.255.255:9",
        "224.0.0.1:9",
        "0.0.0.0:9",
        "10.0.0.1:0",
    ] {
        let source = source.parse().expect("an address");
        assert_eq!(
            counted(
                &Tcp {
                    source,
                    ..stray(false)
                }
                .frame(CLIENT)
            ),
            "frames_malformed",
            "{source}"
        );
    }
    for source in ["[ff02::1]:9", "[::]:9"] {
        let source = source.parse().expect("an address");
        assert_eq!(
            counted(
                &Tcp {
                    source,
                    ..stray(true)
                }
                .frame(CLIENT)
            ),
            "frames_malformed",
            "{source}"
        );
    }
}

#[test]
fn ipv4_options_and_ethernet_padding_are_accepted() {
    let with_options = {
        let good = stray(false).frame(CLIENT);
        let mut frame = [&good[..34], &[1, 1, 1, 0], &good[34..]].concat();
        frame[14] = 0x46;
        let total = (frame.len() - 14) as u16;
        frame[16..18].copy_from_slice(&total.to_be_bytes());
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = common::checksum(&frame[14..38]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    assert_eq!(counted(&with_options), "frames_unknown_flow");
    let padded = [stray(false).frame(CLIENT), vec![0xaa; 9]].concat();
    assert_eq!(counted(&padded), "frames_unknown_flow");
}

#[test]
fn a_syn_with_unreadable_options_takes_no_slot() {
    let mut world = World::new(&Options::default());
    let syn = Tcp {
        flags: SYN,
        options: vec![2, 0, 0, 0],
        payload: vec![],
        ..stray(false)
    };
    world.arrive(SERVER, &syn.frame(CLIENT));
    world.receive(SERVER);
    assert_eq!(world.server().counters().clients_open, 0);
    world.check_sums();
}

#[test]
fn a_fin_behind_bytes_beyond_the_window_ends_nothing() {
    let mut world = World::new(&Options::default());
    let (_, server) = world.open();
    world.record = true;
    world.server().send(server, b"x");
    world.run(2);
    let acknowledged = world
        .sent_by(CLIENT)
        .pop()
        .expect("the client acknowledged");
    let mut segment = acknowledged.clone();
    segment.flags = FIN | PSH | ACK;
    segment.options.clear();
    for bytes in [1_000, 1_000, 1_000, 1_000] {
        segment.flags = PSH | ACK;
        segment.payload = vec![5; bytes];
        world.arrive(SERVER, &segment.frame(CLIENT));
        segment.sequence += bytes as u32;
    }
    segment.flags = FIN | PSH | ACK;
    segment.payload = vec![6; 1_000];
    world.arrive(SERVER, &segment.frame(CLIENT));
    world.receive(SERVER);
    assert_eq!(world.server().counters().frames_beyond_window, 1);
    assert_eq!(world.server().status(server), StreamStatus::Open);
    assert_eq!(world.server().received(server), 4_000);
    world.check_sums();
}

#[test]
fn a_large_window_is_not_taken_as_scaled_before_it_is() {
    let options = Options {
        client_buffer_bytes: 262_144,
        ..Options::default()
    };
    let mut world = World::new(&options);
    let mut segment = Tcp {
        flags: SYN,
        sequence: 100,
        acknowledgement: 0,
        payload: vec![],
        ..stray(false)
    };
    segment.options = vec![3, 3, 7, 0];
    world.arrive(SERVER, &segment.frame(CLIENT));
    world.receive(SERVER);
    world.transmit(SERVER);
    let answer = Tcp::read(world.hosts[SERVER].ports[0].tx.ring.get(0));
    // The SYN-ACK announced 65,535 bytes, unscaled. A segment far behind them must not be stored.
    for offset in [65_535, 200_000, 400_000, 4_000_000] {
        let beyond = Tcp {
            flags: ACK,
            sequence: 101 + offset,
            acknowledgement: answer.sequence + 1,
            payload: vec![1; 1_000],
            options: vec![],
            ..segment.clone()
        };
        world.arrive(SERVER, &beyond.frame(CLIENT));
    }
    world.receive(SERVER);
    assert_eq!(world.server().counters().frames_beyond_window, 4);
    world.check_sums();
}

#[derive(Clone, Debug)]
struct Forged {
    flags: u8,
    sequence: i32,
    acknowledgement: i32,
    window: u16,
    payload: usize,
    options: Vec<u8>,
    port: u8,
}

fn forged() -> impl Strategy<Value = Forged> {
    let near = prop_oneof![
        Just(0),
        -5..5,
        -5_000..5_000,
        Just(65_535),
        Just(i32::MIN),
        Just(i32::MAX),
        any::<i32>()
    ];
    let flags = prop_oneof![
        Just(ACK),
        Just(ACK | PSH),
        Just(SYN),
        Just(SYN | ACK),
        Just(FIN | ACK),
        Just(RST),
        Just(RST | ACK),
        any::<u8>()
    ];
    let options = prop_oneof![
        Just(vec![]),
        Just(vec![2, 4, 0, 0]),
        Just(vec![
            2, 4, 5, 180, 3, 3, 14, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0
        ]),
        proptest::collection::vec(any::<u8>(), 0..10).prop_map(|bytes| [
            &bytes[..],
            &vec![0; (4 - bytes.len() % 4) % 4]
        ]
        .concat()),
    ];
    (
        flags,
        near.clone(),
        near,
        prop_oneof![Just(0), Just(65_535), any::<u16>()],
        0..1_400_usize,
        options,
        0..3_u8,
    )
        .prop_map(
            |(flags, sequence, acknowledgement, window, payload, options, port)| Forged {
                flags,
                sequence,
                acknowledgement,
                window,
                payload,
                options,
                port,
            },
        )
}

/// Opens a connection from port 1,000 and leaves in the server's ring what fills its window to the last byte, and an end. Returns the
/// numbers that follow.
fn fill_window(world: &mut World, sequence: u32) -> (u32, u32) {
    let ipv6 = world.ipv6;
    let mut segment = Tcp {
        sequence,
        ..Tcp::new(address(ipv6, CLIENT, 1_000), listening(ipv6), SYN)
    };
    world.arrive(SERVER, &segment.frame(CLIENT));
    world.receive(SERVER);
    world.transmit(SERVER);
    let answer = world.take_sent(SERVER).pop().expect("it is answered");
    segment.sequence += 1;
    segment.acknowledgement = answer.sequence.wrapping_add(1);
    let mut left = usize::from(answer.window);
    while left > 0 {
        let bytes = left.min(1_400);
        left -= bytes;
        segment.flags = if left > 0 { ACK } else { FIN | ACK };
        segment.payload = vec![0xee; bytes];
        world.arrive(SERVER, &segment.frame(CLIENT));
        segment.sequence += bytes as u32;
    }
    (segment.sequence + 1, segment.acknowledgement)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn random_bytes_never_panic(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..50)) {
        let mut world = World::new(&small());
        for frame in frames {
            world.arrive(SERVER, &frame);
        }
        world.run(2);
        world.check_sums();
    }

    #[test]
    fn damaged_frames_never_panic(ipv6 in any::<bool>(), flips in proptest::collection::vec((0..80_usize, any::<u8>()), 0..4), cut in 0..90_usize) {
        let mut world = World::new(&Options { ipv6, ..small() });
        let mut frame = stray(ipv6).frame(CLIENT);
        for (at, value) in flips {
            let at = at % frame.len();
            frame[at] = value;
        }
        frame.truncate(cut.max(14));
        world.arrive(SERVER, &frame);
        world.run(2);
        world.check_sums();
    }

    /// A peer with right checksums and wrong everything else, beside a connection that must not notice.
    #[test]
    fn forged_segments_never_panic_and_never_cross_over(
        ipv6 in any::<bool>(),
        large in any::<bool>(),
        filled in any::<bool>(),
        steps in proptest::collection::vec((forged(), 0..6_u8, 0..3_000_000_u64), 1..60),
    ) {
        let bytes = if large { 262_144 } else { 4_096 };
        let options = Options { ipv6, client_buffer_bytes: bytes, client_slots: 8, half_open_max: 4, keepalive_us: large.then_some(5_000_000), ..small() };
        let mut world = World::new(&options);
        let (client, server) = world.open();
        let mut next = [(100_u32, 0_u32); 3];
        if filled {
            next[0] = fill_window(&mut world, 100);
        }
        for (forged, action, pause_us) in steps {
            let (sequence, acknowledgement) = &mut next[usize::from(forged.port)];
            let segment = Tcp {
                sequence: sequence.wrapping_add_signed(forged.sequence),
                acknowledgement: acknowledgement.wrapping_add_signed(forged.acknowledgement),
                window: forged.window,
                payload: vec![0xee; forged.payload],
                options: forged.options,
                ..Tcp::new(address(ipv6, CLIENT, 1_000 + u16::from(forged.port)), listening(ipv6), forged.flags)
            };
            if forged.sequence == 0 {
                *sequence = sequence.wrapping_add(forged.payload as u32 + u32::from(forged.flags & (SYN | FIN) != 0));
            }
            world.arrive(SERVER, &segment.frame(CLIENT));
            world.receive(SERVER);
            while let Some(id) = world.server().next_ready() {
                if id == server {
                    continue;
                }
                let stack = world.server();
                match action {
                    0 => { let all = stack.received(id); stack.consume(id, all); }
                    1 => { stack.send(id, &[1; 3_000]); }
                    2 => stack.finish(id),
                    3 => { stack.abort(id); stack.release(id); }
                    4 => stack.release(id),
                    _ => { let all = stack.received(id); stack.forward(id, id, all); }
                }
            }
            world.transmit(SERVER);
            for sent in world.take_sent(SERVER) {
                if let Some(slot) = sent.destination.port().checked_sub(1_000).filter(|slot| *slot < 3) {
                    next[usize::from(slot)].1 = sent.sequence.wrapping_add(sent.payload.len() as u32 + u32::from(sent.flags & (SYN | FIN) != 0));
                }
            }
            world.now_us += pause_us;
        }
        // The honest connection still works, whatever its probes and timers did meanwhile.
        world.client().send(client, b"hello");
        world.step_us = 100_000;
        world.run(40);
        // With keep-alive it may have been given up: its client was not run meanwhile.
        prop_assert!(large || world.server().status(server) == StreamStatus::Open);
        if world.server().status(server) == StreamStatus::Open {
            let mut received = [0; 5];
            prop_assert_eq!(world.server().copy(server, &mut received), 5);
            prop_assert_eq!(&received, b"hello");
        }
        world.check_sums();
        // And everything ends: nobody is left waiting for ever.
        for slot in 0..world.server().slots() {
            let id = tidegate_proxy::streams::StreamId(slot as u32);
            world.server().abort(id);
            world.server().release(id);
        }
        world.step_us = 500_000;
        world.run(60);
        let counters = world.server().counters();
        prop_assert_eq!((counters.clients_open, counters.half_open, counters.time_wait), (0, 0, 0));
    }
}
