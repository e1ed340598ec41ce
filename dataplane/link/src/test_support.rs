//! What the tests of several modules need: a port's transmit ring in memory, frames, and checksums counted another way.

use crate::Mac;
use crate::arp::{self, Arp};
use crate::link::{Link, News, Wanted};
use crate::ndp::{self, Kind, Ndp};
use crate::own::LinkPort;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tidegate_config::Prefix;
use tidegate_port::{Flushed, TxQueue};

pub(crate) const OUR_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER_MAC: Mac = [2, 0, 0, 0, 0, 0xaa];
pub(crate) const OTHER_MAC: Mac = [2, 0, 0, 0, 0, 0xbb];
pub(crate) const OUR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const PEER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
pub(crate) const OUR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub(crate) const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20);
pub(crate) const SECOND_US: u64 = 1_000_000;
pub(crate) const START_US: u64 = 7 * SECOND_US;
pub(crate) const MTU_BYTES: usize = 1_500;

/// Frames that were sent, and room for more.
pub(crate) struct MemoryTx {
    pub(crate) frames: Vec<Vec<u8>>,
    pub(crate) room: usize,
}

impl MemoryTx {
    pub(crate) fn new() -> Self {
        Self {
            frames: Vec::new(),
            room: 1_024,
        }
    }

    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.frames)
    }

    /// The one frame that was sent.
    pub(crate) fn only(&mut self) -> Vec<u8> {
        let mut frames = self.take();
        assert_eq!(frames.len(), 1, "frames sent");
        frames.remove(0)
    }
}

impl TxQueue for MemoryTx {
    fn room(&mut self) -> usize {
        self.room
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.room = self.room.checked_sub(1).expect("room was looked for");
        // A ring's memory holds what was sent before.
        let mut frame = vec![0xee; bytes];
        let result = fill(&mut frame);
        self.frames.push(frame);
        result
    }

    fn show(&mut self, _look: &mut dyn FnMut(&[u8])) {}

    fn flush(&mut self) -> Flushed {
        Flushed::default()
    }
}

/// One port with an address of each family.
pub(crate) fn ports() -> Vec<LinkPort> {
    let prefix = |address, bits| Prefix { address, bits };
    vec![LinkPort {
        mac: OUR_MAC,
        mtu_bytes: MTU_BYTES,
        addresses: vec![prefix(OUR_V4.into(), 24), prefix(OUR_V6.into(), 64)],
    }]
}

/// The link layer of [`ports`], its announcements sent.
pub(crate) fn link() -> Link {
    let mut link = Link::new(&ports(), START_US - 4 * SECOND_US);
    for at_us in [START_US - 4 * SECOND_US, START_US - 2 * SECOND_US] {
        link.send_due(at_us, 0, &mut MemoryTx::new());
    }
    link
}

pub(crate) fn wanted(next_hop: impl Into<IpAddr>) -> Wanted {
    let next_hop = next_hop.into();
    let source = match next_hop {
        IpAddr::V4(_) => OUR_V4.into(),
        IpAddr::V6(_) => OUR_V6.into(),
    };
    Wanted {
        port: 0,
        source,
        next_hop,
    }
}

pub(crate) fn neighbour(address: impl Into<IpAddr>, mac: Option<Mac>) -> News {
    News::Neighbour {
        port: 0,
        address: address.into(),
        mac,
    }
}

/// A frame.
pub(crate) fn frame(destination: Mac, source: Mac, kind: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(destination);
    frame.extend(source);
    frame.extend(kind.to_be_bytes());
    frame.extend(packet);
    frame
}

pub(crate) fn arp_frame(destination: Mac, arp: &Arp) -> Vec<u8> {
    let mut packet = [0; arp::PACKET_BYTES];
    arp.write(&mut packet);
    frame(destination, arp.sender_mac, 0x0806, &packet)
}

/// The ARP packet in a frame of ours.
pub(crate) fn arp_of(frame: &[u8]) -> Arp {
    assert_eq!(frame[12..14], [8, 6], "no ARP");
    assert_eq!(frame.len(), 60);
    assert!(frame[42..].iter().all(|byte| *byte == 0), "padding");
    Arp::parse(&frame[14..]).unwrap()
}

/// An IPv6 packet with an ICMPv6 message, sealed by [`internet_sum`].
pub(crate) fn icmpv6_packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((message.len() as u16).to_be_bytes());
    packet.extend([58, hop_limit]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(message);
    packet[42..44].fill(0);
    let sum = !icmpv6_sum(&packet);
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A solicitation or an advertisement with these options.
pub(crate) fn ndp_packet(ndp: &Ndp, options: &[u8]) -> Vec<u8> {
    let (kind, flags) = match ndp.kind {
        Kind::Solicitation => (135, 0),
        Kind::Advertisement {
            solicited,
            overrides,
        } => (136, u8::from(solicited) << 6 | u8::from(overrides) << 5),
    };
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(ndp.target.octets());
    message.extend(options);
    icmpv6_packet(ndp.source, ndp.destination, 255, &message)
}

/// An option with a link address.
pub(crate) fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [vec![kind, 1], mac.to_vec()].concat()
}

/// A frame with that message and, if it has one, its link address.
pub(crate) fn ndp_frame(destination: Mac, source: Mac, ndp: &Ndp) -> Vec<u8> {
    let kind = if ndp.kind == Kind::Solicitation { 1 } else { 2 };
    let options = ndp.mac.map_or(Vec::new(), |mac| option(kind, mac));
    frame(destination, source, 0x86dd, &ndp_packet(ndp, &options))
}

/// The peer's question for our IPv6 address.
pub(crate) fn solicitation() -> Ndp {
    Ndp {
        mac: Some(PEER_MAC),
        ..Ndp::solicitation(PEER_V6, ndp::solicited_node(OUR_V6), OUR_V6)
    }
}

/// The peer's answer to us.
pub(crate) fn advertisement(mac: Option<Mac>, solicited: bool, overrides: bool) -> Ndp {
    Ndp {
        kind: Kind::Advertisement {
            solicited,
            overrides,
        },
        source: PEER_V6,
        destination: if solicited { OUR_V6 } else { ndp::ALL_NODES },
        target: PEER_V6,
        mac,
    }
}

/// The message of neighbour discovery in a frame of ours.
pub(crate) fn ndp_of(frame: &[u8]) -> Ndp {
    assert_eq!(frame[12..14], [0x86, 0xdd], "no IPv6");
    assert_eq!(icmpv6_sum(&frame[14..]), 0xffff, "checksum");
    let packet = smoltcp::wire::Ipv6Packet::new_checked(&frame[14..]).unwrap();
    Ndp::parse(&packet).unwrap()
}

/// An echo request to us.
pub(crate) fn echo_v4(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    message.extend(payload);
    let sum = !internet_sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0x45, 0];
    packet.extend((20 + message.len() as u16).to_be_bytes());
    packet.extend([0xab, 0xcd, 0, 0, 63, 1, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    seal_v4(&mut packet);
    packet.extend(message);
    packet
}

/// Makes the header's checksum right again.
pub(crate) fn seal_v4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = !internet_sum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

pub(crate) fn echo_v6(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let message = [&[128, 0, 0, 0, 0x12, 0x34, 0, 1], payload].concat();
    icmpv6_packet(source, destination, 61, &message)
}

/// RFC 1071, the slow way: what a right checksum makes 0xffff.
pub(crate) fn internet_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for (index, byte) in bytes.iter().enumerate() {
        sum += u32::from(*byte) << if index % 2 == 0 { 8 } else { 0 };
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum over an IPv6 packet's message and its pseudo-header (RFC 8200, section 8.1).
pub(crate) fn icmpv6_sum(packet: &[u8]) -> u16 {
    let bytes = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let message = &packet[40..40 + bytes];
    let pseudo = [
        &packet[8..40],
        &(bytes as u32).to_be_bytes(),
        &[0, 0, 0, 58],
    ]
    .concat();
    internet_sum(&[&pseudo, message].concat())
}
