use super::*;
use crate::test_support::{
    OTHER_MAC, OUR_MAC, OUR_V6, PEER_MAC, PEER_V6, advertisement, icmpv6_packet, icmpv6_sum,
    ndp_packet, option, solicitation,
};
use proptest::prelude::*;

fn parse(packet: &[u8]) -> Result<Ndp, Outcome> {
    Ndp::parse(&Ipv6Packet::new_checked(packet).map_err(|_| Outcome::Malformed)?)
}

/// A change of a packet's bytes.
type Change = fn(&mut Vec<u8>);

fn reseal(packet: &[u8]) -> Vec<u8> {
    let address = |at: usize| {
        let octets: [u8; 16] = packet[at..at + 16].try_into().unwrap();
        Ipv6Addr::from(octets)
    };
    icmpv6_packet(address(8), address(24), packet[7], &packet[40..])
}

#[test]
fn an_advertisement_is_written_as_the_rfc_shows_it() {
    let answer = Ndp::advertisement(OUR_V6, PEER_V6, true);
    let mut packet = vec![0xee; answer.packet_bytes()];
    answer.write(OUR_MAC, &mut packet);
    let mut expected = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
    expected.extend(OUR_V6.octets());
    expected.extend(PEER_V6.octets());
    expected.extend([136, 0, packet[42], packet[43], 0x60, 0, 0, 0]);
    expected.extend(OUR_V6.octets());
    expected.extend([2, 1, 2, 0, 0, 0, 0, 1]);
    assert_eq!(packet[..], expected);
    assert_eq!(icmpv6_sum(&packet), 0xffff);
}

#[test]
fn a_probe_comes_from_nobody_and_has_no_option() {
    let probe = Ndp::probe(OUR_V6);
    let mut packet = vec![0xee; probe.packet_bytes()];
    probe.write(OUR_MAC, &mut packet);
    let mut expected = vec![0x60, 0, 0, 0, 0, 24, 58, 255];
    expected.extend([0; 16]);
    expected.extend(solicited_node(OUR_V6).octets());
    expected.extend([135, 0, packet[42], packet[43], 0, 0, 0, 0]);
    expected.extend(OUR_V6.octets());
    assert_eq!(packet, expected);
    assert_eq!(icmpv6_sum(&packet), 0xffff);
    assert_eq!(parse(&packet), Ok(probe));
}

#[test]
fn groups_are_those_of_the_rfcs() {
    let address: Ipv6Addr = "2001:db8::12:3456:789a".parse().unwrap();
    let group = solicited_node(address);
    assert_eq!(group, "ff02::1:ff56:789a".parse::<Ipv6Addr>().unwrap());
    assert_eq!(group_mac(group), [0x33, 0x33, 0xff, 0x56, 0x78, 0x9a]);
    assert_eq!(group_mac(ALL_NODES), [0x33, 0x33, 0, 0, 0, 1]);
}

#[test]
fn what_no_message_may_be_is_malformed() {
    let changes: [(&str, Change); 6] = [
        ("hop limit", |packet| packet[7] = 254),
        ("code", |packet| packet[41] = 1),
        ("target is a group", |packet| packet[48] = 0xff),
        ("source is a group", |packet| packet[8] = 0xff),
        ("source is a loopback", |packet| {
            packet[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        }),
        ("too short", |packet| {
            packet.truncate(40 + 23);
            packet[5] = 23;
        }),
    ];
    for ndp in [solicitation(), advertisement(Some(PEER_MAC), true, true)] {
        let good = ndp_packet(&ndp, &[]);
        assert!(parse(&good).is_ok());
        for (name, change) in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(parse(&reseal(&bad)), Err(Outcome::Malformed), "{name}");
        }
        let mut bad = good.clone();
        bad[43] ^= 1;
        assert_eq!(parse(&bad), Err(Outcome::Malformed), "checksum");
    }
}

#[test]
fn an_answer_to_a_group_is_not_solicited() {
    let mut answer = advertisement(None, true, true);
    answer.destination = ALL_NODES;
    assert_eq!(parse(&ndp_packet(&answer, &[])), Err(Outcome::Malformed));
}

#[test]
fn who_has_no_address_asks_the_group_and_names_no_link_address() {
    let mut probe = solicitation();
    probe.source = Ipv6Addr::UNSPECIFIED;
    assert!(parse(&ndp_packet(&probe, &[])).is_ok());
    let with_option = ndp_packet(&probe, &option(1, PEER_MAC));
    assert_eq!(parse(&with_option), Err(Outcome::Malformed));
    probe.destination = OUR_V6;
    assert_eq!(parse(&ndp_packet(&probe, &[])), Err(Outcome::Malformed));
}

#[test]
fn the_link_address_is_found_among_options() {
    let nonce = [14, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14].to_vec();
    let others = option(2, OTHER_MAC);
    let options = [nonce, others, option(1, PEER_MAC), option(1, OTHER_MAC)].concat();
    let found = parse(&ndp_packet(&solicitation(), &options)).unwrap();
    assert_eq!(found.mac, Some(PEER_MAC));
}

#[test]
fn options_without_length_or_end_are_malformed() {
    let link = option(1, PEER_MAC);
    let cases: [&[u8]; 7] = [
        &[14, 0, 0, 0, 0, 0, 0, 0],
        &[14],
        &[14, 1, 0, 0, 0, 0, 0],
        &[14, 255, 0, 0, 0, 0, 0, 0],
        &[1, 2, 2, 0, 0, 0, 0, 0xaa, 0, 0, 0, 0, 0, 0, 0, 0],
        &[1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[1, 1, 0, 0, 0, 0, 0, 0],
    ];
    for case in cases {
        let packet = ndp_packet(&solicitation(), case);
        assert_eq!(parse(&packet), Err(Outcome::Malformed), "{case:?}");
        let behind = [&link, case].concat();
        if case[0] == 14 {
            let packet = ndp_packet(&solicitation(), &behind);
            assert_eq!(parse(&packet), Err(Outcome::Malformed), "{behind:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_message_is_read_or_refused(kind in 133..138_u8, body in proptest::collection::vec(any::<u8>(), 0..120)) {
        let message = [&[kind, 0, 0, 0], &body[..]].concat();
        let packet = icmpv6_packet(PEER_V6, OUR_V6, 255, &message);
        let _ = parse(&packet);
    }

    #[test]
    fn what_is_written_is_read(source: u128, target: u128, solicited: bool, overrides: bool, asks: bool, mac in any::<[u8; 5]>()) {
        let unicast = |bits: u128| Ipv6Addr::from_bits(bits & (u128::MAX >> 1) | 1);
        let [a, b, c, d, e] = mac;
        let mac = [2, a, b, c, d, e];
        let kind = if asks { Kind::Solicitation } else { Kind::Advertisement { solicited, overrides } };
        let ndp = Ndp { kind, source: unicast(source), destination: unicast(target), target: unicast(target), mac: Some(mac) };
        let mut packet = vec![0xee; ndp.packet_bytes()];
        ndp.write(mac, &mut packet);
        prop_assert_eq!(icmpv6_sum(&packet), 0xffff);
        prop_assert_eq!(parse(&packet), Ok(ndp));
    }
}
