//! What a `[[port]]` with `driver = "dpdk"` has of its own: which device it is, and what the kernel knows of other interfaces, which are
//! our addresses and the ways to other networks.

mod prefix;

use crate::address;
use crate::limits::{PORT_ADDRESSES_MAX, PORT_ROUTES_MAX};
use crate::reader::{Field, Reader, Text};
use prefix::network;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub(crate) use prefix::NoHost;
pub use prefix::{Prefix, RouteError};

/// How DPDK reaches the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pmd {
    /// A card that was given to DPDK. The interface is its address on the PCI bus.
    Pci,
    /// Packet sockets on an interface of the kernel.
    AfPacket,
    /// `AF_XDP` sockets of DPDK's own on an interface of the kernel.
    AfXdp,
}

impl Pmd {
    /// Those that a file can name; a card needs no name.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("af_packet", Self::AfPacket), ("af_xdp", Self::AfXdp)];
}

/// A network that is reached through a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The network.
    pub to: Prefix,
    /// The gateway, which is reached directly.
    pub via: IpAddr,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.to.bits == 0 {
            write!(f, "default via {}", self.via)
        } else {
            write!(f, "{} via {}", self.to, self.via)
        }
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [to, "via", via] = words[..] else {
            return Err(RouteError::Route);
        };
        let via = address::ip(via).map_err(|error| RouteError::Address(error.to_string()))?;
        let any: IpAddr = if via.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let to = match to {
            "default" => Prefix {
                address: any,
                bits: 0,
            },
            text => network(text)?,
        };
        if to.address.is_ipv4() != via.is_ipv4() {
            return Err(RouteError::Families);
        }
        let own = to.network();
        if own != to {
            return Err(RouteError::HostBits(to, own));
        }
        Ok(Self { to, via })
    }
}

/// What only a port on DPDK has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DpdkOptions {
    /// How the device is reached.
    pub pmd: Pmd,
    /// A card may be had from a driver that lets it write to all memory.
    pub without_iommu: bool,
    /// Our addresses. The kernel knows nothing of them.
    pub addresses: Vec<Prefix>,
    /// Networks beyond those of the addresses.
    pub routes: Vec<Route>,
}

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The port, by its place in the configuration.
    pub port: usize,
    /// Our address on that way.
    pub source: IpAddr,
    /// Who gets the frames: the address itself, or a gateway.
    pub next_hop: IpAddr,
}

impl DpdkOptions {
    /// Our address and the next hop towards `destination`, with the number of bits by which they were chosen.
    fn way(&self, destination: IpAddr) -> Option<(u8, IpAddr, IpAddr)> {
        let direct = self
            .addresses
            .iter()
            .filter(|own| own.contains(destination));
        let direct = direct.map(|own| (own.bits, own.address, destination));
        let through = self
            .routes
            .iter()
            .filter(|route| route.to.contains(destination));
        let through = through.filter_map(|route| {
            let source = self.addresses.iter().find(|own| own.contains(route.via))?;
            Some((route.to.bits, source.address, route.via))
        });
        // `max_by_key` would take the last of the longest.
        direct
            .chain(through)
            .reduce(|best, other| if other.0 > best.0 { other } else { best })
    }
}

/// The way to `destination` over these ports: the longest prefix wins, as in the kernel; of equal ones the first.
pub(crate) fn way<'a>(
    ports: impl Iterator<Item = &'a DpdkOptions>,
    destination: IpAddr,
) -> Option<Way> {
    let ways = ports
        .enumerate()
        .filter_map(|(port, options)| Some((port, options.way(destination)?)));
    let best = ways.reduce(|best, other| if other.1.0 > best.1.0 { other } else { best });
    best.map(|(port, (_, source, next_hop))| Way {
        port,
        source,
        next_hop,
    })
}

/// Whether this is the address of a device on the PCI bus, in full: domain, bus, device, function.
pub fn is_pci_address(text: &str) -> bool {
    const FORM: &[u8] = b"xxxx:xx:xx.x";
    text.len() == FORM.len()
        && text.bytes().zip(FORM).all(|(byte, form)| match form {
            b'x' => byte.is_ascii_hexdigit(),
            punctuation => byte == *punctuation,
        })
}

/// The options of a port on DPDK, and the places of addresses and routes.
pub(crate) struct Draft {
    pub(crate) options: DpdkOptions,
    /// Addresses and routes are those of the file.
    pub(crate) sound: bool,
    pub(crate) addresses_at: Vec<usize>,
    pub(crate) routes_at: Vec<usize>,
}

/// The keys that only DPDK gives a meaning.
pub(crate) const KEYS: [&str; 4] = ["pmd", "without_iommu", "addresses", "routes"];

/// Reads what only a port on DPDK has; the interface is read already.
pub(crate) fn read(reader: &mut Reader<'_>, interface: &Field<String>) -> Draft {
    let pmd = reader.choice("pmd", Pmd::NAMES, Pmd::Pci);
    let is_card = is_pci_address(&interface.value);
    if is_card && reader.has("pmd") {
        reader.fault(
            reader.at_of("pmd"),
            "pmd has no meaning for a card: DPDK finds the driver by the card; remove it",
        );
    } else if !is_card && !reader.has("pmd") && interface.sound {
        reader.fault(
            interface.at.unwrap_or(reader.at()),
            "with driver = \"dpdk\" the interface is the address of a card, for example \"0000:3b:00.1\" (lspci -D shows them), or \
             an interface of the kernel with pmd = \"af_packet\" or \"af_xdp\"",
        );
    }
    let without_iommu = reader.flag("without_iommu", false);
    if !is_card && without_iommu {
        reader.fault(
            reader.at_of("without_iommu"),
            "without_iommu needs a card: an interface of the kernel is the kernel's to guard; remove it",
        );
    }
    let mut sound = true;
    let (addresses, addresses_at) = list(reader, "addresses", PORT_ADDRESSES_MAX, &mut sound);
    if sound && addresses.is_empty() {
        sound = false;
        reader.missing(
            "addresses are missing: the kernel knows nothing of this port, so its addresses stand here, for example \
             addresses = [\"192.0.2.10/24\"]",
        );
    }
    let (routes, routes_at) = list(reader, "routes", PORT_ROUTES_MAX, &mut sound);
    Draft {
        options: DpdkOptions {
            pmd: if is_card { Pmd::Pci } else { pmd },
            without_iommu,
            addresses,
            routes,
        },
        sound,
        addresses_at,
        routes_at,
    }
}

/// A list of texts, each with its place; a fault for each that cannot be read.
fn list<T: FromStr<Err = RouteError>>(
    reader: &mut Reader<'_>,
    key: &'static str,
    max: usize,
    sound: &mut bool,
) -> (Vec<T>, Vec<usize>) {
    let texts = reader.texts(key).unwrap_or_default();
    *sound &= texts.len() <= max;
    if let Some(Text { at, .. }) = texts.get(max) {
        reader.fault(*at, &format!("{key}: more than {max}"));
    }
    let read = |Text { text, at }: Text<'_>| match text.parse() {
        Ok(value) => Some((value, at)),
        Err(error) => {
            *sound = false;
            reader.fault(at, &format!("{key}: {text:?}: {error}"));
            None
        }
    };
    texts.into_iter().take(max).filter_map(read).unzip()
}

/// A fault for each key of DPDK in the table of another driver.
pub(crate) fn refuse(reader: &mut Reader<'_>) {
    for key in KEYS {
        if reader.has(key) {
            reader.fault(
                reader.at_of(key),
                &format!("{key} needs driver = \"dpdk\": addresses and routes of other ports are the kernel's"),
            );
        }
        let _known = reader.value(key);
    }
}
