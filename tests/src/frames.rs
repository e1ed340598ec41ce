//! Frames made by hand, and a way to put them on the client's wire past its kernel's TCP.

use crate::netns::Namespace;
use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, bind, send, socket,
};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Flags of a TCP header.
pub mod flag {
    /// The sender has finished.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Aborts a connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

/// An interface to write frames to.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// Address of the interface.
    pub own_mac: [u8; 6],
}

impl Wire {
    /// Opens `device` of the calling thread's namespace for writing.
    pub fn open(device: &str) -> Result<Self> {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let link = nix::ifaddrs::getifaddrs()?
            .filter(|interface| interface.interface_name == device)
            .find_map(|interface| interface.address?.as_link_addr().copied())
            .with_context(|| format!("there is no interface {device}"))?;
        debug_assert_eq!(link.family(), Some(AddressFamily::Packet));
        bind(socket.as_raw_fd(), &link)?;
        let own_mac = link
            .addr()
            .with_context(|| format!("{device} has no address"))?;
        Ok(Self { socket, own_mac })
    }

    /// Sends one frame. The kernel refuses frames shorter than an Ethernet header or longer than the interface carries.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                // The device's queue is full: the next attempt waits its turn.
                Err(nix::Error::ENOBUFS) => std::thread::yield_now(),
                Err(error) => return Err(error).context("cannot send a frame"),
            }
        }
    }
}

/// Address of an interface on `host`.
pub fn mac_of(host: &Namespace, device: &str) -> Result<[u8; 6]> {
    let text = host.shell(&format!("cat /sys/class/net/{device}/address"))?;
    let bytes: Vec<u8> = text
        .trim()
        .split(':')
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .collect();
    bytes
        .try_into()
        .ok()
        .with_context(|| format!("{text:?} is no MAC address"))
}

/// A TCP segment over IPv4 in an Ethernet frame, with everything as it should be.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Source and destination of the frame.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source address and port.
    pub source: (Ipv4Addr, u16),
    /// Destination address and port.
    pub destination: (Ipv4Addr, u16),
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// See [`flag`].
    pub flags: u8,
    /// What follows the header.
    pub payload: Vec<u8>,
}

/// Where the headers of a frame begin.
pub const IP_AT: usize = 14;
/// Where the TCP header of a frame over IPv4 without options begins.
pub const TCP_AT: usize = 34;

impl Segment {
    /// The frame.
    pub fn to_frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(TCP_AT + 20 + self.payload.len());
        frame.extend(self.macs.1);
        frame.extend(self.macs.0);
        frame.extend([0x08, 0x00]);
        let ip_bytes = (40 + self.payload.len()) as u16;
        frame.extend([0x45, 0]);
        frame.extend(ip_bytes.to_be_bytes());
        // No identification, not to be fragmented, 64 hops, TCP, checksum to follow.
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.source.0.octets());
        frame.extend(self.destination.0.octets());
        frame.extend(self.source.1.to_be_bytes());
        frame.extend(self.destination.1.to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledgement.to_be_bytes());
        // Five words of header, a window of 64,240 bytes, checksum to follow, no urgent pointer.
        frame.extend([0x50, self.flags, 0xfa, 0xf0, 0, 0, 0, 0]);
        frame.extend(&self.payload);
        fix_checksums(&mut frame);
        frame
    }
}

/// Computes both checksums of a TCP segment over IPv4 without options anew, after it was changed.
pub fn fix_checksums(frame: &mut [u8]) {
    frame[IP_AT + 10..IP_AT + 12].fill(0);
    let header = sum(&frame[IP_AT..TCP_AT], 0);
    frame[IP_AT + 10..IP_AT + 12].copy_from_slice(&folded(header));
    frame[TCP_AT + 16..TCP_AT + 18].fill(0);
    // The pseudo header: both addresses, the protocol, the length of the segment.
    let pseudo = sum(
        &frame[IP_AT + 12..IP_AT + 20],
        6 + (frame.len() - TCP_AT) as u32,
    );
    let segment = sum(&frame[TCP_AT..], pseudo);
    frame[TCP_AT + 16..TCP_AT + 18].copy_from_slice(&folded(segment));
}

/// RFC 1071: "Adjacent octets to be checksummed are paired to form 16-bit integers, and the 1's complement sum of these 16-bit
/// integers is formed."
fn sum(bytes: &[u8], start: u32) -> u32 {
    bytes.chunks(2).fold(start, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    })
}

fn folded(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
