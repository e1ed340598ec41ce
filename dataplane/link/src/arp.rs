//! ARP for IPv4 over Ethernet (RFC 826).

use crate::Mac;
use crate::counters::Outcome;
use crate::ethernet::{BROADCAST, is_station};
use std::net::Ipv4Addr;

/// Bytes of such a packet.
pub(crate) const PACKET_BYTES: usize = 28;

/// Hardware Ethernet, protocol IPv4, and the lengths of their addresses.
const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Request,
    Reply,
}

/// A request or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    pub(crate) operation: Operation,
    pub(crate) sender_mac: Mac,
    /// Unspecified in a probe: "is anybody using the target?" (RFC 5227, section 1.1).
    pub(crate) sender: Ipv4Addr,
    pub(crate) target_mac: Mac,
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    /// Asks who has `target`.
    pub(crate) fn request(sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Request,
            sender_mac,
            sender,
            target_mac: [0; 6],
            target,
        }
    }

    /// Asks whether somebody else has our `address`. RFC 5227, section 1.1: "the term 'ARP Probe' is used to refer to an ARP
    /// Request packet, broadcast on the local link, with an all-zero 'sender IP address'."
    pub(crate) fn probe(mac: Mac, address: Ipv4Addr) -> Self {
        Self::request(mac, Ipv4Addr::UNSPECIFIED, address)
    }

    /// RFC 5227, section 3: "An ARP Announcement is identical to the ARP Probe described above, except that now the sender and
    /// target IP addresses are both set to the host's newly selected IPv4 address."
    pub(crate) fn announcement(mac: Mac, address: Ipv4Addr) -> Self {
        Self::request(mac, address, address)
    }

    /// What the station with `mac` answers to this request.
    pub(crate) fn reply(&self, mac: Mac) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// Reads a packet; what follows it is padding.
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, Outcome> {
        let packet: &[u8; PACKET_BYTES] = packet.first_chunk().ok_or(Outcome::Malformed)?;
        if packet[..6] != ETHERNET_AND_IPV4 {
            return Err(Outcome::Malformed);
        }
        let operation = match packet[6..8] {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return Err(Outcome::Ignored),
        };
        let arp = Self {
            operation,
            sender_mac: mac(packet, 8),
            sender: address(packet, 14),
            target_mac: mac(packet, 18),
            target: address(packet, 24),
        };
        let sender = arp.sender;
        let nobody = sender.is_multicast() || sender.is_broadcast() || sender.is_loopback();
        if nobody || !is_station(arp.sender_mac) {
            return Err(Outcome::Malformed);
        }
        Ok(arp)
    }

    /// Writes it into `packet`, of [`PACKET_BYTES`].
    pub(crate) fn write(&self, packet: &mut [u8]) {
        let operation = match self.operation {
            Operation::Request => [0, 1],
            Operation::Reply => [0, 2],
        };
        packet[..6].copy_from_slice(&ETHERNET_AND_IPV4);
        packet[6..8].copy_from_slice(&operation);
        packet[8..14].copy_from_slice(&self.sender_mac);
        packet[14..18].copy_from_slice(&self.sender.octets());
        packet[18..24].copy_from_slice(&self.target_mac);
        packet[24..28].copy_from_slice(&self.target.octets());
    }

    /// Where it is sent: to whom it answers, or to all.
    pub(crate) fn destination(&self) -> Mac {
        match self.operation {
            Operation::Request => BROADCAST,
            Operation::Reply => self.target_mac,
        }
    }
}

fn mac(packet: &[u8; PACKET_BYTES], at: usize) -> Mac {
    std::array::from_fn(|index| packet[at + index])
}

fn address(packet: &[u8; PACKET_BYTES], at: usize) -> Ipv4Addr {
    let octets: [u8; 4] = std::array::from_fn(|index| packet[at + index]);
    Ipv4Addr::from(octets)
}

#[cfg(test)]
#[path = "arp_tests.rs"]
mod tests;
