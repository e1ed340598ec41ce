//! Whatever arrives in whatever order: nothing panics, every frame is counted once, whatever leaves is right, and nothing stays due.

use crate::Mac;
use crate::arp::{Arp, Operation};
use crate::ethernet::BROADCAST;
use crate::limits::ASKS_AT_ONCE;
use crate::link::{Link, News};
use crate::ndp::{self, Ndp};
use crate::test_support::{
    MemoryTx, OTHER_MAC, OUR_MAC, OUR_V4, OUR_V6, PEER_MAC, PEER_V4, PEER_V6, START_US,
    advertisement, arp_frame, arp_of, echo_v4, echo_v6, frame, icmpv6_sum, internet_sum, ndp_frame,
    ndp_of, ports, solicitation, wanted,
};
use proptest::prelude::*;
use std::net::IpAddr;
use tidegate_channel::counters::LinkCounters;

fn valid_frames() -> Vec<Vec<u8>> {
    let group = ndp::group_mac(ndp::solicited_node(OUR_V6));
    let reply = Arp::request(OUR_MAC, OUR_V4, PEER_V4).reply(PEER_MAC);
    let claim_v6 = Ndp {
        source: OUR_V6,
        target: OUR_V6,
        ..advertisement(Some(OTHER_MAC), false, true)
    };
    vec![
        arp_frame(BROADCAST, &Arp::request(PEER_MAC, PEER_V4, OUR_V4)),
        arp_frame(OUR_MAC, &reply),
        arp_frame(BROADCAST, &Arp::announcement(OTHER_MAC, PEER_V4)),
        arp_frame(BROADCAST, &Arp::announcement(OTHER_MAC, OUR_V4)),
        ndp_frame(group, PEER_MAC, &solicitation()),
        ndp_frame(
            OUR_MAC,
            PEER_MAC,
            &advertisement(Some(PEER_MAC), true, true),
        ),
        ndp_frame(
            OUR_MAC,
            PEER_MAC,
            &advertisement(Some(OTHER_MAC), false, false),
        ),
        ndp_frame(OUR_MAC, PEER_MAC, &claim_v6),
        frame(
            OUR_MAC,
            PEER_MAC,
            0x0800,
            &echo_v4(PEER_V4, OUR_V4, b"hello"),
        ),
        frame(
            OUR_MAC,
            PEER_MAC,
            0x86dd,
            &echo_v6(PEER_V6, OUR_V6, b"hello"),
        ),
    ]
}

/// Makes the checksums of a changed frame right again, where there are any, so that it gets further than the first look.
fn reseal(frame: &mut [u8]) {
    let Some((header, packet)) = frame.split_at_mut_checked(14) else {
        return;
    };
    match header[12..] {
        [0x08, 0] if packet.len() >= 28 => {
            packet[10..12].fill(0);
            let sum = !internet_sum(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            let end = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            if let Some(message) = packet.get_mut(20..end).filter(|message| message.len() >= 4) {
                message[2..4].fill(0);
                let sum = !internet_sum(message);
                message[2..4].copy_from_slice(&sum.to_be_bytes());
            }
        }
        [0x86, 0xdd] if packet.len() >= 44 => {
            let bytes = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            if bytes >= 4 && packet.len() >= 40 + bytes {
                packet[42..44].fill(0);
                let sum = !icmpv6_sum(packet);
                packet[42..44].copy_from_slice(&sum.to_be_bytes());
            }
        }
        _ => {}
    }
}

/// What leaves is well formed, comes from us and says nothing untrue.
fn check_sent(frame: &[u8]) {
    assert!(frame.len() >= 60 && frame.len() <= 1_514);
    assert_eq!(frame[6..12], OUR_MAC);
    assert_ne!(frame[..6], OUR_MAC);
    match frame[12..14] {
        [0x08, 0x06] => {
            let arp = arp_of(frame);
            let probes = arp == Arp::probe(OUR_MAC, OUR_V4);
            assert!(arp.sender_mac == OUR_MAC && (arp.sender == OUR_V4 || probes));
            if arp.operation == Operation::Reply {
                assert_eq!(frame[..6], arp.target_mac);
            }
        }
        [0x08, 0x00] => {
            let packet = &frame[14..];
            let end = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            assert_eq!(internet_sum(&packet[..20]), 0xffff);
            assert_eq!(internet_sum(&packet[20..end]), 0xffff);
            assert_eq!(packet[12..16], OUR_V4.octets());
            assert_eq!(frame[0] & 1, 0);
        }
        [0x86, 0xdd] => {
            assert_eq!(icmpv6_sum(&frame[14..]), 0xffff);
            let is_echo = frame[54] == 129;
            if !is_echo && ndp_of(frame) == Ndp::probe(OUR_V6) {
                return;
            }
            assert_eq!(frame[22..38], OUR_V6.octets());
            if is_echo {
                assert_eq!(frame[0] & 1, 0);
            } else {
                assert_eq!(ndp_of(frame).mac, Some(OUR_MAC));
            }
        }
        _ => panic!("a frame of no kind"),
    }
}

fn check_sum(counters: &LinkCounters, frames: u64) {
    assert_eq!(
        (counters.frames_in, counters.frames_told()),
        (frames, frames)
    );
}

fn station(mac: Mac) -> bool {
    mac != [0; 6] && mac[0] & 1 == 0 && mac != OUR_MAC
}

#[derive(Clone, Debug)]
struct Step {
    which: usize,
    changes: Vec<(usize, u8)>,
    keep: usize,
    reseal: bool,
    wait_us: u64,
    room: usize,
    wanted: u8,
}

fn step() -> impl Strategy<Value = Step> {
    (
        0..10_usize,
        proptest::collection::vec((0..100_usize, any::<u8>()), 0..4),
        prop_oneof![4 => Just(usize::MAX), 1 => 0..100_usize],
        any::<bool>(),
        prop_oneof![0..1_000_u64, 0..40_000_000_u64],
        prop_oneof![8 => Just(100_usize), 1 => Just(0), 1 => Just(1)],
        prop_oneof![10 => Just(0_u8), 1 => 1..5_u8],
    )
        .prop_map(
            |(which, changes, keep, reseal, wait_us, room, wanted)| Step {
                which,
                changes,
                keep,
                reseal,
                wait_us,
                room,
                wanted,
            },
        )
}

fn mutated(step: &Step) -> Vec<u8> {
    let mut frame = valid_frames().swap_remove(step.which);
    for (at, flip) in &step.changes {
        let at = at % frame.len();
        frame[at] ^= flip;
    }
    frame.truncate(step.keep);
    if step.reseal {
        reseal(&mut frame);
    }
    frame
}

fn change_wanted(link: &mut Link, which: u8, now_us: u64) {
    let both = [wanted(PEER_V4), wanted(PEER_V6)];
    let chosen = match which {
        0 => return,
        1 => &both[..0],
        2 => &both[..1],
        3 => &both[1..],
        _ => &both[..],
    };
    assert_eq!(link.set_wanted(chosen, now_us), 0);
}

/// Takes all news, which are about what was asked for, and ends.
fn check_news(link: &mut Link) {
    for _ in 0..8 {
        match link.take_news() {
            None => return,
            Some(News::Neighbour { port, address, mac }) => {
                assert_eq!(port, 0);
                assert!([IpAddr::from(PEER_V4), PEER_V6.into()].contains(&address));
                assert!(mac.is_none_or(station));
            }
            Some(News::Conflict { port, address, mac }) => {
                assert_eq!(port, 0);
                assert!([IpAddr::from(OUR_V4), OUR_V6.into()].contains(&address));
                assert!(station(mac));
            }
        }
    }
    panic!("more news than things to tell");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn mutated_frames_do_no_harm(steps in proptest::collection::vec(step(), 1..60)) {
        let mut link = Link::new(&ports(), START_US);
        change_wanted(&mut link, 4, START_US);
        let mut now_us = START_US;
        let mut tx = MemoryTx::new();
        for (taken, step) in (1..).zip(&steps) {
            now_us += step.wait_us;
            tx.room = step.room;
            change_wanted(&mut link, step.wanted, now_us);
            link.take(now_us, 0, &mutated(step), &mut tx);
            prop_assert!(tx.frames.len() <= 1, "one answer per frame");
            link.send_due(now_us, 0, &mut tx);
            prop_assert!(tx.frames.len() <= 1 + ASKS_AT_ONCE);
            prop_assert!(link.next_timer_us().is_none_or(|due_us| due_us > now_us), "a loop would spin");
            tx.take().iter().for_each(|frame| check_sent(frame));
            check_news(&mut link);
            check_sum(&link.counters(), taken);
        }
    }

    #[test]
    fn any_bytes_do_no_harm(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20), kind in 0..4_usize) {
        let mut link = Link::new(&ports(), START_US);
        let mut tx = MemoryTx::new();
        for (taken, bytes) in (1..).zip(&frames) {
            let kind = [0x0800, 0x0806, 0x86dd, 0x8100][kind];
            link.take(START_US, 0, &frame(OUR_MAC, PEER_MAC, kind, bytes), &mut tx);
            check_sum(&link.counters(), taken);
        }
        tx.take().iter().for_each(|frame| check_sent(frame));
    }
}

#[test]
fn unchanged_frames_get_as_far_as_they_should() {
    let mut link = Link::new(&ports(), START_US);
    change_wanted(&mut link, 4, START_US);
    for frame in valid_frames() {
        link.take(START_US, 0, &frame, &mut MemoryTx::new());
    }
    let expected = LinkCounters {
        frames_in: 10,
        frames_answered: 2,
        frames_echoed: 2,
        frames_learned: 4,
        frames_conflicting: 2,
        ..LinkCounters::default()
    };
    assert_eq!(link.counters(), expected);
}
