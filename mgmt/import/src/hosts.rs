//! Hosts as they stand in addresses: Tidegate takes addresses alone, twemproxy names as well.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Finds the address of a name, or says why there is none.
pub type Resolve<'r> = &'r mut dyn FnMut(&str) -> Result<IpAddr, String>;

/// What the text of a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address.
    Address(IpAddr),
    /// A name that has this address now.
    Resolved(IpAddr),
}

/// Why a host has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostError {
    /// A name, and nobody to ask.
    Name,
    /// The name is not known.
    Unknown(String),
}

/// Tells addresses from names. Each name is looked up once.
pub(crate) struct Hosts<'r> {
    resolve: Option<Resolve<'r>>,
    known: BTreeMap<String, Result<IpAddr, String>>,
}

impl<'r> Hosts<'r> {
    pub(crate) fn new(resolve: Option<Resolve<'r>>) -> Self {
        Self {
            resolve,
            known: BTreeMap::new(),
        }
    }

    /// The address that `text` is, or that it stands for.
    pub(crate) fn find(&mut self, text: &str) -> Result<Host, HostError> {
        if let Some(address) = address(text) {
            return Ok(Host::Address(address));
        }
        let Some(resolve) = &mut self.resolve else {
            return Err(HostError::Name);
        };
        let known = self.known.entry(text.to_owned());
        let found = known.or_insert_with(|| resolve(text).map(|address| address.to_canonical()));
        found
            .clone()
            .map(Host::Resolved)
            .map_err(HostError::Unknown)
    }
}

/// An address, with or without the brackets of IPv6. One of IPv4 in the form of IPv6 is one of IPv4: both lead to the same place.
fn address(text: &str) -> Option<IpAddr> {
    let inside = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match inside {
        Some(inside) => inside.parse::<Ipv6Addr>().ok()?.into(),
        None => text.parse::<IpAddr>().ok()?,
    };
    Some(address.to_canonical())
}
