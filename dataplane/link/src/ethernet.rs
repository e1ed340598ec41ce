//! Ethernet frames.

use crate::Mac;
use tidegate_port::{ETHERNET_HEADER_BYTES, TxQueue};

/// The shortest frame, without its checksum. Not every device pads, and what it pads with may be anybody's bytes.
const FRAME_BYTES_MIN: usize = 60;

pub(crate) const BROADCAST: Mac = [0xff; 6];

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Ipv4 = 0x0800,
    Arp = 0x0806,
    Ipv6 = 0x86dd,
}

/// Where a frame goes to and comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
}

impl Ends {
    /// Back to where it came from, from `mac`.
    pub(crate) fn answer(&self, mac: Mac) -> Self {
        Self {
            destination: self.source,
            source: mac,
        }
    }

    /// Whether it was sent to several stations.
    pub(crate) fn is_to_group(&self) -> bool {
        self.destination[0] & 1 != 0
    }
}

/// Whether a station can have this address: it is neither a group nor nobody.
pub(crate) fn is_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// Takes the header off `frame`; `None`: there is none. The kind is `None` where it is not one of ours, a VLAN tag for example.
pub(crate) fn parse(frame: &[u8]) -> Option<(Ends, Option<Kind>, &[u8])> {
    let (header, rest) = frame.split_first_chunk::<ETHERNET_HEADER_BYTES>()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
    let ends = Ends {
        destination: [d0, d1, d2, d3, d4, d5],
        source: [s0, s1, s2, s3, s4, s5],
    };
    let kind = match u16::from_be_bytes([t0, t1]) {
        0x0800 => Some(Kind::Ipv4),
        0x0806 => Some(Kind::Arp),
        0x86dd => Some(Kind::Ipv6),
        _ => None,
    };
    Some((ends, kind, rest))
}

/// Sends a frame with `bytes` behind its header, which `fill` has to write all of; `false`: there is no room for it.
pub(crate) fn send(
    tx: &mut impl TxQueue,
    ends: Ends,
    kind: Kind,
    bytes: usize,
    fill: impl FnOnce(&mut [u8]),
) -> bool {
    if tx.room() == 0 {
        return false;
    }
    let frame_bytes = (ETHERNET_HEADER_BYTES + bytes).max(FRAME_BYTES_MIN);
    tx.push(frame_bytes, |frame| {
        let (header, rest) = frame.split_at_mut(ETHERNET_HEADER_BYTES);
        header[..6].copy_from_slice(&ends.destination);
        header[6..12].copy_from_slice(&ends.source);
        header[12..].copy_from_slice(&(kind as u16).to_be_bytes());
        let (packet, padding) = rest.split_at_mut(bytes);
        fill(packet);
        padding.fill(0);
    });
    true
}
