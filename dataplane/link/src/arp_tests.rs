use super::*;
use crate::test_support::{OUR_MAC, OUR_V4, PEER_MAC, PEER_V4};
use proptest::prelude::*;

fn bytes(arp: &Arp) -> [u8; PACKET_BYTES] {
    let mut packet = [0xee; PACKET_BYTES];
    arp.write(&mut packet);
    packet
}

#[test]
fn a_request_is_written_as_the_rfc_shows_it() {
    let request = Arp::request(OUR_MAC, OUR_V4, PEER_V4);
    #[rustfmt::skip]
    let expected = [
        0, 1, 0x08, 0, 6, 4, 0, 1,
        2, 0, 0, 0, 0, 1, 192, 0, 2, 10,
        0, 0, 0, 0, 0, 0, 192, 0, 2, 20,
    ];
    assert_eq!(bytes(&request), expected);
    assert_eq!(request.destination(), [0xff; 6]);
}

#[test]
fn a_reply_turns_the_request_around() {
    let reply = Arp::request(PEER_MAC, PEER_V4, OUR_V4).reply(OUR_MAC);
    #[rustfmt::skip]
    let expected = [
        0, 1, 0x08, 0, 6, 4, 0, 2,
        2, 0, 0, 0, 0, 1, 192, 0, 2, 10,
        2, 0, 0, 0, 0, 0xaa, 192, 0, 2, 20,
    ];
    assert_eq!(bytes(&reply), expected);
    assert_eq!(reply.destination(), PEER_MAC);
}

#[test]
fn other_hardware_protocols_and_lengths_are_malformed() {
    let good = bytes(&Arp::request(PEER_MAC, PEER_V4, OUR_V4));
    assert!(Arp::parse(&good).is_ok());
    for at in 0..6 {
        let mut bad = good;
        bad[at] ^= 1;
        assert_eq!(Arp::parse(&bad), Err(Outcome::Malformed), "byte {at}");
    }
    assert_eq!(Arp::parse(&good[..27]), Err(Outcome::Malformed));
}

#[test]
fn other_operations_are_ignored() {
    let mut packet = bytes(&Arp::request(PEER_MAC, PEER_V4, OUR_V4));
    for operation in [0, 3, 4, 8, 9, 0x0101_u16] {
        packet[6..8].copy_from_slice(&operation.to_be_bytes());
        assert_eq!(Arp::parse(&packet), Err(Outcome::Ignored), "{operation}");
    }
}

#[test]
fn senders_that_no_station_can_be_are_malformed() {
    for mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let packet = bytes(&Arp::request(mac, PEER_V4, OUR_V4));
        assert_eq!(Arp::parse(&packet), Err(Outcome::Malformed), "{mac:?}");
    }
    for sender in ["224.0.0.1", "255.255.255.255", "127.0.0.1"] {
        let packet = bytes(&Arp::request(PEER_MAC, sender.parse().unwrap(), OUR_V4));
        assert_eq!(Arp::parse(&packet), Err(Outcome::Malformed), "{sender}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(arp) = Arp::parse(&packet) {
            prop_assert_eq!(&bytes(&arp)[..], &packet[..PACKET_BYTES]);
        }
    }

    #[test]
    fn what_is_written_is_read(reply: bool, mac in any::<[u8; 5]>(), sender: u32, target: u32, target_mac: Mac, padding in 0..20_usize) {
        let [a, b, c, d, e] = mac;
        let arp = Arp {
            operation: if reply { Operation::Reply } else { Operation::Request },
            sender_mac: [2, a, b, c, d, e],
            sender: Ipv4Addr::from_bits(sender & 0x5fff_ffff),
            target_mac,
            target: Ipv4Addr::from_bits(target),
        };
        let packet = [&bytes(&arp)[..], &vec![0xee; padding]].concat();
        prop_assert_eq!(Arp::parse(&packet), Ok(arp));
    }
}
