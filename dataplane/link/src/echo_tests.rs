use crate::Mac;
use crate::limits::ECHOES_PER_SECOND;
use crate::ndp;
use crate::test_support::{
    MTU_BYTES, MemoryTx, OTHER_MAC, OUR_MAC, OUR_V4, OUR_V6, PEER_MAC, PEER_V4, PEER_V6, SECOND_US,
    START_US, echo_v4, echo_v6, frame, icmpv6_packet, icmpv6_sum, internet_sum, link, seal_v4,
};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};
use tidegate_channel::counters::LinkCounters;

fn to_us(kind: u16, packet: &[u8]) -> Vec<u8> {
    frame(OUR_MAC, PEER_MAC, kind, packet)
}

fn answer(frame: &[u8]) -> (Option<Vec<u8>>, LinkCounters) {
    let mut link = link();
    let mut tx = MemoryTx::new();
    link.take(START_US, 0, frame, &mut tx);
    (tx.take().pop(), link.counters())
}

fn is_dropped(frame: &[u8], count: fn(&LinkCounters) -> u64, name: &str) {
    let (answer, counters) = answer(frame);
    assert_eq!(answer, None, "{name}");
    assert_eq!((count(&counters), counters.frames_in), (1, 1), "{name}");
}

fn malformed(counters: &LinkCounters) -> u64 {
    counters.frames_malformed
}

fn ignored(counters: &LinkCounters) -> u64 {
    counters.frames_ignored
}

fn not_ours(counters: &LinkCounters) -> u64 {
    counters.frames_not_ours
}

/// Checks an answer over IPv4 against the message that was asked with.
fn check_v4(answer: &[u8], payload: &[u8]) {
    let bytes = 28 + payload.len();
    assert_eq!(answer.len(), (14 + bytes).max(60));
    assert_eq!(answer[..14], frame(PEER_MAC, OUR_MAC, 0x0800, &[]));
    let (packet, padding) = answer[14..].split_at(bytes);
    assert!(padding.iter().all(|byte| *byte == 0));
    let total = (bytes as u16).to_be_bytes();
    let expected = [0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 1];
    assert_eq!(packet[..10], expected);
    assert_eq!(packet[12..20], [OUR_V4.octets(), PEER_V4.octets()].concat());
    assert_eq!(internet_sum(&packet[..20]), 0xffff);
    let message = &packet[20..];
    assert_eq!(internet_sum(message), 0xffff);
    assert_eq!(message[..2], [0, 0]);
    assert_eq!(message[4..8], [0x12, 0x34, 0, 1]);
    assert_eq!(&message[8..], payload);
}

/// The same over IPv6.
fn check_v6(answer: &[u8], payload: &[u8]) {
    assert_eq!(answer[..14], frame(PEER_MAC, OUR_MAC, 0x86dd, &[]));
    let packet = &answer[14..];
    let length = (8 + payload.len() as u16).to_be_bytes();
    assert_eq!(packet[..8], [0x60, 0, 0, 0, length[0], length[1], 58, 64]);
    assert_eq!(packet[8..40], [OUR_V6.octets(), PEER_V6.octets()].concat());
    assert_eq!(icmpv6_sum(packet), 0xffff);
    assert_eq!(packet[40..42], [129, 0]);
    assert_eq!(packet[44..48], [0x12, 0x34, 0, 1]);
    assert_eq!(&packet[48..], payload);
}

proptest! {
    #[test]
    fn any_payload_that_fits_comes_back(payload in proptest::collection::vec(any::<u8>(), 0..=MTU_BYTES - 48), padding in 0..20_usize) {
        let mut ask = to_us(0x0800, &echo_v4(PEER_V4, OUR_V4, &payload));
        ask.resize(ask.len() + padding, 0xee);
        let (reply, counters) = answer(&ask);
        check_v4(&reply.unwrap(), &payload);
        prop_assert_eq!(counters.frames_echoed, 1);
        let mut ask = to_us(0x86dd, &echo_v6(PEER_V6, OUR_V6, &payload));
        ask.resize(ask.len() + padding, 0xee);
        let (reply, counters) = answer(&ask);
        check_v6(&reply.unwrap(), &payload);
        prop_assert_eq!(counters.frames_echoed, 1);
    }
}

#[test]
fn what_no_answer_could_carry_is_malformed() {
    let fits = to_us(0x0800, &echo_v4(PEER_V4, OUR_V4, &vec![7; MTU_BYTES - 28]));
    assert!(answer(&fits).0.is_some());
    let too_long = to_us(0x0800, &echo_v4(PEER_V4, OUR_V4, &vec![7; MTU_BYTES - 27]));
    is_dropped(&too_long, malformed, "IPv4");
    let fits = to_us(0x86dd, &echo_v6(PEER_V6, OUR_V6, &vec![7; MTU_BYTES - 48]));
    assert!(answer(&fits).0.is_some());
    let too_long = to_us(0x86dd, &echo_v6(PEER_V6, OUR_V6, &vec![7; MTU_BYTES - 47]));
    is_dropped(&too_long, malformed, "IPv6");
}

#[test]
fn groups_are_never_answered() {
    const ALL_HOSTS: Mac = [1, 0, 0x5e, 0, 0, 1];
    let to_v4 = |destination: &str, mac: Mac| {
        let packet = echo_v4(PEER_V4, destination.parse().unwrap(), b"?");
        frame(mac, PEER_MAC, 0x0800, &packet)
    };
    for (destination, mac) in [
        ("192.0.2.255", [0xff; 6]),
        ("192.0.2.255", OUR_MAC),
        ("255.255.255.255", [0xff; 6]),
        ("224.0.0.1", ALL_HOSTS),
        ("192.0.2.10", [0xff; 6]),
        ("192.0.2.11", OUR_MAC),
        ("192.0.2.10", OTHER_MAC),
    ] {
        is_dropped(&to_v4(destination, mac), not_ours, destination);
    }
    let to_v6 = |destination: Ipv6Addr, mac: Mac| {
        frame(mac, PEER_MAC, 0x86dd, &echo_v6(PEER_V6, destination, b"?"))
    };
    let group = ndp::solicited_node(OUR_V6);
    for (destination, mac) in [
        (ndp::ALL_NODES, ndp::group_mac(ndp::ALL_NODES)),
        (group, ndp::group_mac(group)),
        (group, OUR_MAC),
        (OUR_V6, ndp::group_mac(group)),
        (PEER_V6, OUR_MAC),
    ] {
        is_dropped(&to_v6(destination, mac), not_ours, "IPv6");
    }
}

#[test]
fn senders_that_no_host_can_be_are_not_answered() {
    for source in [
        "192.0.2.255",
        "255.255.255.255",
        "224.0.0.1",
        "0.0.0.0",
        "127.0.0.1",
        "192.0.2.10",
    ] {
        let packet = echo_v4(source.parse().unwrap(), OUR_V4, b"?");
        is_dropped(&to_us(0x0800, &packet), malformed, source);
    }
    for source in ["ff02::1", "::", "::1", "2001:db8::10"] {
        let packet = echo_v6(source.parse().unwrap(), OUR_V6, b"?");
        is_dropped(&to_us(0x86dd, &packet), malformed, source);
    }
}

/// A change of a packet's bytes.
type Change = fn(&mut Vec<u8>);

#[test]
fn wrong_ipv4_packets_are_dropped() {
    let bad: [(&str, Change); 7] = [
        ("header checksum", |packet| packet[10] ^= 1),
        ("message checksum", |packet| packet[22] ^= 1),
        ("version", |packet| packet[0] = 0x55),
        ("header length", |packet| packet[0] = 0x44),
        ("total length", |packet| packet[3] += 1),
        ("no message", |packet| {
            packet[3] = 27;
            seal_v4(packet);
        }),
        ("code", |packet| {
            packet[21] = 1;
            packet[23] = packet[23].wrapping_sub(1);
        }),
    ];
    let good = echo_v4(PEER_V4, OUR_V4, b"?");
    for (name, change) in bad {
        let mut packet = good.clone();
        change(&mut packet);
        is_dropped(&to_us(0x0800, &packet), malformed, name);
    }
}

#[test]
fn fragments_options_and_other_messages_are_ignored() {
    let changes: [(&str, Change); 5] = [
        ("first fragment", |packet| packet[6] = 0x20),
        ("last fragment", |packet| packet[7] = 2),
        ("UDP", |packet| packet[9] = 17),
        ("echo reply", |packet| packet[20] = 0),
        ("timestamp", |packet| packet[20] = 13),
    ];
    for (name, change) in changes {
        let mut packet = echo_v4(PEER_V4, OUR_V4, b"?");
        change(&mut packet);
        seal_v4(&mut packet);
        is_dropped(&to_us(0x0800, &packet), ignored, name);
    }
    let mut source_routed = echo_v4(PEER_V4, OUR_V4, b"?");
    source_routed[0] = 0x46;
    source_routed[3] += 4;
    source_routed.splice(20..20, [131, 3, 4, 0]);
    is_dropped(&to_us(0x0800, &source_routed), ignored, "options");
    let mut fragment = echo_v6(PEER_V6, OUR_V6, b"?");
    fragment[6] = 44;
    is_dropped(&to_us(0x86dd, &fragment), ignored, "fragment over IPv6");
    let reply = icmpv6_packet(PEER_V6, OUR_V6, 64, &[129, 0, 0, 0, 1, 2, 3, 4]);
    is_dropped(&to_us(0x86dd, &reply), ignored, "echo reply over IPv6");
}

#[test]
fn wrong_ipv6_packets_are_dropped() {
    let bad: [(&str, Change); 4] = [
        ("checksum", |packet| packet[42] ^= 1),
        ("version", |packet| packet[0] = 0x50),
        ("length", |packet| packet[5] += 1),
        ("no message", |packet| packet[5] = 7),
    ];
    let good = echo_v6(PEER_V6, OUR_V6, b"?");
    for (name, change) in bad {
        let mut packet = good.clone();
        change(&mut packet);
        is_dropped(&to_us(0x86dd, &packet), malformed, name);
    }
    let code = icmpv6_packet(PEER_V6, OUR_V6, 64, &[128, 1, 0, 0, 1, 2, 3, 4]);
    is_dropped(&to_us(0x86dd, &code), malformed, "code");
    let empty = icmpv6_packet(PEER_V6, OUR_V6, 64, &[128, 0, 0, 0]);
    is_dropped(&to_us(0x86dd, &empty), malformed, "no identifier");
    let mut nothing = good[..40].to_vec();
    nothing[5] = 0;
    is_dropped(&to_us(0x86dd, &nothing), malformed, "nothing");
}

#[test]
fn so_many_are_answered_a_second() {
    let mut link = link();
    let mut tx = MemoryTx::new();
    tx.room = usize::MAX;
    let over_v4 = to_us(0x0800, &echo_v4(PEER_V4, OUR_V4, b"?"));
    let over_v6 = to_us(0x86dd, &echo_v6(PEER_V6, OUR_V6, b"?"));
    let limit = u64::from(ECHOES_PER_SECOND);
    for second in 1..=2 {
        for _ in 0..limit {
            let now_us = START_US + second * SECOND_US;
            link.take(now_us, 0, &over_v4, &mut tx);
            link.take(now_us, 0, &over_v6, &mut tx);
        }
        assert_eq!(link.counters().frames_echoed, second * limit);
        assert_eq!(link.counters().frames_limited, second * limit);
    }
    // Other answers are not held back.
    let asks = crate::arp::Arp::request(PEER_MAC, Ipv4Addr::new(192, 0, 2, 20), OUR_V4);
    let asks = crate::test_support::arp_frame(OUR_MAC, &asks);
    link.take(START_US + 2 * SECOND_US, 0, &asks, &mut tx);
    assert_eq!(link.counters().frames_answered, 1);
}

#[test]
fn an_answer_without_room_is_dropped_and_counted() {
    let mut link = link();
    let mut tx = MemoryTx::new();
    tx.room = 0;
    for packet in [
        to_us(0x0800, &echo_v4(PEER_V4, OUR_V4, b"?")),
        to_us(0x86dd, &echo_v6(PEER_V6, OUR_V6, b"?")),
    ] {
        link.take(START_US, 0, &packet, &mut tx);
    }
    assert_eq!(link.counters().frames_tx_full, 2);
}
