//! Which frames a capture wants, and how much of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tidegate_port::ETHERNET_HEADER_BYTES;

/// The addresses whose frames are wanted: those that a pool listens on, and those of its servers.
#[derive(Debug)]
pub struct Filter {
    /// In order, to be searched.
    addresses: Vec<SocketAddr>,
}

/// What the headers of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    source: SocketAddr,
    destination: SocketAddr,
    /// Ethernet, IP and TCP with their options.
    pub bytes: usize,
}

impl Filter {
    /// Wants the frames from and to these addresses.
    pub fn new(mut addresses: Vec<SocketAddr>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Self { addresses }
    }

    /// The headers of a frame that is wanted.
    pub fn wants(&self, frame: &[u8]) -> Option<Headers> {
        let headers = headers(frame)?;
        let ours = |address| self.addresses.binary_search(address).is_ok();
        (ours(&headers.destination) || ours(&headers.source)).then_some(headers)
    }
}

/// Reads the headers of a TCP segment; `None`: it is none, or cut off.
fn headers(frame: &[u8]) -> Option<Headers> {
    let packet = frame.get(ETHERNET_HEADER_BYTES..)?;
    let (source, destination, tcp_at) =
        match frame.get(12..ETHERNET_HEADER_BYTES)? {
            [0x08, 0x00] => {
                let header = packet.first_chunk::<20>()?;
                let tcp_at = usize::from(header[0] & 0x0f) * 4;
                let ip = |at: usize| {
                    IpAddr::V4(Ipv4Addr::new(
                        header[at],
                        header[at + 1],
                        header[at + 2],
                        header[at + 3],
                    ))
                };
                // A later fragment has no TCP header.
                let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
                (header[0] >> 4 == 4 && header[9] == 6 && tcp_at >= 20 && !is_fragment)
                    .then_some((ip(12), ip(16), tcp_at))?
            }
            [0x86, 0xdd] => {
                let header = packet.first_chunk::<40>()?;
                let ip = |at: usize| -> Option<IpAddr> {
                    let bytes: [u8; 16] = *header.get(at..)?.first_chunk()?;
                    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
                };
                (header[0] >> 4 == 6 && header[6] == 6).then_some((ip(8)?, ip(24)?, 40))?
            }
            _ => return None,
        };
    let tcp = packet.get(tcp_at..)?.first_chunk::<20>()?;
    let options_end = usize::from(tcp[12] >> 4) * 4;
    Some(Headers {
        source: SocketAddr::new(source, u16::from_be_bytes([tcp[0], tcp[1]])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([tcp[2], tcp[3]])),
        bytes: (ETHERNET_HEADER_BYTES + tcp_at + options_end.max(20)).min(frame.len()),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame with a payload, and TCP options of 12 bytes.
    pub fn frame(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
        let (source, destination): (SocketAddr, SocketAddr) =
            (source.parse().unwrap(), destination.parse().unwrap());
        let mut frame = vec![2; 12];
        let tcp_bytes = 32 + payload.len();
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend((20 + tcp_bytes as u16).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((tcp_bytes as u16).to_be_bytes());
                frame.extend([6, 64]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            _ => panic!("one family"),
        }
        frame.extend(source.port().to_be_bytes());
        frame.extend(destination.port().to_be_bytes());
        frame.extend([0; 8]);
        frame.extend([0x80, 0x18, 1, 0, 0, 0, 0, 0]);
        frame.extend([1; 12]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_from_and_to_the_addresses_are_wanted_and_no_others() {
        let filter = Filter::new(vec![
            "10.0.0.1:11211".parse().unwrap(),
            "[2001:db8::1]:11211".parse().unwrap(),
        ]);
        for (source, destination, wanted) in [
            ("10.0.0.9:4711", "10.0.0.1:11211", true),
            ("10.0.0.1:11211", "10.0.0.9:4711", true),
            ("10.0.0.9:4711", "10.0.0.1:11212", false),
            ("10.0.0.9:11211", "10.0.0.2:1", false),
            ("[2001:db8::9]:1", "[2001:db8::1]:11211", true),
            ("[2001:db8::9]:1", "[2001:db8::2]:11211", false),
        ] {
            let frame = frame(source, destination, b"secret");
            let headers = filter.wants(&frame);
            assert_eq!(headers.is_some(), wanted, "{source} to {destination}");
            if let Some(headers) = headers {
                assert_eq!(headers.bytes, frame.len() - b"secret".len());
            }
        }
    }

    #[test]
    fn what_is_no_tcp_is_not_wanted() {
        let filter = Filter::new(vec!["10.0.0.1:11211".parse().unwrap()]);
        let sound = frame("10.0.0.9:4711", "10.0.0.1:11211", b"");
        assert!(filter.wants(&sound).is_some());
        for (at, value) in [(12, 0x81), (14, 0x65), (14, 0x44), (21, 1), (23, 17)] {
            let mut other = sound.clone();
            other[at] = value;
            assert_eq!(filter.wants(&other), None, "byte {at} = {value}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_panics(bytes in prop::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
            let mut frame = bytes;
            if let Some(kind) = frame.get_mut(12..15) {
                kind.copy_from_slice(if v6 { &[0x86, 0xdd, 0x60] } else { &[8, 0, 0x45] });
            }
            if let Some(headers) = headers(&frame) {
                prop_assert!(headers.bytes <= frame.len());
            }
        }
    }
}
