//! Echo requests (RFC 792, RFC 4443).

use crate::counters::Outcome;
use crate::ethernet::{self, Ends};
use crate::limits::TTL;
use crate::port::Port;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet,
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};
use std::net::{IpAddr, Ipv4Addr};
use tidegate_port::TxQueue;

/// Type, code, checksum, identifier, sequence number.
const HEADER_BYTES: usize = 8;

/// Answers the echo request in `packet`, which came to one of our addresses and was sent to `ends`.
pub(crate) fn answer_ipv4(
    port: &Port,
    ends: Ends,
    packet: &Ipv4Packet<&[u8]>,
    tx: &mut impl TxQueue,
    allows: impl FnOnce() -> bool,
) -> Outcome {
    let icmp = packet.payload();
    if usize::from(packet.total_len()) > port.mtu_bytes || icmp.len() < HEADER_BYTES {
        return Outcome::Malformed;
    }
    let request = Icmpv4Packet::new_unchecked(icmp);
    if request.msg_type() != Icmpv4Message::EchoRequest {
        return Outcome::Ignored;
    }
    // RFC 1122, section 3.2.2.6: an echo request to a group may be discarded silently. So is one that seems to come from
    // a group: its answer would go to all of it.
    let source = packet.src_addr();
    if request.msg_code() != 0 || !request.verify_checksum() || is_nobody(port, source) {
        return Outcome::Malformed;
    }
    if !allows() {
        return Outcome::Limited;
    }
    let ip = Ipv4Repr {
        src_addr: packet.dst_addr(),
        dst_addr: source,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.len(),
        hop_limit: TTL,
    };
    let bytes = IPV4_HEADER_LEN + icmp.len();
    answered(ethernet::send(
        tx,
        ends.answer(port.mac),
        ethernet::Kind::Ipv4,
        bytes,
        |answer| {
            ip.emit(
                &mut Ipv4Packet::new_unchecked(&mut *answer),
                &ChecksumCapabilities::default(),
            );
            let message = &mut answer[IPV4_HEADER_LEN..];
            message.copy_from_slice(icmp);
            let mut message = Icmpv4Packet::new_unchecked(message);
            message.set_msg_type(Icmpv4Message::EchoReply);
            message.fill_checksum();
        },
    ))
}

/// The same over IPv6.
pub(crate) fn answer_ipv6(
    port: &Port,
    ends: Ends,
    packet: &Ipv6Packet<&[u8]>,
    tx: &mut impl TxQueue,
    allows: impl FnOnce() -> bool,
) -> Outcome {
    let icmp = packet.payload();
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    let request = Icmpv6Packet::new_unchecked(icmp);
    // RFC 4443, section 2.4 (e): nothing is answered that comes from a group or nobody.
    let nobody = source.is_multicast() || source.is_unspecified() || source.is_loopback();
    if packet.total_len() > port.mtu_bytes
        || icmp.len() < HEADER_BYTES
        || nobody
        || port.owns(IpAddr::V6(source))
        || request.msg_code() != 0
        || !request.verify_checksum(&source, &destination)
    {
        return Outcome::Malformed;
    }
    if !allows() {
        return Outcome::Limited;
    }
    let ip = Ipv6Repr {
        src_addr: destination,
        dst_addr: source,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.len(),
        hop_limit: TTL,
    };
    let bytes = IPV6_HEADER_LEN + icmp.len();
    answered(ethernet::send(
        tx,
        ends.answer(port.mac),
        ethernet::Kind::Ipv6,
        bytes,
        |answer| {
            ip.emit(&mut Ipv6Packet::new_unchecked(&mut *answer));
            let message = &mut answer[IPV6_HEADER_LEN..];
            message.copy_from_slice(icmp);
            let mut message = Icmpv6Packet::new_unchecked(message);
            message.set_msg_type(Icmpv6Message::EchoReply);
            message.fill_checksum(&destination, &source);
        },
    ))
}

fn answered(sent: bool) -> Outcome {
    if sent {
        Outcome::Echoed
    } else {
        Outcome::TxFull
    }
}

/// Whether no other single host can be the sender.
fn is_nobody(port: &Port, source: Ipv4Addr) -> bool {
    let ours = |own: &crate::own::Own| own.address == source || own.broadcast == Some(source);
    source.is_multicast()
        || source.is_broadcast()
        || source.is_unspecified()
        || source.is_loopback()
        || port.own.iter().any(ours)
}

#[cfg(test)]
#[path = "echo_tests.rs"]
mod tests;
