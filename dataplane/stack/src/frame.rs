//! A received frame, from the Ethernet header to the TCP header.
//!
//! Only what the demultiplexer needs is read, in place. What passes here is a well-formed, unfragmented TCP segment over
//! IPv4 or IPv6; checksums are a separate step, because a frame that goes to another worker is verified there.

use crate::arrival::Arrival;
use crate::checksum;
use crate::flow_table::FlowKey;
use crate::limits::MTU_BYTES_MAX;
use smoltcp::wire::{IpAddress, TcpOption, TcpPacket};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ETHERNET_HEADER_BYTES: usize = 14;
const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
const TCP_HEADER_BYTES: usize = 20;
const PROTOCOL_TCP: u8 = 6;
/// "More fragments" and the fragment offset: any of them set makes the packet a fragment.
const FRAGMENT_BITS: u16 = 0x3fff;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;

/// Why a frame is dropped before any flow is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Shorter than its headers say.
    Runt,
    /// Not TCP over IPv4 or IPv6, or a fragment, or behind IPv6 extension headers.
    NotTcp,
    /// Flags, ports or a source address that no segment can have.
    Malformed,
    /// Sent to a group of stations.
    NotOurs,
    /// Sent to another station.
    OtherStation,
}

/// A TCP segment inside a frame.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// The Ethernet header.
    pub(crate) ethernet: &'a [u8; ETHERNET_HEADER_BYTES],
    /// The IP packet without the padding behind it.
    pub(crate) packet: &'a [u8],
    /// The addresses and ports.
    pub(crate) key: FlowKey,
    /// Offset of the TCP header in `packet`.
    pub(crate) tcp_at: usize,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) payload_bytes: u32,
}

impl Segment<'_> {
    /// The packet as if it began at another sequence number, and its length: for a mutant.
    #[cold]
    pub(crate) fn again_at(&self, sequence: u32) -> ([u8; MTU_BYTES_MAX], usize) {
        let mut packet = [0; MTU_BYTES_MAX];
        let bytes = self.packet.len().min(MTU_BYTES_MAX);
        packet[..bytes].copy_from_slice(&self.packet[..bytes]);
        packet[self.tcp_at + 4..self.tcp_at + 8].copy_from_slice(&sequence.to_be_bytes());
        (packet, bytes)
    }
}

impl<'a> Segment<'a> {
    /// Reads the headers of `frame`, which arrived where we are `mac`.
    #[inline]
    pub(crate) fn parse(frame: &'a [u8], mac: [u8; 6]) -> Result<Self, Fault> {
        let (ethernet, packet) = frame.split_first_chunk().ok_or(Fault::Runt)?;
        if ethernet[..6] != mac {
            return Err(misdirected(ethernet));
        }
        match [ethernet[12], ethernet[13]] {
            [0x08, 0x00] => Self::parse_ipv4(ethernet, packet),
            [0x86, 0xdd] => Self::parse_ipv6(ethernet, packet),
            _ => Err(Fault::NotTcp),
        }
    }

    #[inline]
    fn parse_ipv4(
        ethernet: &'a [u8; ETHERNET_HEADER_BYTES],
        packet: &'a [u8],
    ) -> Result<Self, Fault> {
        let header: &[u8; IPV4_HEADER_BYTES] = packet.first_chunk().ok_or(Fault::Runt)?;
        let fragment = be16(header, 6) & FRAGMENT_BITS != 0;
        if header[0] >> 4 != 4 || header[9] != PROTOCOL_TCP || fragment {
            return Err(Fault::NotTcp);
        }
        let tcp_at = usize::from(header[0] & 0x0f) * 4;
        let total = usize::from(be16(header, 2));
        if tcp_at < IPV4_HEADER_BYTES {
            return Err(Fault::Runt);
        }
        let source = be32(header, 12);
        let address = Ipv4Addr::from_bits(source);
        if address.is_multicast() || address.is_broadcast() || address.is_unspecified() {
            return Err(Fault::Malformed);
        }
        let packet = packet.get(..total).ok_or(Fault::Runt)?;
        Self::parse_tcp(ethernet, packet, tcp_at, |ports| {
            FlowKey::from_ipv4(source, be32(header, 16), ports)
        })
    }

    #[inline]
    fn parse_ipv6(
        ethernet: &'a [u8; ETHERNET_HEADER_BYTES],
        packet: &'a [u8],
    ) -> Result<Self, Fault> {
        let header: &[u8; IPV6_HEADER_BYTES] = packet.first_chunk().ok_or(Fault::Runt)?;
        if header[0] >> 4 != 6 || header[6] != PROTOCOL_TCP {
            return Err(Fault::NotTcp);
        }
        let total = IPV6_HEADER_BYTES + usize::from(be16(header, 4));
        let source = be128(header, 8);
        let address = Ipv6Addr::from_bits(source);
        if address.is_multicast() || address.is_unspecified() {
            return Err(Fault::Malformed);
        }
        let packet = packet.get(..total).ok_or(Fault::Runt)?;
        let key = |ports| FlowKey::from_ipv6(source, be128(header, 24), ports);
        Self::parse_tcp(ethernet, packet, IPV6_HEADER_BYTES, key)
    }

    #[inline]
    fn parse_tcp(
        ethernet: &'a [u8; ETHERNET_HEADER_BYTES],
        packet: &'a [u8],
        tcp_at: usize,
        key: impl FnOnce(u32) -> FlowKey,
    ) -> Result<Self, Fault> {
        let segment = packet.get(tcp_at..).ok_or(Fault::Runt)?;
        let header: &[u8; TCP_HEADER_BYTES] = segment.first_chunk().ok_or(Fault::Runt)?;
        let header_bytes = usize::from(header[12] >> 4) * 4;
        if header_bytes < TCP_HEADER_BYTES || header_bytes > segment.len() {
            return Err(Fault::Runt);
        }
        let flags = header[13];
        let ports = be32(header, 0);
        let control = flags & (SYN | FIN | RST);
        if control & control.wrapping_sub(1) != 0 || ports >> 16 == 0 || ports as u16 == 0 {
            return Err(Fault::Malformed);
        }
        Ok(Self {
            ethernet,
            packet,
            key: key(ports),
            tcp_at,
            sequence: be32(header, 4),
            acknowledgement: be32(header, 8),
            flags,
            window: be16(header, 14),
            payload_bytes: (segment.len() - header_bytes) as u32,
        })
    }

    /// Whether the IPv4 header's and the segment's checksum are right.
    #[inline]
    pub(crate) fn checksums_hold(&self, arrival: Arrival) -> bool {
        checksum::holds(self.packet, self.tcp_at, arrival.is_verified)
    }

    /// A SYN that wants to open a connection, not one that answers ours.
    #[inline]
    pub(crate) fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// Neither opens nor ends anything and carries no bytes.
    #[inline]
    pub(crate) fn only_acknowledges(&self) -> bool {
        self.payload_bytes == 0 && self.flags & (SYN | FIN | RST) == 0
    }

    /// Any SYN: one that opens, or the answer to ours.
    pub(crate) fn opens_or_answers(&self) -> bool {
        self.flags & SYN != 0
    }

    /// The sequence number behind the payload.
    #[inline]
    pub(crate) fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.payload_bytes)
    }

    /// The Ethernet header of an answer.
    pub(crate) fn answer_header(&self) -> [u8; ETHERNET_HEADER_BYTES] {
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *self.ethernet;
        [s0, s1, s2, s3, s4, s5, d0, d1, d2, d3, d4, d5, t0, t1]
    }

    /// The timestamp, where everybody puts it: after two bytes of padding, or first (RFC 7323, appendix A).
    #[inline]
    pub(crate) fn timestamp(&self) -> Option<u32> {
        match self.packet.get(self.tcp_at + TCP_HEADER_BYTES..)? {
            [1, 1, 8, 10, a, b, c, d, ..] | [8, 10, a, b, c, d, ..] if self.has_options_of(12) => {
                Some(u32::from_be_bytes([*a, *b, *c, *d]))
            }
            _ => None,
        }
    }

    #[inline]
    fn has_options_of(&self, bytes: usize) -> bool {
        self.packet[self.tcp_at + 12] >> 4 >= ((TCP_HEADER_BYTES + bytes) / 4) as u8
    }

    /// Whether the peer offers window scaling, which a SYN says.
    pub(crate) fn scales_window(&self) -> bool {
        let mut options = TcpPacket::new_unchecked(&self.packet[self.tcp_at..]).options();
        while let Ok((rest, option)) = TcpOption::parse(options) {
            match option {
                TcpOption::WindowScale(_) => return true,
                TcpOption::EndOfList => return false,
                _ => options = rest,
            }
        }
        false
    }
}

/// What is wrong with a frame that was not sent to us alone.
///
/// A switch floods frames for stations that it does not know, and a promiscuous device gives us all of them. The addresses in
/// one may still be ours, where another appliance has them at present: a RST would end its clients' connections.
#[cold]
fn misdirected(ethernet: &[u8; ETHERNET_HEADER_BYTES]) -> Fault {
    // RFC 1122, section 4.2.3.10: "A TCP implementation MUST silently discard an incoming SYN segment that is addressed
    // to a broadcast or multicast address." Nothing else of ours is sent to a group either.
    if ethernet[0] & 1 != 0 {
        Fault::NotOurs
    } else {
        Fault::OtherStation
    }
}

/// Our address type as smoltcp's.
#[inline]
pub(crate) fn wire_address(address: IpAddr) -> IpAddress {
    match address {
        IpAddr::V4(address) => IpAddress::Ipv4(address),
        IpAddr::V6(address) => IpAddress::Ipv6(address),
    }
}

#[inline]
pub(crate) fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(crate) fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be128(bytes: &[u8; IPV6_HEADER_BYTES], at: usize) -> u128 {
    (0..4).fold(0, |bits, word| {
        bits << 32 | u128::from(be32(bytes, at + 4 * word))
    })
}
