use crate::Mac;
use crate::arp::{Arp, Operation};
use crate::ethernet::BROADCAST;
use crate::limits::DEFEND_INTERVAL_US;
use crate::link::{Link, News};
use crate::ndp::{self, Kind, Ndp};
use crate::test_support::{
    MemoryTx, OTHER_MAC, OUR_MAC, OUR_V4, OUR_V6, PEER_MAC, PEER_V4, PEER_V6, SECOND_US, START_US,
    advertisement, arp_frame, arp_of, echo_v4, frame, icmpv6_packet, link, ndp_frame, ndp_of,
    ndp_packet, neighbour, option, solicitation, wanted,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tidegate_channel::counters::LinkCounters;

const GROUP_MAC: Mac = [0x33, 0x33, 0xff, 0, 0, 0x10];
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// Gives `frame` to `link` and returns what it answers.
fn take_at(link: &mut Link, now_us: u64, frame: &[u8]) -> Vec<Vec<u8>> {
    let mut tx = MemoryTx::new();
    link.take(now_us, 0, frame, &mut tx);
    tx.take()
}

fn take(link: &mut Link, frame: &[u8]) -> Vec<Vec<u8>> {
    take_at(link, START_US, frame)
}

/// A frame that nothing follows from, and where it is counted.
fn is_dropped(frame: &[u8], count: fn(&LinkCounters) -> u64, name: &str) {
    let mut link = link();
    assert_eq!(
        link.set_wanted(&[wanted(PEER_V4), wanted(PEER_V6)], START_US),
        0
    );
    assert!(take(&mut link, frame).is_empty(), "{name}");
    assert_eq!(link.take_news(), None, "{name}");
    let counters = link.counters();
    assert_eq!((count(&counters), counters.frames_in), (1, 1), "{name}");
}

fn request() -> Arp {
    Arp::request(PEER_MAC, PEER_V4, OUR_V4)
}

#[test]
fn requests_for_our_address_are_answered_to_who_asks() {
    for destination in [BROADCAST, OUR_MAC] {
        let mut link = link();
        let answers = take(&mut link, &arp_frame(destination, &request()));
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0][..12], [PEER_MAC, OUR_MAC].concat());
        assert_eq!(arp_of(&answers[0]), request().reply(OUR_MAC));
        assert_eq!(link.counters().frames_answered, 1);
    }
}

#[test]
fn probes_are_answered() {
    let mut link = link();
    let probe = Arp::request(PEER_MAC, Ipv4Addr::UNSPECIFIED, OUR_V4);
    let answers = take(&mut link, &arp_frame(BROADCAST, &probe));
    let answer = arp_of(&answers[0]);
    assert_eq!(
        (answer.sender, answer.target),
        (OUR_V4, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(answers[0][..6], PEER_MAC);
}

#[test]
fn requests_for_others_are_not_answered() {
    let request = Arp::request(OTHER_MAC, Ipv4Addr::new(192, 0, 2, 30), PEER_V4);
    let frame = arp_frame(BROADCAST, &request);
    is_dropped(&frame, |counters| counters.frames_not_ours, "not for us");
}

#[test]
fn frames_to_other_stations_are_not_looked_at() {
    let frame = arp_frame(OTHER_MAC, &request().reply(PEER_MAC));
    is_dropped(&frame, |counters| counters.frames_not_ours, "promiscuous");
}

#[test]
fn our_own_frames_and_impossible_ones_are_malformed() {
    let ours = arp_frame(BROADCAST, &Arp::announcement(OUR_MAC, OUR_V4));
    let from_group = {
        let mut frame = arp_frame(BROADCAST, &request());
        frame[6] |= 1;
        frame
    };
    let our_mac_inside = {
        let mut frame = arp_frame(BROADCAST, &Arp::request(OUR_MAC, PEER_V4, OUR_V4));
        frame[6..12].copy_from_slice(&PEER_MAC);
        frame
    };
    let mut claims_ours = advertisement(Some(OUR_MAC), true, true);
    claims_ours.target = OUR_V6;
    let reflected = ndp_frame(OUR_MAC, PEER_MAC, &claims_ours);
    let echo = frame(OUR_MAC, OUR_MAC, 0x0800, &echo_v4(PEER_V4, OUR_V4, b"?"));
    let arp = arp_frame(BROADCAST, &request());
    let cases = [
        ("ours", &ours[..]),
        ("from our link address", &echo),
        ("from a group", &from_group),
        ("our link address inside", &our_mac_inside),
        ("our link address in an option", &reflected),
        ("no header", &arp[..13]),
        ("short", &arp[..41]),
    ];
    for (name, frame) in cases {
        is_dropped(frame, |counters| counters.frames_malformed, name);
    }
}

#[test]
fn other_protocols_are_ignored() {
    let arp = arp_frame(BROADCAST, &request());
    let tagged = [&arp[..12], &[0x81, 0, 0, 5], &arp[12..]].concat();
    is_dropped(&tagged, |counters| counters.frames_ignored, "VLAN");
    let lldp = frame([1, 0x80, 0xc2, 0, 0, 0xe], PEER_MAC, 0x88cc, &[0; 46]);
    is_dropped(&lldp, |counters| counters.frames_ignored, "LLDP");
    let advertisement = [
        &[134, 0, 0, 0, 64, 0, 7, 8],
        &[0; 8][..],
        &option(1, PEER_MAC),
    ]
    .concat();
    let redirect = [
        &[137, 0, 0, 0, 0, 0, 0, 0][..],
        &PEER_V6.octets(),
        &OUR_V6.octets(),
    ]
    .concat();
    let mld_query = [&[130, 0, 0, 0, 0, 0, 0, 0][..], &[0; 16]].concat();
    for (name, message) in [
        ("router", advertisement),
        ("redirect", redirect),
        ("MLD", mld_query),
    ] {
        let packet = icmpv6_packet(PEER_V6, ndp::ALL_NODES, 255, &message);
        let frame = frame(ALL_NODES_MAC, PEER_MAC, 0x86dd, &packet);
        is_dropped(&frame, |counters| counters.frames_ignored, name);
    }
}

#[test]
fn a_next_hop_that_moves_is_followed_at_once() {
    let mut link = link();
    assert_eq!(link.set_wanted(&[wanted(PEER_V4)], START_US), 0);
    let reply = Arp::request(OUR_MAC, OUR_V4, PEER_V4).reply(PEER_MAC);
    take(&mut link, &arp_frame(OUR_MAC, &reply));
    assert_eq!(link.take_news(), Some(neighbour(PEER_V4, Some(PEER_MAC))));
    // Failover: the new owner announces the address; as a request and as a reply, both are common.
    let mut announcement = Arp::announcement(OTHER_MAC, PEER_V4);
    for operation in [Operation::Request, Operation::Reply] {
        announcement.operation = operation;
        take(&mut link, &arp_frame(BROADCAST, &announcement));
        let news = link.take_news();
        assert_eq!(
            news,
            Some(neighbour(PEER_V4, Some(announcement.sender_mac)))
        );
        // It is probed there at once.
        let mut tx = MemoryTx::new();
        let now_us = link.next_timer_us().unwrap();
        link.send_due(now_us, 0, &mut tx);
        assert_eq!(tx.only()[..6], announcement.sender_mac);
        announcement.sender_mac = PEER_MAC;
    }
    // Its own question tells as much.
    let question = Arp::request(OTHER_MAC, PEER_V4, OUR_V4);
    assert_eq!(take(&mut link, &arp_frame(BROADCAST, &question)).len(), 1);
    assert_eq!(link.take_news(), Some(neighbour(PEER_V4, Some(OTHER_MAC))));
    let counters = link.counters();
    assert_eq!((counters.frames_learned, counters.frames_answered), (3, 1));
}

#[test]
fn solicitations_for_our_address_are_answered_to_who_asks() {
    for (destination_mac, destination) in
        [(GROUP_MAC, ndp::solicited_node(OUR_V6)), (OUR_MAC, OUR_V6)]
    {
        let mut link = link();
        let mut asks = solicitation();
        asks.destination = destination;
        // The option says where to answer, not the frame.
        let answers = take(&mut link, &ndp_frame(destination_mac, OTHER_MAC, &asks));
        assert_eq!(answers[0][..12], [PEER_MAC, OUR_MAC].concat());
        let expected = Ndp {
            mac: Some(OUR_MAC),
            ..Ndp::advertisement(OUR_V6, PEER_V6, true)
        };
        assert_eq!(ndp_of(&answers[0]), expected);
        assert_eq!(link.counters().frames_answered, 1);
    }
}

#[test]
fn a_solicitation_without_option_is_answered_to_its_frame() {
    let mut link = link();
    let mut asks = solicitation();
    asks.mac = None;
    let answers = take(&mut link, &ndp_frame(GROUP_MAC, OTHER_MAC, &asks));
    assert_eq!(answers[0][..6], OTHER_MAC);
}

#[test]
fn who_asks_whether_our_address_is_free_is_told_with_all_others() {
    let mut link = link();
    let mut probe = solicitation();
    (probe.source, probe.mac) = (Ipv6Addr::UNSPECIFIED, None);
    let answers = take(&mut link, &ndp_frame(GROUP_MAC, OTHER_MAC, &probe));
    assert_eq!(answers[0][..6], ALL_NODES_MAC);
    let answer = ndp_of(&answers[0]);
    assert_eq!(answer.destination, ndp::ALL_NODES);
    let kind = Kind::Advertisement {
        solicited: false,
        overrides: true,
    };
    assert_eq!((answer.kind, answer.target), (kind, OUR_V6));
    assert_eq!(link.take_news(), None, "asking is no conflict");
}

#[test]
fn solicitations_for_others_teach_nothing() {
    let mut asks = solicitation();
    asks.target = "2001:db8::10:99".parse().unwrap();
    let frame = ndp_frame(GROUP_MAC, PEER_MAC, &asks);
    is_dropped(&frame, |counters| counters.frames_not_ours, "not for us");
}

#[test]
fn malformed_solicitations_are_dropped() {
    let mut packet = ndp_packet(&solicitation(), &option(1, PEER_MAC));
    packet[43] ^= 0x10;
    let bad_sum = frame(GROUP_MAC, PEER_MAC, 0x86dd, &packet);
    is_dropped(&bad_sum, |counters| counters.frames_malformed, "checksum");
    let packet = ndp_packet(&solicitation(), &[1, 0, 2, 0, 0, 0, 0, 0xaa]);
    let no_length = frame(GROUP_MAC, PEER_MAC, 0x86dd, &packet);
    is_dropped(&no_length, |counters| counters.frames_malformed, "option");
}

#[test]
fn a_next_hop_that_asks_tells_where_it_is() {
    let mut link = link();
    assert_eq!(link.set_wanted(&[wanted(PEER_V6)], START_US), 0);
    assert_eq!(
        take(&mut link, &ndp_frame(GROUP_MAC, PEER_MAC, &solicitation())).len(),
        1
    );
    assert_eq!(link.take_news(), Some(neighbour(PEER_V6, Some(PEER_MAC))));
}

#[test]
fn advertisements_move_a_next_hop_only_with_override() {
    let mut link = link();
    assert_eq!(link.set_wanted(&[wanted(PEER_V6)], START_US), 0);
    let mut says = |ndp: Ndp| {
        take(&mut link, &ndp_frame(OUR_MAC, OTHER_MAC, &ndp));
        link.take_news()
    };
    assert_eq!(says(advertisement(None, true, true)), None);
    let known = says(advertisement(Some(PEER_MAC), true, false));
    assert_eq!(known, Some(neighbour(PEER_V6, Some(PEER_MAC))));
    assert_eq!(says(advertisement(Some(OTHER_MAC), true, false)), None);
    assert_eq!(says(advertisement(Some(OTHER_MAC), false, false)), None);
    let moved = says(advertisement(Some(OTHER_MAC), false, true));
    assert_eq!(moved, Some(neighbour(PEER_V6, Some(OTHER_MAC))));
    assert_eq!(link.counters().frames_learned, 5);
}

fn conflict(address: impl Into<IpAddr>) -> News {
    News::Conflict {
        port: 0,
        address: address.into(),
        mac: OTHER_MAC,
    }
}

#[test]
fn an_address_of_ours_that_somebody_claims_is_defended_and_told_at_most_every_10_s() {
    let claims_v6 = Ndp {
        source: OUR_V6,
        target: OUR_V6,
        ..advertisement(Some(OTHER_MAC), false, true)
    };
    let cases: [(IpAddr, Vec<u8>); 3] = [
        (
            OUR_V4.into(),
            arp_frame(BROADCAST, &Arp::announcement(OTHER_MAC, OUR_V4)),
        ),
        (
            OUR_V4.into(),
            arp_frame(
                OUR_MAC,
                &Arp::request(PEER_MAC, PEER_V4, OUR_V4).reply(OTHER_MAC),
            ),
        ),
        (
            OUR_V6.into(),
            ndp_frame(ALL_NODES_MAC, OTHER_MAC, &claims_v6),
        ),
    ];
    for (address, claim) in cases {
        let mut link = link();
        let mut defences = Vec::new();
        let mut told = Vec::new();
        for step in 0..250 {
            let now_us = START_US + step * SECOND_US / 10;
            assert!(take_at(&mut link, now_us, &claim).is_empty());
            let mut tx = MemoryTx::new();
            link.send_due(now_us, 0, &mut tx);
            if let Some(news) = link.take_news() {
                assert_eq!(news, conflict(address));
                told.push(step / 10);
            }
            for frame in tx.take() {
                match address {
                    IpAddr::V4(_) => assert_eq!(arp_of(&frame), Arp::announcement(OUR_MAC, OUR_V4)),
                    IpAddr::V6(_) => assert_eq!(ndp_of(&frame).target, OUR_V6),
                }
                defences.push(step / 10);
            }
        }
        assert_eq!(
            (&defences, &told),
            (&vec![0, 10, 20], &vec![0, 10, 20]),
            "{address}"
        );
        assert_eq!(link.counters().frames_conflicting, 250);
    }
    assert_eq!(DEFEND_INTERVAL_US, 10 * SECOND_US);
}

#[test]
fn who_asks_with_an_address_of_ours_is_not_answered() {
    let mut link = link();
    let mut asks = solicitation();
    (asks.source, asks.mac) = (OUR_V6, Some(OTHER_MAC));
    assert!(take(&mut link, &ndp_frame(GROUP_MAC, OTHER_MAC, &asks)).is_empty());
    assert_eq!(link.take_news(), Some(conflict(OUR_V6)));
    let asks = Arp::request(OTHER_MAC, OUR_V4, OUR_V4);
    assert!(take(&mut link, &arp_frame(BROADCAST, &asks)).is_empty());
    assert_eq!(link.take_news(), Some(conflict(OUR_V4)));
    assert_eq!(link.take_news(), None);
    assert_eq!(link.counters().frames_conflicting, 2);
}

#[test]
fn an_answer_without_room_is_dropped_and_counted_and_still_teaches() {
    let mut link = link();
    assert_eq!(link.set_wanted(&[wanted(PEER_V4)], START_US), 0);
    let mut tx = MemoryTx::new();
    tx.room = 0;
    link.take(START_US, 0, &arp_frame(BROADCAST, &request()), &mut tx);
    link.take(
        START_US,
        0,
        &ndp_frame(GROUP_MAC, PEER_MAC, &solicitation()),
        &mut tx,
    );
    assert_eq!(link.counters().frames_tx_full, 2);
    assert_eq!(link.counters().frames_in, 2);
    assert_eq!(link.take_news(), Some(neighbour(PEER_V4, Some(PEER_MAC))));
}
