//! Named frames for the steering program. Checksums are left out: the program does not look at them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

pub(crate) const CLIENT4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 40_000);
pub(crate) const CLIENT6: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7), 40_000, 0, 0);

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

pub(crate) fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A SYN, or for another protocol just the ports.
pub(crate) fn segment(source: u16, destination: u16) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.to_be_bytes());
    segment.extend(destination.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

pub(crate) fn ipv4_packet(
    first_byte: u8,
    fragment: u16,
    protocol: u8,
    destination: Ipv4Addr,
    payload: &[u8],
) -> Vec<u8> {
    let header_bytes = usize::from(first_byte & 15).max(5) * 4;
    let mut packet = vec![first_byte, 0];
    packet.extend(((header_bytes + payload.len()) as u16).to_be_bytes());
    packet.extend([0x12, 0x34]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(CLIENT4.ip().octets());
    packet.extend(destination.octets());
    packet.resize(header_bytes, 1);
    packet.extend(payload);
    packet
}

pub(crate) fn ipv6_packet(next_header: u8, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(CLIENT6.ip().octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

pub(crate) fn tcp4(destination: SocketAddrV4) -> Vec<u8> {
    let segment = segment(CLIENT4.port(), destination.port());
    ethernet(
        0x0800,
        &ipv4_packet(0x45, 0x4000, TCP, *destination.ip(), &segment),
    )
}

pub(crate) fn tcp6(destination: SocketAddrV6) -> Vec<u8> {
    let segment = segment(CLIENT6.port(), destination.port());
    ethernet(0x86dd, &ipv6_packet(TCP, *destination.ip(), &segment))
}

/// IPv4 that differs from [`tcp4`] in the first byte, the fragment field or the protocol.
pub(crate) fn odd4(
    first_byte: u8,
    fragment: u16,
    protocol: u8,
    destination: SocketAddrV4,
) -> Vec<u8> {
    let segment = segment(CLIENT4.port(), destination.port());
    ethernet(
        0x0800,
        &ipv4_packet(first_byte, fragment, protocol, *destination.ip(), &segment),
    )
}

/// IPv6 with one extension header before TCP.
pub(crate) fn extended6(extension: u8, destination: SocketAddrV6) -> Vec<u8> {
    let mut payload = vec![TCP, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(segment(CLIENT6.port(), destination.port()));
    ethernet(0x86dd, &ipv6_packet(extension, *destination.ip(), &payload))
}

/// The frame with a tag of VLAN 5.
pub(crate) fn tagged(tag: u16, frame: &[u8]) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(tag.to_be_bytes());
    tagged.extend([0, 5]);
    tagged.extend(&frame[12..]);
    tagged
}

/// "Who has this address?"
pub(crate) fn arp(target: Ipv4Addr) -> Vec<u8> {
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2];
    request.extend(CLIENT4.ip().octets());
    request.extend([0; 6]);
    request.extend(target.octets());
    ethernet(0x0806, &request)
}

pub(crate) fn ping4(destination: Ipv4Addr) -> Vec<u8> {
    ethernet(
        0x0800,
        &ipv4_packet(0x45, 0, ICMP, destination, &[8, 0, 0, 0, 0, 1, 0, 1]),
    )
}

/// Neighbour solicitation and echo request, by type.
pub(crate) fn icmp6(kind: u8, destination: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(destination.octets());
    ethernet(0x86dd, &ipv6_packet(ICMPV6, destination, &message))
}

/// The answer to a frame made by [`tcp4`]: everything swapped.
pub(crate) fn answer4(frame: &[u8], answer: &mut [u8]) {
    answer.copy_from_slice(frame);
    for (first, second, bytes) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        answer[first..first + bytes].copy_from_slice(&frame[second..second + bytes]);
        answer[second..second + bytes].copy_from_slice(&frame[first..first + bytes]);
    }
}
