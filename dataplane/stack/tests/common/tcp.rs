//! TCP frames by hand.

use super::MACS;
use std::net::{IpAddr, SocketAddr};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// The fields of a TCP frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Tcp {
    pub fn new(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        Self {
            source,
            destination,
            sequence: 0,
            acknowledgement: 0,
            flags,
            window: 65_535,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    pub fn read(frame: &[u8]) -> Self {
        let be16 = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
        let (ips, tcp, total): ([IpAddr; 2], usize, usize) = if frame[12] == 8 {
            let ip =
                |at: usize| IpAddr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
            ([ip(26), ip(30)], 34, 14 + usize::from(be16(16)))
        } else {
            let ip = |at: usize| {
                IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("16 bytes"))
            };
            ([ip(22), ip(38)], 54, 54 + usize::from(be16(18)))
        };
        let data = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        Self {
            source: SocketAddr::new(ips[0], be16(tcp)),
            destination: SocketAddr::new(ips[1], be16(tcp + 2)),
            sequence: be32(tcp + 4),
            acknowledgement: be32(tcp + 8),
            flags: frame[tcp + 13],
            window: be16(tcp + 14),
            options: frame[tcp + 20..data].to_vec(),
            payload: frame[data..total].to_vec(),
        }
    }

    /// The frame with right checksums, from host `from` to the other.
    pub fn frame(&self, from: usize) -> Vec<u8> {
        let tcp_bytes = 20 + self.options.len() + self.payload.len();
        let mut frame = Vec::new();
        frame.extend(MACS[1 - from]);
        frame.extend(MACS[from]);
        let mut pseudo = Vec::new();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, 0]);
                frame.extend(((20 + tcp_bytes) as u16).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                let sum = checksum(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                pseudo.extend(source.octets());
                pseudo.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((tcp_bytes as u16).to_be_bytes());
                frame.extend([6, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                pseudo.extend(source.octets());
                pseudo.extend(destination.octets());
            }
            _ => panic!("one family"),
        }
        let tcp = frame.len();
        frame.extend(self.source.port().to_be_bytes());
        frame.extend(self.destination.port().to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledgement.to_be_bytes());
        frame.extend([(((20 + self.options.len()) / 4) << 4) as u8, self.flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(&self.options);
        frame.extend(&self.payload);
        pseudo.extend([0, 6]);
        pseudo.extend((tcp_bytes as u16).to_be_bytes());
        pseudo.extend(&frame[tcp..]);
        let sum = checksum(&pseudo);
        frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// What the client's `port` knocks with.
pub fn syn(port: u16, sequence: u32) -> Tcp {
    Tcp {
        sequence,
        ..Tcp::new(
            super::address(false, super::CLIENT, port),
            super::listening(false),
            SYN,
        )
    }
}
