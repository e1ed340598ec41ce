//! The Toeplitz hash of receive-side scaling.
//!
//! Source: Microsoft, "RSS hashing functions" and "Verifying the RSS hash calculation"; NICs compute it over source
//! address, destination address, source port and destination port, in network order.

use std::net::{IpAddr, SocketAddr};

/// Bytes of an IPv6 4-tuple, the longest input.
const TUPLE_BYTES_MAX: usize = 36;

/// Shortest key that covers the longest input: each input bit takes a window of 32 key bits.
pub(crate) const KEY_BYTES_MIN: usize = TUPLE_BYTES_MAX + 4;

/// The hash of a frame from `source` to `destination`. `key` has at least [`KEY_BYTES_MIN`] bytes.
pub(crate) fn toeplitz(key: &[u8], source: SocketAddr, destination: SocketAddr) -> u32 {
    let mut tuple = [0; TUPLE_BYTES_MAX];
    let mut bytes = 0;
    let mut put = |part: &[u8]| {
        tuple[bytes..bytes + part.len()].copy_from_slice(part);
        bytes += part.len();
    };
    for address in [source.ip(), destination.ip()] {
        match address {
            IpAddr::V4(address) => put(&address.octets()),
            IpAddr::V6(address) => put(&address.octets()),
        }
    }
    put(&source.port().to_be_bytes());
    put(&destination.port().to_be_bytes());
    hash(key, &tuple[..bytes])
}

fn hash(key: &[u8], input: &[u8]) -> u32 {
    let mut result = 0;
    for (byte, five) in input.iter().zip(key.windows(5)) {
        let window = u64::from_be_bytes([0, 0, 0, five[0], five[1], five[2], five[3], five[4]]);
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                result ^= (window >> (8 - bit)) as u32;
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::toeplitz;

    /// The key of the published verification suite.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn check(destination: &str, source: &str, hash: u32) {
        let parse = |text: &str| text.parse().expect("written below");
        assert_eq!(
            toeplitz(&KEY, parse(source), parse(destination)),
            hash,
            "{source} to {destination}"
        );
    }

    #[test]
    fn agrees_with_the_published_ipv4_vectors() {
        check("161.142.100.80:1766", "66.9.149.187:2794", 0x51cc_c178);
        check("65.69.140.83:4739", "199.92.111.2:14230", 0xc626_b0ea);
        check("12.22.207.184:38024", "24.19.198.95:12898", 0x5c2b_394a);
        check("209.142.163.6:2217", "38.27.205.30:48228", 0xafc7_327f);
        check("202.188.127.2:1303", "153.39.163.191:44251", 0x10e8_28a2);
    }

    #[test]
    fn agrees_with_the_published_ipv6_vectors() {
        check(
            "[3ffe:2501:200:3::1]:1766",
            "[3ffe:2501:200:1fff::7]:2794",
            0x4020_7d3d,
        );
        check(
            "[ff02::1]:4739",
            "[3ffe:501:8::260:97ff:fe40:efab]:14230",
            0xdde5_1bbf,
        );
        check(
            "[fe80::200:f8ff:fe21:67cf]:38024",
            "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
            0x02d1_feef,
        );
    }
}
