//! Addresses with a port, as they may stand in a configuration.

use crate::limits::UNIX_PATH_BYTES_MAX;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Why an address cannot be used; the text says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error(
        "{0:?} is not the path of a Unix socket: one word that begins with / and does not end with it"
    )]
    Path(String),
    #[error("a path of {0} bytes, the kernel takes {UNIX_PATH_BYTES_MAX}; use a shorter directory")]
    PathLong(usize),
    #[error(
        "a path has to be absolute, begin it with /: what starts Tidegate may do so in any directory"
    )]
    Relative,
    #[error("an abstract socket has no owner and no permissions; use a path that begins with /")]
    Abstract,
    #[error("permissions {0:?} are not octal digits from 0000 to 0777")]
    Mode(String),
    /// Not shown: a URL may hold a password.
    #[error("a URL, write ADDRESS:PORT alone; passwords have options of their own")]
    Url,
    #[error("no port, write ADDRESS:PORT")]
    NoPort,
    #[error("port {0:?} is not a number between 1 and 65535")]
    Port(String),
    #[error("{0:?} is not an IP address; names are not resolved, write the address itself")]
    Host(String),
    #[error("an IPv4 address in IPv6 clothes, write {0}")]
    Mapped(IpAddr),
    #[error("{0} means every address; write the one address, frames are matched by it")]
    Unspecified(IpAddr),
    #[error("{0} is a multicast or broadcast address, TCP needs the address of one host")]
    Multicast(IpAddr),
    #[error(
        "{0} is a loopback address, which no frame may carry; write an address of the interface, or driver = \"kernel\""
    )]
    Loopback(IpAddr),
    #[error(
        "{0} is a link-local address: every interface has one of those, and no router forwards them; write an address of the network"
    )]
    LinkLocal(IpAddr),
}

/// `ADDRESS:PORT` to listen on, an IPv6 address with or without brackets. The address may be that which means every one.
pub(crate) fn parse_listen(text: &str) -> Result<SocketAddr, AddressError> {
    check_kind(text)?;
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
    match join(host, port) {
        Err(AddressError::Unspecified(ip)) => Ok(SocketAddr::new(ip, number(port)?)),
        other => other,
    }
}

/// Turns away what is no address with a port at all.
pub(crate) fn check_kind(text: &str) -> Result<(), AddressError> {
    // A host begins with a letter as well: only a slash tells a path from a name that is not resolved.
    let path = !text.starts_with(|c: char| c.is_ascii_digit() || c == '[') && text.contains('/');
    if text.starts_with('@') {
        Err(AddressError::Abstract)
    } else if is_url(text) {
        Err(AddressError::Url)
    } else if path {
        Err(AddressError::Relative)
    } else {
        Ok(())
    }
}

/// Whether `text` may be a URL, which may hold a password.
fn is_url(text: &str) -> bool {
    text.contains('@') || text.contains("://")
}

/// How faults show an address, or what stands in its place.
pub(crate) fn shown(text: &str) -> String {
    if is_url(text) {
        "\"***\"".to_owned()
    } else {
        format!("{text:?}")
    }
}

/// An address from its two parts.
pub(crate) fn join(host: &str, port: &str) -> Result<SocketAddr, AddressError> {
    Ok(SocketAddr::new(ip(host)?, number(port)?))
}

fn number(port: &str) -> Result<u16, AddressError> {
    decimal(port)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|&port| port > 0)
        .ok_or_else(|| AddressError::Port(port.to_owned()))
}

/// The address of one host.
pub(crate) fn ip(host: &str) -> Result<IpAddr, AddressError> {
    let ip = match bare(host) {
        Some(inside) => inside.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
    .ok_or_else(|| AddressError::Host(host.to_owned()))?;
    let mapped = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    match mapped {
        Some(v4) => Err(AddressError::Mapped(v4.into())),
        None if ip.is_unspecified() => Err(AddressError::Unspecified(ip)),
        None if ip.is_multicast() || ip == IpAddr::from([255; 4]) => {
            Err(AddressError::Multicast(ip))
        }
        None => Ok(ip),
    }
}

/// Whether a port of ours, whose frames the kernel does not make, can have the address.
pub(crate) fn of_a_port(ip: IpAddr) -> Result<IpAddr, AddressError> {
    let is_link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_unspecified() {
        Err(AddressError::Unspecified(ip))
    } else if ip.is_loopback() {
        Err(AddressError::Loopback(ip))
    } else if is_link_local {
        Err(AddressError::LinkLocal(ip))
    } else {
        Ok(ip)
    }
}

/// What stands between brackets, if `host` is in brackets.
pub(crate) fn bare(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

/// A number of decimal digits and nothing else: no sign, no blanks.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}
