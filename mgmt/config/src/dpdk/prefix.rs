//! An address with the network that it is in.

use crate::address;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One of our addresses, with the network that is reached from it without a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that all addresses of the network have.
    pub bits: u8,
}

/// What is wrong with an address or a route; the text says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RouteError {
    #[error("write ADDRESS/BITS, for example 192.0.2.10/24 or 2001:db8::10/64")]
    Shape,
    #[error("{0}")]
    Address(String),
    #[error("{0:?} is not a number of bits from 0 to {1}")]
    Bits(String, u8),
    #[error("write \"default via GATEWAY\" or \"ADDRESS/BITS via GATEWAY\"")]
    Route,
    #[error("the network and its gateway are of different families")]
    Families,
    #[error("{0} is not the network's own address, write {1}")]
    HostBits(Prefix, Prefix),
    #[error(
        "{0} is the address of the network itself, write that of a host in it, for example {1}"
    )]
    Network(IpAddr, Prefix),
    #[error(
        "{0} is the broadcast address of its network, write that of a host in it, for example {1}"
    )]
    Broadcast(IpAddr, Prefix),
}

/// Why no host has an address of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHost {
    Network,
    Broadcast,
}

impl NoHost {
    /// In words that go on behind the address.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Network => "the address of a network itself",
            Self::Broadcast => "the broadcast address of its network",
        }
    }
}

impl Prefix {
    /// Whether an address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && self.network() == Self { address, ..*self }.network()
    }

    /// The network's own address.
    pub(super) fn network(self) -> Self {
        let low = self.width() - u32::from(self.bits).min(self.width());
        let address = match self.address {
            IpAddr::V4(own) => {
                let bits = own.to_bits().checked_shr(low).unwrap_or(0);
                Ipv4Addr::from_bits(bits.checked_shl(low).unwrap_or(0)).into()
            }
            IpAddr::V6(own) => {
                let bits = own.to_bits().checked_shr(low).unwrap_or(0);
                Ipv6Addr::from_bits(bits.checked_shl(low).unwrap_or(0)).into()
            }
        };
        Self { address, ..self }
    }

    /// Why no host of this network can have an address that is in it; `None`: one can.
    ///
    /// "31-bit prefixes" (RFC 3021) and their like in IPv6 (RFC 6164) have two hosts and nothing else. In wider networks of IPv6 the first
    /// address is every router's: "Packets sent to the Subnet-Router anycast address will be delivered to one router on the subnet"
    /// (RFC 4291, 2.6.1).
    pub(crate) fn no_host(&self, address: IpAddr) -> Option<NoHost> {
        if u32::from(self.bits) + 1 >= self.width() || !self.contains(address) {
            return None;
        }
        if address == self.network().address {
            return Some(NoHost::Network);
        }
        match (self.network().address, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let hosts = u32::MAX.checked_shr(self.bits.into()).unwrap_or(0);
                (address.to_bits() == first.to_bits() | hosts).then_some(NoHost::Broadcast)
            }
            _ => None,
        }
    }

    /// The first address of a host.
    fn first_host(self) -> Self {
        let address = match self.network().address {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | 1).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | 1).into(),
        };
        Self { address, ..self }
    }

    fn width(self) -> u32 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl FromStr for Prefix {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let prefix = network(text)?;
        let address = prefix.address;
        let usable = address::ip(&address.to_string()).and_then(address::of_a_port);
        if let Err(error) = usable {
            return Err(RouteError::Address(error.to_string()));
        }
        let example = prefix.first_host();
        match prefix.no_host(address) {
            None => Ok(prefix),
            Some(NoHost::Network) => Err(RouteError::Network(address, example)),
            Some(NoHost::Broadcast) => Err(RouteError::Broadcast(address, example)),
        }
    }
}

/// An address with bits, which may mean any address or none.
pub(super) fn network(text: &str) -> Result<Prefix, RouteError> {
    let (host, bits) = text.split_once('/').ok_or(RouteError::Shape)?;
    let address: IpAddr = host.parse().map_err(|_| {
        RouteError::Address(format!(
            "{host:?} is not an IP address, for example 192.0.2.10"
        ))
    })?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let number = address::decimal(bits).and_then(|bits| u8::try_from(bits).ok());
    let bits = number
        .filter(|bits| *bits <= width)
        .ok_or_else(|| RouteError::Bits(bits.to_owned(), width))?;
    Ok(Prefix { address, bits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let read: Result<Prefix, _> = text.parse();
        read.expect_err(text).to_string()
    }

    #[test]
    fn no_host_has_the_first_and_the_last_address_of_a_network() {
        let first = refused("192.0.2.0/24");
        assert!(first.contains("address of the network itself"), "{first}");
        assert!(first.ends_with("for example 192.0.2.1/24"), "{first}");
        let last = refused("10.1.255.255/16");
        assert!(last.contains("broadcast address of its network"), "{last}");
        assert!(last.ends_with("for example 10.1.0.1/16"), "{last}");
        assert!(refused("192.0.2.7/30").contains("broadcast"));
        assert!(refused("2001:db8::/64").contains("for example 2001:db8::1/64"));
        for host in [
            "192.0.2.1/24",
            "192.0.2.0/31",
            "192.0.2.1/31",
            "192.0.2.0/32",
            "192.0.2.255/23",
            "10.0.0.255/8",
            "2001:db8::/127",
            "2001:db8::/128",
            "2001:db8::ffff:ffff:ffff:ffff/64",
        ] {
            let read: Result<Prefix, _> = host.parse();
            assert_eq!(read.map(|read| read.to_string()).as_deref(), Ok(host));
        }
    }

    #[test]
    fn what_no_frame_may_carry_is_no_address_of_a_port() {
        for (text, words) in [
            ("127.0.0.1/8", "loopback"),
            ("::1/128", "loopback"),
            ("169.254.7.7/16", "link-local"),
            ("fe80::1/64", "link-local"),
            ("224.0.0.5/4", "multicast"),
            ("ff02::1/16", "multicast"),
            ("255.255.255.255/32", "broadcast"),
            ("0.0.0.0/0", "every address"),
            ("::/0", "every address"),
        ] {
            let text = refused(text);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_network_has_the_addresses_with_its_bits() {
        let prefix: Prefix = "192.0.2.10/24".parse().expect("an address");
        let contains = |text: &str| prefix.contains(text.parse().expect("an address"));
        assert!(contains("192.0.2.0") && contains("192.0.2.255"));
        assert!(!contains("192.0.3.0") && !contains("2001:db8::1"));
        let all: Prefix = "10.1.2.3/0".parse().expect("an address");
        assert!(all.contains("203.0.113.9".parse().expect("an address")));
    }
}
