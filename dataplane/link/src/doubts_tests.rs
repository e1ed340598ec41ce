use super::*;
use crate::arp::Arp;
use crate::ethernet::BROADCAST;
use crate::link::Link;
use crate::test_support::{
    MemoryTx, OTHER_MAC, OUR_MAC, OUR_V4, PEER_MAC, PEER_V4, PEER_V6, SECOND_US, START_US,
    arp_frame, arp_of, link, ndp_of, neighbour, wanted,
};

fn asked(doubts: &mut Doubts, now_us: u64, server: usize) -> Vec<Vec<u8>> {
    let mut tx = MemoryTx::new();
    doubts.ask(now_us, server, OUR_MAC, &mut tx);
    tx.take()
}

/// Two servers behind one next hop, one that cannot be reached, and one over IPv6.
fn doubts() -> Doubts {
    let ways = [
        Some(wanted(PEER_V4)),
        Some(wanted(PEER_V4)),
        None,
        Some(wanted(PEER_V6)),
    ];
    Doubts::new(ways.into_iter())
}

#[test]
fn a_next_hop_in_doubt_is_asked_for_at_once_and_once_a_second() {
    let mut doubts = doubts();
    let frames = asked(&mut doubts, START_US, 0);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0][..6], BROADCAST);
    assert_eq!(arp_of(&frames[0]), Arp::request(OUR_MAC, OUR_V4, PEER_V4));
    // Both servers, of which one next hop is all.
    for server in [0, 1] {
        assert!(asked(&mut doubts, START_US + SECOND_US - 1, server).is_empty());
    }
    let frames = asked(&mut doubts, START_US, 3);
    assert_eq!(frames[0][..6], [0x33, 0x33, 0xff, 0, 0, 0x20]);
    assert_eq!(ndp_of(&frames[0]).target, PEER_V6);
    assert_eq!(asked(&mut doubts, START_US + SECOND_US, 1).len(), 1);
    assert!(asked(&mut doubts, START_US + SECOND_US, 0).is_empty());
}

#[test]
fn what_cannot_be_asked_for_is_not() {
    let mut doubts = doubts();
    for server in [2, 4, usize::MAX] {
        assert_eq!(doubts.port_of(server), None);
        assert!(asked(&mut doubts, START_US, server).is_empty());
    }
    assert_eq!(doubts.port_of(3), Some(0));
    let mut mixed = wanted(PEER_V4);
    mixed.next_hop = PEER_V6.into();
    let mut mixed = Doubts::new([Some(mixed)].into_iter());
    assert_eq!(mixed.port_of(0), None);
    assert!(asked(&mut mixed, START_US, 0).is_empty());
    // Without room it is asked for at the next occasion.
    let mut tx = MemoryTx::new();
    tx.room = 0;
    assert!(!doubts.ask(START_US, 0, OUR_MAC, &mut tx));
    assert_eq!(asked(&mut doubts, START_US, 0).len(), 1);
}

#[test]
fn a_next_hop_that_moved_without_a_word_is_found_long_before_its_probe() {
    let (mut link, mut doubts) = (link(), doubts());
    let says = |link: &mut Link, mac, at_us| {
        let reply = Arp::request(OUR_MAC, OUR_V4, PEER_V4).reply(mac);
        link.take(at_us, 0, &arp_frame(OUR_MAC, &reply), &mut MemoryTx::new());
        link.take_news()
    };
    assert_eq!(link.set_wanted(&[wanted(PEER_V4)], START_US), 0);
    let known = says(&mut link, PEER_MAC, START_US);
    assert_eq!(known, Some(neighbour(PEER_V4, Some(PEER_MAC))));
    let now_us = START_US + 3 * SECOND_US;
    let mut tx = MemoryTx::new();
    link.send_due(now_us, 0, &mut tx);
    assert!(tx.take().is_empty(), "nobody would have asked so soon");
    assert_eq!(asked(&mut doubts, now_us, 0).len(), 1);
    let moved = says(&mut link, OTHER_MAC, now_us + 100);
    assert_eq!(moved, Some(neighbour(PEER_V4, Some(OTHER_MAC))));
}
