//! The Internet checksum, over words that the compiler can add several at a time.
//!
//! smoltcp can compute it too, two bytes at a time, which would be a sixth of all instructions for small requests and a
//! third for large values. The sum is taken in the machine's byte order: RFC 1071, section 2: "the sum of 16-bit integers can
//! be computed in either byte order".

use crate::frame::ETHERNET_HEADER_BYTES;
use tidegate_port::TxQueue;

/// Offset of the checksum in an IPv4 header.
const IPV4_CHECKSUM_AT: usize = 10;
/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM_AT: usize = 16;
/// Bytes of an IPv4 header without options.
const IPV4_PLAIN_BYTES: usize = 20;
const PROTOCOL_TCP: u16 = 6;

/// Whether the IPv4 header's, if it is one, and the TCP segment's checksum are right. `packet` is an IP packet whose TCP
/// header begins at `tcp_at`. The segment's is not looked at if the device vouches for it.
#[inline]
pub(crate) fn holds(packet: &[u8], tcp_at: usize, is_verified: bool) -> bool {
    let header_holds = packet[0] >> 4 != 4 || fold(header_sum(packet, tcp_at)) == u16::MAX;
    header_holds && (is_verified || fold(segment_sum(packet, tcp_at)) == u16::MAX)
}

/// Queues a frame with an IP packet whose checksum fields are zero. `write` returns the offset of the packet's TCP header, and
/// something for the caller. The TCP checksum is the device's business where it computes any.
#[inline]
pub(crate) fn push_sealed<T: TxQueue, R>(
    tx: &mut T,
    bytes: usize,
    write: impl FnOnce(&mut [u8; ETHERNET_HEADER_BYTES], &mut [u8]) -> (usize, R),
) -> R {
    let by_device = tx.completes_checksums();
    let (tcp_at, result) = tx.push(ETHERNET_HEADER_BYTES + bytes, |frame| {
        let Some((link, packet)) = frame.split_first_chunk_mut() else {
            unreachable!("a frame is longer than its header")
        };
        let (tcp_at, result) = write(link, packet);
        seal(packet, tcp_at, by_device);
        (tcp_at, result)
    });
    if by_device {
        tx.complete_checksum(tcp_at);
    }
    result
}

/// Writes both checksums into a packet whose checksum fields are zero; of the segment's only what a device begins with, if it does the
/// rest: the sum of the pseudo-header.
#[allow(
    clippy::inline_always,
    reason = "with a second kind of port it would be called: twenty instructions a frame"
)]
#[inline(always)]
pub(crate) fn seal(packet: &mut [u8], tcp_at: usize, by_device: bool) {
    if packet[0] >> 4 == 4 {
        let header = !fold(header_sum(packet, tcp_at));
        packet[IPV4_CHECKSUM_AT..IPV4_CHECKSUM_AT + 2].copy_from_slice(&header.to_ne_bytes());
    }
    let segment = if by_device {
        fold(pseudo_header_sum(packet, tcp_at))
    } else {
        !fold(segment_sum(packet, tcp_at))
    };
    let at = tcp_at + TCP_CHECKSUM_AT;
    packet[at..at + 2].copy_from_slice(&segment.to_ne_bytes());
}

/// The sum over pseudo-header and segment.
#[inline]
fn segment_sum(packet: &[u8], tcp_at: usize) -> u64 {
    add(pseudo_header_sum(packet, tcp_at), sum(&packet[tcp_at..]))
}

/// RFC 9293, section 3.1: the pseudo-header is the two addresses, the protocol and the segment's length.
#[inline]
fn pseudo_header_sum(packet: &[u8], tcp_at: usize) -> u64 {
    let addresses = if packet[0] >> 4 == 4 {
        word(packet, 12)
    } else {
        sum(&packet[8..40])
    };
    let length = (packet.len() - tcp_at) as u16;
    let rest = u64::from(PROTOCOL_TCP.to_be()) + u64::from(length.to_be());
    add(addresses, rest)
}

/// The sum over an IPv4 header.
#[inline]
fn header_sum(packet: &[u8], tcp_at: usize) -> u64 {
    if tcp_at != IPV4_PLAIN_BYTES {
        return sum(&packet[..tcp_at]);
    }
    // Without options, three loads: the two that overlap are kept apart by a mask.
    let first = add(word(packet, 0), word(packet, 8));
    add(
        first,
        word(packet, 12) & u64::from_ne_bytes([0, 0, 0, 0, 255, 255, 255, 255]),
    )
}

/// The eight bytes at `at`, which every packet of ours has.
#[inline]
fn word(packet: &[u8], at: usize) -> u64 {
    packet[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// The sum of all 16-bit words, as a number that [`fold`] reduces. Eight bytes are added at a time, with the carry added
/// back in; a last odd byte counts as if a zero followed.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    let mut total = 0;
    let (blocks, rest) = bytes.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for word in words {
            total = add(total, u64::from_ne_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        total = add(total, u64::from_ne_bytes(*word));
    }
    // Fewer than eight are left: at most a four, a two and a one.
    let mut rest = rest;
    if let Some((four, more)) = rest.split_first_chunk() {
        total = add(total, u64::from(u32::from_ne_bytes(*four)));
        rest = more;
    }
    if let Some((two, more)) = rest.split_first_chunk() {
        total = add(total, u64::from(u16::from_ne_bytes(*two)));
        rest = more;
    }
    if let [last] = *rest {
        total = add(total, u64::from(u16::from_ne_bytes([last, 0])));
    }
    total
}

/// One's complement addition.
#[inline]
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

/// A sum of 64-bit, so of 16-bit words, in 16 bits.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::{holds, seal};
    use proptest::prelude::*;
    use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket};

    fn packet(ipv6: bool, mut bytes: Vec<u8>, options_words: usize) -> (Vec<u8>, usize) {
        let tcp_at = if ipv6 { 40 } else { 20 + 4 * options_words };
        bytes.resize(bytes.len().max(tcp_at + 20), 0);
        bytes[0] = if ipv6 {
            0x60
        } else {
            0x45 + options_words as u8
        };
        let total = bytes.len() as u16;
        if ipv6 {
            bytes[4..6].copy_from_slice(&(total - 40).to_be_bytes());
            bytes[6] = 6;
        } else {
            bytes[2..4].copy_from_slice(&total.to_be_bytes());
            bytes[9] = 6;
            bytes[10..12].fill(0);
        }
        bytes[tcp_at + 12] = 0x50;
        bytes[tcp_at + 16..tcp_at + 18].fill(0);
        (bytes, tcp_at)
    }

    fn smoltcp_agrees(packet: &[u8], tcp_at: usize) -> bool {
        let tcp = TcpPacket::new_unchecked(&packet[tcp_at..]);
        if packet[0] >> 4 == 4 {
            let ip = Ipv4Packet::new_unchecked(packet);
            let ends = (
                IpAddress::Ipv4(ip.src_addr()),
                IpAddress::Ipv4(ip.dst_addr()),
            );
            ip.verify_checksum() && tcp.verify_checksum(&ends.0, &ends.1)
        } else {
            let ip = Ipv6Packet::new_unchecked(packet);
            let ends = (
                IpAddress::Ipv6(ip.src_addr()),
                IpAddress::Ipv6(ip.dst_addr()),
            );
            tcp.verify_checksum(&ends.0, &ends.1)
        }
    }

    /// What a device does: the complement of the sum of everything from the TCP header on, the begun checksum included.
    fn complete(packet: &mut [u8], tcp_at: usize) {
        let words = packet[tcp_at..].chunks(2);
        let sum = words.fold(0_u32, |sum, word| {
            let [high, low] = [word[0], word.get(1).copied().unwrap_or(0)];
            sum + u32::from(u16::from_be_bytes([high, low]))
        });
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        packet[tcp_at + 16..tcp_at + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }

    proptest! {
        #[test]
        fn agrees_with_smoltcp(ipv6: bool, bytes in proptest::collection::vec(any::<u8>(), 60..1_600), options in 0..3_usize, flip in any::<(u16, u8)>()) {
            let (mut packet, tcp_at) = packet(ipv6, bytes, options);
            let mut begun = packet.clone();
            seal(&mut begun, tcp_at, true);
            prop_assert!(holds(&begun, tcp_at, true));
            complete(&mut begun, tcp_at);
            seal(&mut packet, tcp_at, false);
            prop_assert_eq!(&begun, &packet);
            prop_assert!(holds(&packet, tcp_at, false));
            prop_assert!(smoltcp_agrees(&packet, tcp_at));
            let at = tcp_at + usize::from(flip.0) % (packet.len() - tcp_at);
            packet[at] ^= flip.1;
            prop_assert_eq!(holds(&packet, tcp_at, false), smoltcp_agrees(&packet, tcp_at));
        }
    }
}
