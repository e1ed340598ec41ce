//! `listen`: an address with a port, or a Unix socket with permissions.

use crate::hosts::{Host, HostError, Hosts};
use crate::options::{Options, Setting, digits, shown};
use crate::yaml::Text;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tidegate_config::Place;

const EXAMPLE: &str = "write ADDRESS:PORT, or /PATH with its permissions";

/// What Tidegate's `listen` says in its place, one text or two; `None` when it is wrong.
pub(crate) fn read(
    options: &mut Options<'_>,
    hosts: &mut Hosts<'_>,
) -> Option<Setting<Vec<String>>> {
    let text = options.text("listen")?;
    let value = if text.text.starts_with('/') {
        vec![path(options, &text)?]
    } else {
        address(options, &text, hosts)?
    };
    Some(Setting {
        value,
        at: Some(text.at),
    })
}

fn address(
    options: &mut Options<'_>,
    Text { text, at }: &Text,
    hosts: &mut Hosts<'_>,
) -> Option<Vec<String>> {
    let at = *at;
    let shown = shown(text);
    // twemproxy splits at the last colon, so an IPv6 address has no brackets.
    let parts = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let Some((host, port)) = parts else {
        options.fault(at, &format!("listen {shown} is no address: {EXAMPLE}"));
        return None;
    };
    let port = port_number(options, text, port, at)?;
    if host.starts_with('[') {
        let what = format!("listen {shown}: twemproxy takes IPv6 addresses without brackets");
        options.fault(at, &what);
        return None;
    }
    let address = match hosts.find(host) {
        Ok(Host::Address(address)) => address,
        Ok(Host::Resolved(address)) => {
            let what = format!(
                "listen {shown}: its host is {address} now, which is written; Tidegate does not look names up"
            );
            options.warn(at, &what);
            address
        }
        Err(error) => {
            options.fault(at, &format!("listen {shown}: {}", no_address(host, &error)));
            return None;
        }
    };
    let mut texts = vec![SocketAddr::new(address, port).to_string()];
    // Such a socket of twemproxy's takes IPv4 as well; Tidegate's takes what its address says.
    if address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        texts.push(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port).to_string());
    }
    Some(texts)
}

/// A number of digits alone that can be a port.
pub(crate) fn port_number(
    options: &mut Options<'_>,
    text: &str,
    port: &str,
    at: Place,
) -> Option<u16> {
    let number = digits(port).and_then(|port| u16::try_from(port).ok());
    let number = number.filter(|&port| port > 0);
    if number.is_none() {
        let what = format!(
            "{}: the port is not a number between 1 and 65535",
            shown(text)
        );
        options.fault(at, &what);
    }
    number
}

/// Why a host has no address, and what helps.
pub(crate) fn no_address(host: &str, error: &HostError) -> String {
    match error {
        HostError::Name => format!(
            "{} is no IP address, and Tidegate does not look names up; let --resolve look it up now, or write the address",
            shown(host)
        ),
        HostError::Unknown(why) => format!("{} has no address: {why}", shown(host)),
    }
}

/// The permissions are behind the last blank, in octal digits. 0 means none to twemproxy: it leaves the file as the umask has it.
fn path(options: &mut Options<'_>, Text { text, at }: &Text) -> Option<String> {
    let Some((path, mode)) = text.rsplit_once(' ') else {
        return Some(text.clone());
    };
    let octal = !mode.is_empty() && mode.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    if !octal {
        let what = format!("listen {text:?}: permissions {mode:?} are not octal digits");
        options.fault(*at, &what);
        return None;
    }
    if path.contains(' ') {
        let what = format!("listen {text:?}: the path has a blank, which Tidegate does not take");
        options.fault(*at, &what);
        return None;
    }
    if mode.bytes().all(|digit| digit == b'0') {
        let what = "listen: permissions of 0 mean none to twemproxy and are left out";
        options.warn(*at, what);
        return Some(path.to_owned());
    }
    Some(format!("{path} {mode}"))
}
