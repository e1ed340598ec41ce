//! Neighbour solicitations and advertisements (RFC 4861).
//!
//! smoltcp reads and writes the IPv6 header and the checksum. What is in the message is read here: smoltcp has that part
//! only together with an Ethernet layer of its own.

use crate::Mac;
use crate::counters::Outcome;
use crate::ethernet::is_station;
use smoltcp::wire::{
    IPV6_HEADER_LEN, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv6Packet, Ipv6Repr,
};
use std::net::Ipv6Addr;

/// RFC 4861, section 7.1.1: "The IP Hop Limit field has a value of 255, i.e., the packet could not possibly have been
/// forwarded by a router."
const HOP_LIMIT: u8 = 255;
/// Type, code, checksum, flags, target.
const MESSAGE_BYTES: usize = 24;
/// Bytes per unit of an option's length; an option with a link address has one unit.
const OPTION_UNIT_BYTES: usize = 8;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// RFC 4291, section 2.7.1: "A Solicited-Node multicast address is formed by taking the low-order 24 bits of an address
/// [...] and appending those bits to the prefix FF02:0:0:0:0:1:FF00::/104".
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let prefix = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits();
    Ipv6Addr::from_bits(prefix | address.to_bits() & 0xff_ffff)
}

/// RFC 2464, section 7: 33:33 and the last four bytes of the group.
pub(crate) fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Solicitation,
    Advertisement { solicited: bool, overrides: bool },
}

/// A solicitation or an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ndp {
    pub(crate) kind: Kind,
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) target: Ipv6Addr,
    /// The link address of a solicitation's source or an advertisement's target.
    pub(crate) mac: Option<Mac>,
}

impl Ndp {
    /// Asks who has `target`.
    pub(crate) fn solicitation(source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr) -> Self {
        Self {
            kind: Kind::Solicitation,
            source,
            destination,
            target,
            mac: None,
        }
    }

    /// Asks whether somebody else has our `address`. RFC 4862, section 5.4.2: "The IP source is set to the unspecified address, and
    /// the IP destination is set to the solicited-node multicast address of the target address."
    pub(crate) fn probe(address: Ipv6Addr) -> Self {
        Self::solicitation(Ipv6Addr::UNSPECIFIED, solicited_node(address), address)
    }

    /// Says where our `address` is.
    pub(crate) fn advertisement(address: Ipv6Addr, destination: Ipv6Addr, solicited: bool) -> Self {
        let overrides = true;
        Self {
            kind: Kind::Advertisement {
                solicited,
                overrides,
            },
            source: address,
            destination,
            target: address,
            mac: None,
        }
    }

    /// Reads the message in `packet` and checks it as RFC 4861, sections 7.1.1 and 7.1.2, want it.
    pub(crate) fn parse(packet: &Ipv6Packet<&[u8]>) -> Result<Self, Outcome> {
        let (source, destination) = (packet.src_addr(), packet.dst_addr());
        let icmp = packet.payload();
        let (message, options) = icmp
            .split_first_chunk::<MESSAGE_BYTES>()
            .ok_or(Outcome::Malformed)?;
        let holds = Icmpv6Packet::new_unchecked(icmp).verify_checksum(&source, &destination);
        let [kind, code, _, _, flags, _, _, _, target @ ..] = *message;
        let target = Ipv6Addr::from(target);
        if packet.hop_limit() != HOP_LIMIT || !holds || code != 0 || target.is_multicast() {
            return Err(Outcome::Malformed);
        }
        let (kind, option) = match Icmpv6Message::from(kind) {
            Icmpv6Message::NeighborSolicit => (Kind::Solicitation, SOURCE_LINK_ADDRESS),
            Icmpv6Message::NeighborAdvert => {
                let kind = Kind::Advertisement {
                    solicited: flags & SOLICITED != 0,
                    overrides: flags & OVERRIDE != 0,
                };
                (kind, TARGET_LINK_ADDRESS)
            }
            _ => return Err(Outcome::Ignored),
        };
        let ndp = Self {
            kind,
            source,
            destination,
            target,
            mac: link_address(options, option)?,
        };
        if source.is_multicast() || source.is_loopback() || ndp.is_contradictory() {
            return Err(Outcome::Malformed);
        }
        Ok(ndp)
    }

    fn is_contradictory(&self) -> bool {
        match self.kind {
            // "If the IP source address is the unspecified address, the IP destination address is a solicited-node
            // multicast address" and "there is no source link-layer address option in the message".
            Kind::Solicitation => {
                self.source.is_unspecified()
                    && (self.destination != solicited_node(self.target) || self.mac.is_some())
            }
            // "If the IP Destination Address is a multicast address the Solicited flag is zero."
            Kind::Advertisement { solicited, .. } => {
                self.source.is_unspecified() || (solicited && self.destination.is_multicast())
            }
        }
    }

    /// Bytes of the option with a link address. RFC 4861, section 4.3: it "MUST NOT be included when the source IP address is the
    /// unspecified address".
    fn option_bytes(&self) -> usize {
        if self.source.is_unspecified() {
            0
        } else {
            OPTION_UNIT_BYTES
        }
    }

    /// Bytes of the IPv6 packet that [`Self::write`] writes.
    pub(crate) fn packet_bytes(&self) -> usize {
        IPV6_HEADER_LEN + MESSAGE_BYTES + self.option_bytes()
    }

    /// Writes it into `packet`, of [`Self::packet_bytes`], with `mac` in its option.
    pub(crate) fn write(&self, mac: Mac, packet: &mut [u8]) {
        let ip = Ipv6Repr {
            src_addr: self.source,
            dst_addr: self.destination,
            next_header: IpProtocol::Icmpv6,
            payload_len: MESSAGE_BYTES + self.option_bytes(),
            hop_limit: HOP_LIMIT,
        };
        ip.emit(&mut Ipv6Packet::new_unchecked(&mut *packet));
        let icmp = &mut packet[IPV6_HEADER_LEN..];
        let (kind, flags, option) = match self.kind {
            Kind::Solicitation => (Icmpv6Message::NeighborSolicit, 0, SOURCE_LINK_ADDRESS),
            Kind::Advertisement {
                solicited,
                overrides,
            } => {
                let solicited = if solicited { SOLICITED } else { 0 };
                let overrides = if overrides { OVERRIDE } else { 0 };
                let flags = solicited | overrides;
                (Icmpv6Message::NeighborAdvert, flags, TARGET_LINK_ADDRESS)
            }
        };
        icmp[..8].copy_from_slice(&[kind.into(), 0, 0, 0, flags, 0, 0, 0]);
        icmp[8..MESSAGE_BYTES].copy_from_slice(&self.target.octets());
        if let [kind, units, address @ ..] = &mut icmp[MESSAGE_BYTES..] {
            (*kind, *units) = (option, 1);
            address.copy_from_slice(&mac);
        }
        Icmpv6Packet::new_unchecked(icmp).fill_checksum(&self.source, &self.destination);
    }
}

/// The link address in the first option of kind `wanted`. RFC 4861, section 4.6: "Nodes MUST silently discard an ND packet that
/// contains an option with length zero."
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Outcome> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let bytes = usize::from(units) * OPTION_UNIT_BYTES;
        if bytes == 0 || bytes > options.len() {
            return Err(Outcome::Malformed);
        }
        let (option, rest) = options.split_at(bytes);
        if kind == wanted && found.is_none() {
            let mac = *option[2..].first_chunk().ok_or(Outcome::Malformed)?;
            if units != 1 || !is_station(mac) {
                return Err(Outcome::Malformed);
            }
            found = Some(mac);
        }
        options = rest;
    }
    if options.is_empty() {
        Ok(found)
    } else {
        Err(Outcome::Malformed)
    }
}

#[cfg(test)]
#[path = "ndp_tests.rs"]
mod tests;
