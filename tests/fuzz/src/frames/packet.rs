//! Frames by hand: made with right checksums, bent, made right again, and read.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

pub(crate) const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

pub(crate) type Mac = [u8; 6];

/// A segment, without its addresses on the link.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// By how much it moves the sequence on.
    pub(crate) fn length(&self) -> u32 {
        let of_flags = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.payload.len() as u32 + of_flags
    }

    pub(crate) fn frame(&self, to: Mac, from: Mac) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.source.port().to_be_bytes());
        body.extend(self.destination.port().to_be_bytes());
        body.extend(self.sequence.to_be_bytes());
        body.extend(self.acknowledgement.to_be_bytes());
        let words = (20 + self.options.len()) / 4;
        body.extend([(words << 4) as u8, self.flags]);
        body.extend(self.window.to_be_bytes());
        body.extend([0; 4]);
        body.extend(&self.options);
        body.extend(&self.payload);
        packet(
            to,
            from,
            self.source.ip(),
            self.destination.ip(),
            TCP,
            &body,
        )
    }

    /// The reverse, of a frame that the worker sent. `None`: it is none of TCP.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        let packet = Packet::read(frame)?;
        if packet.protocol != TCP {
            return None;
        }
        let tcp = &frame[packet.body..packet.end];
        let be16 = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
        let data = usize::from(tcp[12] >> 4) * 4;
        Some(Self {
            source: SocketAddr::new(packet.source, be16(0)),
            destination: SocketAddr::new(packet.destination, be16(2)),
            sequence: be32(4),
            acknowledgement: be32(8),
            flags: tcp[13],
            window: be16(14),
            options: tcp[20..data].to_vec(),
            payload: tcp[data..].to_vec(),
        })
    }
}

/// A packet of another protocol over the address family of `source`.
pub(crate) fn packet(
    to: Mac,
    from: Mac,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    body: &[u8],
) -> Vec<u8> {
    let mut frame = [to, from].concat();
    let length = |bytes: usize| (bytes as u16).to_be_bytes();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00, 0x45, 0]);
            frame.extend(length(IPV4_BYTES + body.len()));
            frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length(body.len()));
            // RFC 4861 lets nobody believe neighbour discovery with another hop limit.
            frame.extend([protocol, if protocol == ICMPV6 { 255 } else { 64 }]);
            frame.extend(as_ipv6(source).octets());
            frame.extend(as_ipv6(destination).octets());
        }
    }
    frame.extend(body);
    make_right(&mut frame);
    frame
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// ICMP and ICMPv6, whose numbers differ.
pub(crate) fn icmp(of: IpAddr) -> u8 {
    if of.is_ipv4() { ICMP } else { ICMPV6 }
}

/// ARP: request or answer.
pub(crate) fn arp(to: Mac, from: Mac, operation: u8, sender: IpAddr, target: IpAddr) -> Vec<u8> {
    let mut frame = [to, from].concat();
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, operation]);
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    frame.extend(from);
    frame.extend(v4(sender));
    frame.extend(if operation == 1 { [0; 6] } else { to });
    frame.extend(v4(target));
    frame
}

/// Where things lie in a frame whose lengths are sound.
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    body: usize,
    end: usize,
}

impl Packet {
    fn read(frame: &[u8]) -> Option<Self> {
        let ip = frame.get(ETHERNET_BYTES..)?;
        let be16 = |at: usize| usize::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
        let (source, destination, protocol, header, length): (IpAddr, IpAddr, _, _, _) =
            match (frame[12], frame[13]) {
                (0x08, 0x00) if ip.len() >= IPV4_BYTES => {
                    let address = |at: usize| ip[at..].first_chunk::<4>().copied();
                    (
                        address(12)?.into(),
                        address(16)?.into(),
                        ip[9],
                        usize::from(ip[0] & 15) * 4,
                        be16(2),
                    )
                }
                (0x86, 0xdd) if ip.len() >= IPV6_BYTES => {
                    let address = |at: usize| ip[at..].first_chunk::<16>().copied();
                    (
                        address(8)?.into(),
                        address(24)?.into(),
                        ip[6],
                        IPV6_BYTES,
                        IPV6_BYTES + be16(4),
                    )
                }
                _ => return None,
            };
        let least = match protocol {
            TCP => 20,
            ICMP | ICMPV6 => 4,
            _ => return None,
        };
        let sound = header >= IPV4_BYTES && length >= header + least && length <= ip.len();
        let packet = Self {
            source,
            destination,
            protocol,
            body: ETHERNET_BYTES + header,
            end: ETHERNET_BYTES + length,
        };
        let body = packet.body;
        if !sound {
            return None;
        }
        let whole = protocol != TCP || {
            let header = usize::from(frame[body + 12] >> 4) * 4;
            (20..=packet.end - body).contains(&header)
        };
        whole.then_some(packet)
    }

    /// Where the checksum of what it carries lies.
    fn checksum_at(&self) -> usize {
        self.body + if self.protocol == TCP { 16 } else { 2 }
    }

    /// The sum over everything that the checksum covers, the checksum included.
    fn sum(&self, frame: &[u8]) -> u16 {
        let body = &frame[self.body..self.end];
        let mut covered = Vec::new();
        if self.protocol != ICMP {
            match (self.source, self.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    covered.extend(source.octets());
                    covered.extend(destination.octets());
                }
                (source, destination) => {
                    covered.extend(as_ipv6(source).octets());
                    covered.extend(as_ipv6(destination).octets());
                }
            }
            covered.extend([0, self.protocol]);
            covered.extend((body.len() as u16).to_be_bytes());
        }
        covered.extend(body);
        checksum(&covered)
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2);
    let mut sum: u32 = pairs
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Gives a frame the checksums that what is in it asks for, as far as its lengths make sense.
pub(crate) fn make_right(frame: &mut [u8]) {
    if frame.len() >= ETHERNET_BYTES + IPV4_BYTES && frame[12..14] == [0x08, 0x00] {
        let end = ETHERNET_BYTES + usize::from(frame[14] & 15) * 4;
        if (ETHERNET_BYTES + IPV4_BYTES..=frame.len()).contains(&end) {
            frame[24..26].fill(0);
            let sum = checksum(&frame[ETHERNET_BYTES..end]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
    }
    if let Some(packet) = Packet::read(frame) {
        let at = packet.checksum_at();
        frame[at..at + 2].fill(0);
        let sum = packet.sum(frame);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Whether a frame that the worker sent is one that others can take.
pub(crate) fn assert_right(frame: &[u8], mtu_bytes: usize) {
    assert!(frame.len() >= ETHERNET_BYTES, "a runt: {frame:02x?}");
    assert!(frame.len() <= ETHERNET_BYTES + mtu_bytes, "too long");
    // Whoever asks at another address of ours, such as a virtual router's, is answered from there.
    assert!(frame[6] & 1 == 0, "sent by a group: {frame:02x?}");
    match [frame[12], frame[13]] {
        [0x08, 0x06] => assert!(frame.len() >= 42, "ARP has 28 bytes: {frame:02x?}"),
        [0x08, 0x00] | [0x86, 0xdd] => {
            if frame[12] == 0x08 {
                let header = usize::from(frame[14] & 15) * 4;
                let header = &frame[ETHERNET_BYTES..ETHERNET_BYTES + header];
                assert_eq!(checksum(header), 0, "the IPv4 checksum: {frame:02x?}");
            }
            let Some(packet) = Packet::read(frame) else {
                panic!("lengths that do not fit: {frame:02x?}");
            };
            assert_eq!(packet.sum(frame), 0, "the checksum: {frame:02x?}");
        }
        other => panic!("a frame of type {other:02x?}"),
    }
}
