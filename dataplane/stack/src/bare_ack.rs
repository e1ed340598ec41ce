//! An acknowledgement without data, written outside of smoltcp.

use crate::checksum;
use crate::flow::{Flow, TIMESTAMPS};
use crate::flow_table::FlowKey;
use crate::frame::{ACK, ETHERNET_HEADER_BYTES};
use tidegate_channel::counters::StackCounters;
use tidegate_port::TxQueue;

const IPV4_HEADER_BYTES: usize = 20;
const IPV6_HEADER_BYTES: usize = 40;
const TCP_HEADER_BYTES: usize = 20;
const TIMESTAMP_BYTES: usize = 12;
const HOP_LIMIT: u8 = 64;
const PROTOCOL_TCP: u8 = 6;

/// What an acknowledgement says.
pub(crate) struct BareAck {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    /// As in the header.
    pub(crate) window: u16,
    /// The timestamp that it echoes, where segments carry them.
    pub(crate) timestamp_echo: Option<u32>,
}

/// Writes an acknowledgement of all that was received, with sequence number `sequence` and nothing else. smoltcp does not learn of
/// it, so the right edge of the window stays where its own last segment put it.
pub(crate) fn write_ack(
    key: &FlowKey,
    flow: &Flow,
    link: &[u8; ETHERNET_HEADER_BYTES],
    sequence: u32,
    tx: &mut impl TxQueue,
    counters: &mut StackCounters,
) {
    // RFC 7323, section 3.2: "Once TSopt has been successfully negotiated [...] the TSopt MUST be sent in every non-<RST>
    // segment for the duration of the connection".
    let timestamped = flow.socket().timestamp_enabled();
    let track = &flow.track;
    let ack = BareAck {
        sequence,
        acknowledgement: track.received_end,
        // Only of a SYN is the window not scaled, which this is not.
        window: (track.window_left() >> track.window_shift) as u16,
        timestamp_echo: timestamped.then_some(track.timestamp_echo),
    };
    ack.push(key, link, tx, counters);
}

impl BareAck {
    /// Queues it. There is one of it: copied to both callers, what it calls would be part of neither, at 80 instructions each time.
    #[inline(never)]
    pub(crate) fn push(
        &self,
        key: &FlowKey,
        link: &[u8; ETHERNET_HEADER_BYTES],
        tx: &mut impl TxQueue,
        counters: &mut StackCounters,
    ) {
        let tcp_at = if key.is_ipv6() {
            IPV6_HEADER_BYTES
        } else {
            IPV4_HEADER_BYTES
        };
        let options = if self.timestamp_echo.is_some() {
            TIMESTAMP_BYTES
        } else {
            0
        };
        let bytes = tcp_at + TCP_HEADER_BYTES + options;
        checksum::push_sealed(tx, bytes, |header, packet| {
            *header = *link;
            let (ip, tcp) = packet.split_at_mut(tcp_at);
            write_ip(key, ip, (TCP_HEADER_BYTES + options) as u16);
            let (tcp, rest) = tcp.split_at_mut(TCP_HEADER_BYTES);
            tcp[..4].copy_from_slice(&key.ports_outward().to_be_bytes());
            tcp[4..8].copy_from_slice(&self.sequence.to_be_bytes());
            tcp[8..12].copy_from_slice(&self.acknowledgement.to_be_bytes());
            tcp[12] = (((TCP_HEADER_BYTES + options) / 4) << 4) as u8;
            tcp[13] = ACK;
            tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
            // The checksum, which is computed over itself as zero, and the urgent pointer.
            tcp[16..].fill(0);
            if let Some(echo) = self.timestamp_echo {
                // RFC 7323, appendix A: two NOPs align the option.
                rest[..4].copy_from_slice(&[1, 1, 8, 10]);
                rest[4..8].copy_from_slice(&TIMESTAMPS().to_be_bytes());
                rest[8..12].copy_from_slice(&echo.to_be_bytes());
            }
            (tcp_at, ())
        });
        counters.segments_sent += 1;
        counters.acks_alone += 1;
    }
}

#[inline]
fn write_ip(key: &FlowKey, ip: &mut [u8], payload_bytes: u16) {
    if key.is_ipv6() {
        ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        ip[4..6].copy_from_slice(&payload_bytes.to_be_bytes());
        ip[6..8].copy_from_slice(&[PROTOCOL_TCP, HOP_LIMIT]);
        ip[8..24].copy_from_slice(&key.local_bits().to_be_bytes());
        ip[24..40].copy_from_slice(&key.remote_bits().to_be_bytes());
    } else {
        let total = IPV4_HEADER_BYTES as u16 + payload_bytes;
        ip[..2].copy_from_slice(&[0x45, 0]);
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        // RFC 6864, section 4.1: the identification of an atomic datagram, one that is never fragmented, has no meaning.
        ip[4..8].copy_from_slice(&[0, 0, 0x40, 0]);
        ip[8..12].copy_from_slice(&[HOP_LIMIT, PROTOCOL_TCP, 0, 0]);
        ip[12..16].copy_from_slice(&(key.local_bits() as u32).to_be_bytes());
        ip[16..20].copy_from_slice(&(key.remote_bits() as u32).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, TCP_HEADER_BYTES, write_ip};
    use crate::checksum;
    use crate::flow_table::FlowKey;
    use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

    #[test]
    fn headers_are_what_smoltcp_reads() {
        let v4 = FlowKey::new(
            "10.0.0.1:80".parse().unwrap(),
            "10.1.0.2:9000".parse().unwrap(),
        );
        let mut packet = [0; IPV4_HEADER_BYTES + TCP_HEADER_BYTES];
        write_ip(
            &v4,
            &mut packet[..IPV4_HEADER_BYTES],
            TCP_HEADER_BYTES as u16,
        );
        checksum::seal(&mut packet, IPV4_HEADER_BYTES, false);
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert!(ip.verify_checksum() && ip.dont_frag());
        assert_eq!(ip.src_addr().octets(), [10, 0, 0, 1]);
        assert_eq!(ip.dst_addr().octets(), [10, 1, 0, 2]);
        assert_eq!(usize::from(ip.total_len()), packet.len());
        assert_eq!(v4.ports_outward(), 80 * 65_536 + 9_000);

        let v6 = FlowKey::new(
            "[fd00::1]:80".parse().unwrap(),
            "[fd00::2]:9000".parse().unwrap(),
        );
        let mut packet = [0; IPV6_HEADER_BYTES + TCP_HEADER_BYTES];
        write_ip(
            &v6,
            &mut packet[..IPV6_HEADER_BYTES],
            TCP_HEADER_BYTES as u16,
        );
        let ip = Ipv6Packet::new_checked(&packet[..]).unwrap();
        assert_eq!(
            ip.src_addr(),
            "fd00::1".parse::<std::net::Ipv6Addr>().unwrap()
        );
        assert_eq!(
            ip.dst_addr(),
            "fd00::2".parse::<std::net::Ipv6Addr>().unwrap()
        );
        assert_eq!(ip.hop_limit(), 64);
    }
}
