use super::*;
use crate::arp::{Arp, Operation};
use crate::ethernet::BROADCAST;
use crate::limits::{ASKS_AT_ONCE, ASKS_PAUSE_US, TX_RETRY_US};
use crate::ndp::{self, Kind, Ndp};
use crate::test_support::{
    MemoryTx, OUR_MAC, OUR_V4, OUR_V6, PEER_MAC, PEER_V4, PEER_V6, SECOND_US, START_US,
    advertisement, arp_frame, arp_of, link, ndp_frame, ndp_of, neighbour, ports, wanted,
};
use std::net::Ipv4Addr;
use tidegate_config::Prefix;

fn due(link: &mut Link, now_us: u64) -> Vec<Vec<u8>> {
    let mut tx = MemoryTx::new();
    link.send_due(now_us, 0, &mut tx);
    tx.take()
}

/// The peer's answer over IPv4.
fn reply() -> Vec<u8> {
    let reply = Arp::request(OUR_MAC, OUR_V4, PEER_V4).reply(PEER_MAC);
    arp_frame(OUR_MAC, &reply)
}

fn resolve(link: &mut Link, now_us: u64) {
    let answer = ndp_frame(
        OUR_MAC,
        PEER_MAC,
        &advertisement(Some(PEER_MAC), true, true),
    );
    for frame in [reply(), answer] {
        link.take(now_us, 0, &frame, &mut MemoryTx::new());
    }
}

#[test]
fn our_addresses_are_probed_and_announced_twice() {
    let mut link = Link::new(&ports(), START_US);
    for at_us in [START_US, START_US + 2 * SECOND_US] {
        assert_eq!(link.next_timer_us(), Some(at_us));
        assert!(due(&mut link, at_us - 1).is_empty());
        let frames = due(&mut link, at_us);
        assert_eq!(frames.len(), 4);
        assert!(frames[..2].iter().all(|frame| frame[..6] == BROADCAST));
        let probe = arp_of(&frames[0]);
        assert_eq!(probe.operation, Operation::Request);
        assert_eq!(
            (probe.sender, probe.target),
            (Ipv4Addr::UNSPECIFIED, OUR_V4)
        );
        let arp = arp_of(&frames[1]);
        assert_eq!(arp, Arp::announcement(OUR_MAC, OUR_V4));
        assert_eq!((arp.sender, arp.target), (OUR_V4, OUR_V4));
        assert_eq!(frames[2][..6], [0x33, 0x33, 0xff, 0, 0, 0x10]);
        assert_eq!(ndp_of(&frames[2]), Ndp::probe(OUR_V6));
        assert_eq!(frames[3][..6], [0x33, 0x33, 0, 0, 0, 1]);
        let ndp = ndp_of(&frames[3]);
        let kind = Kind::Advertisement {
            solicited: false,
            overrides: true,
        };
        assert_eq!((ndp.kind, ndp.mac), (kind, Some(OUR_MAC)));
        assert_eq!((ndp.source, ndp.target), (OUR_V6, OUR_V6));
        assert!(frames.iter().all(|frame| frame[6..12] == OUR_MAC));
    }
    assert_eq!(link.next_timer_us(), None);
    assert_eq!(link.counters().asks_sent, 8);
}

#[test]
fn who_answers_a_probe_of_our_addresses_is_named() {
    let mut link = Link::new(&ports(), START_US);
    let frames = due(&mut link, START_US);
    let (arp, ndp) = (arp_of(&frames[0]), ndp_of(&frames[2]));
    let answers = [
        arp_frame(OUR_MAC, &arp.reply(PEER_MAC)),
        ndp_frame(
            [0x33, 0x33, 0, 0, 0, 1],
            PEER_MAC,
            &Ndp {
                source: ndp.target,
                target: ndp.target,
                ..advertisement(Some(PEER_MAC), false, true)
            },
        ),
    ];
    for (frame, address) in answers.iter().zip([OUR_V4.into(), OUR_V6.into()]) {
        let mut tx = MemoryTx::new();
        link.take(START_US + 100, 0, frame, &mut tx);
        assert!(tx.take().is_empty());
        let news = News::Conflict {
            port: 0,
            address,
            mac: PEER_MAC,
        };
        assert_eq!(link.take_news(), Some(news));
    }
    assert_eq!(link.counters().frames_conflicting, 2);
    // They are kept, and said to be ours.
    let frames = due(&mut link, START_US + 100);
    let ours = |frame: &&Vec<u8>| frame[12..14] == [8, 6] && arp_of(frame).sender == OUR_V4;
    assert_eq!(frames.iter().filter(ours).count(), 1);
}

#[test]
fn next_hops_are_asked_for_at_once_and_told_when_they_answer() {
    let mut link = link();
    assert_eq!(link.next_timer_us(), None);
    let both = [wanted(PEER_V4), wanted(PEER_V6)];
    assert_eq!(link.set_wanted(&both, START_US), 0);
    assert_eq!(link.next_timer_us(), Some(START_US));
    let frames = due(&mut link, START_US);
    assert_eq!(frames[0][..6], BROADCAST);
    assert_eq!(arp_of(&frames[0]), Arp::request(OUR_MAC, OUR_V4, PEER_V4));
    assert_eq!(frames[1][..6], [0x33, 0x33, 0xff, 0, 0, 0x20]);
    let asks = Ndp {
        mac: Some(OUR_MAC),
        ..Ndp::solicitation(OUR_V6, ndp::solicited_node(PEER_V6), PEER_V6)
    };
    assert_eq!(ndp_of(&frames[1]), asks);
    assert_eq!(link.take_news(), None);

    resolve(&mut link, START_US + 200);
    assert_eq!(link.take_news(), Some(neighbour(PEER_V4, Some(PEER_MAC))));
    assert_eq!(link.take_news(), Some(neighbour(PEER_V6, Some(PEER_MAC))));
    assert_eq!(link.take_news(), None);
    assert_eq!(link.counters().frames_learned, 2);
}

#[test]
fn known_next_hops_are_probed_alone_and_lost_when_they_are_silent() {
    let mut link = link();
    assert_eq!(
        link.set_wanted(&[wanted(PEER_V4), wanted(PEER_V6)], START_US),
        0
    );
    due(&mut link, START_US);
    resolve(&mut link, START_US);
    while link.take_news().is_some() {}
    // The turn at which they would have been asked again finds nothing to do.
    assert!(due(&mut link, START_US + SECOND_US).is_empty());
    for second in 30..33 {
        let now_us = START_US + second * SECOND_US;
        assert_eq!(link.next_timer_us(), Some(now_us));
        let frames = due(&mut link, now_us);
        assert!(frames.iter().all(|frame| frame[..6] == PEER_MAC));
        assert_eq!(arp_of(&frames[0]).operation, Operation::Request);
        let probe = ndp_of(&frames[1]);
        assert_eq!((probe.kind, probe.target), (Kind::Solicitation, PEER_V6));
        assert_eq!(probe.destination, PEER_V6);
        assert_eq!(link.take_news(), None);
    }
    let frames = due(&mut link, START_US + 33 * SECOND_US);
    assert!(frames.iter().all(|frame| frame[0] & 1 == 1));
    assert_eq!(link.take_news(), Some(neighbour(PEER_V4, None)));
    assert_eq!(link.take_news(), Some(neighbour(PEER_V6, None)));
    resolve(&mut link, START_US + 34 * SECOND_US);
    assert_eq!(link.take_news(), Some(neighbour(PEER_V4, Some(PEER_MAC))));
}

#[test]
fn what_cannot_be_asked_for_finds_no_place() {
    let mut link = link();
    let mut other_port = wanted(PEER_V4);
    other_port.port = 1;
    let mut two_families = wanted(PEER_V4);
    two_families.source = OUR_V6.into();
    let all = [
        wanted(PEER_V4),
        wanted(PEER_V4),
        wanted(OUR_V4),
        wanted(Ipv4Addr::BROADCAST),
        wanted(Ipv4Addr::new(224, 0, 0, 5)),
        wanted(Ipv4Addr::UNSPECIFIED),
        wanted(ndp::ALL_NODES),
        other_port,
        two_families,
    ];
    assert_eq!(link.set_wanted(&all, START_US), 7);
    assert_eq!(due(&mut link, START_US).len(), 1);
}

#[test]
fn next_hops_beyond_the_limit_find_no_place() {
    let mut two = ports();
    two.push(LinkPort {
        mac: [2, 0, 0, 0, 0, 2],
        mtu_bytes: 1_500,
        addresses: Vec::new(),
    });
    let mut link = Link::new(&two, START_US);
    let all: Vec<Wanted> = (0..WANTED_MAX as u32 + 10)
        .map(|number| Wanted {
            port: (number % 2) as u8,
            ..wanted(Ipv4Addr::from_bits(0x0a00_0000 + number))
        })
        .collect();
    assert_eq!(link.set_wanted(&all, START_US), 10);
    assert_eq!(link.set_wanted(&all[..WANTED_MAX], START_US), 0);
    assert_eq!(link.set_wanted(&[], START_US), 0);
}

#[test]
fn many_next_hops_are_asked_for_in_portions() {
    let mut link = link();
    let all: Vec<Wanted> = (0..3 * ASKS_AT_ONCE as u32)
        .map(|number| wanted(Ipv4Addr::from_bits(0x0a00_0000 + number)))
        .collect();
    assert_eq!(link.set_wanted(&all, START_US), 0);
    let mut asked = Vec::new();
    for portion in 0..3 {
        let now_us = START_US + portion * ASKS_PAUSE_US;
        assert_eq!(link.next_timer_us(), Some(now_us));
        let frames = due(&mut link, now_us);
        assert_eq!(frames.len(), ASKS_AT_ONCE);
        asked.extend(frames.iter().map(|frame| IpAddr::V4(arp_of(frame).target)));
    }
    let expected: Vec<IpAddr> = all.iter().map(|wanted| wanted.next_hop).collect();
    assert_eq!(asked, expected);
}

#[test]
fn a_full_ring_is_tried_again_soon() {
    let mut link = Link::new(&ports(), START_US);
    assert_eq!(link.set_wanted(&[wanted(PEER_V4)], START_US), 0);
    let mut tx = MemoryTx::new();
    tx.room = 1;
    link.send_due(START_US, 0, &mut tx);
    assert_eq!(arp_of(&tx.only()), Arp::probe(OUR_MAC, OUR_V4));
    assert_eq!(link.counters().asks_tx_full, 1);
    let retry_us = START_US + TX_RETRY_US;
    assert_eq!(link.next_timer_us(), Some(retry_us));
    tx.room = 2;
    link.send_due(retry_us, 0, &mut tx);
    let frames = tx.take();
    assert_eq!(arp_of(&frames[0]), Arp::announcement(OUR_MAC, OUR_V4));
    assert_eq!(ndp_of(&frames[1]), Ndp::probe(OUR_V6));
    tx.room = 2;
    link.send_due(retry_us + TX_RETRY_US, 0, &mut tx);
    let frames = tx.take();
    assert_eq!(ndp_of(&frames[0]).source, OUR_V6);
    assert_eq!(arp_of(&frames[1]).target, PEER_V4);
    assert_eq!(link.counters().asks_tx_full, 2);
    assert_eq!(link.counters().asks_sent, 5);
}

#[test]
fn each_port_asks_and_learns_for_itself() {
    let mut two = ports();
    two.push(LinkPort {
        mac: [2, 0, 0, 0, 0, 2],
        mtu_bytes: 1_500,
        addresses: vec![Prefix {
            address: Ipv4Addr::new(198, 51, 100, 1).into(),
            bits: 24,
        }],
    });
    let mut link = Link::new(&two, START_US);
    let on_second = Wanted {
        port: 1,
        ..wanted(PEER_V4)
    };
    assert_eq!(link.set_wanted(&[on_second], START_US), 0);
    let frames = due(&mut link, START_US);
    assert_eq!(frames.len(), 4, "probes and announcements alone");
    let mut tx = MemoryTx::new();
    link.send_due(START_US, 1, &mut tx);
    let frames = tx.take();
    assert_eq!(frames.len(), 3);
    assert!(
        frames
            .iter()
            .all(|frame| frame[6..12] == [2, 0, 0, 0, 0, 2])
    );
    // The same address on the other port is somebody else.
    link.take(START_US, 0, &reply(), &mut tx);
    assert_eq!(link.take_news(), None);
    let mut to_second = reply();
    to_second[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    link.take(START_US, 1, &to_second, &mut tx);
    let news = News::Neighbour {
        port: 1,
        address: PEER_V4.into(),
        mac: Some(PEER_MAC),
    };
    assert_eq!(link.take_news(), Some(news));
    link.take(START_US, 2, &reply(), &mut tx);
    assert_eq!(link.counters().frames_not_ours, 2);
}
