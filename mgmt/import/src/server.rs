//! `servers`: each `HOST:PORT:WEIGHT` or `/PATH:WEIGHT`, with or without a name.

use crate::hosts::{Host, HostError, Hosts};
use crate::listen::{no_address, port_number};
use crate::options::{Options, digits, shown};
use crate::yaml::Text;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tidegate_config::Place;
use tidegate_config::limits::WEIGHT_UNBRACKETED_MAX;

/// The port whose servers have the name of their host alone. The rule is libmemcached's.
const MEMCACHED_PORT: u16 = 11_211;

/// One server.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// As Tidegate's `servers` has it. The name is always written, so that nothing but the name of twemproxy is hashed.
    pub(crate) text: String,
    pub(crate) at: Place,
}

/// The parts of a server's text.
#[derive(Clone, Copy)]
struct Parts<'t> {
    /// Host, or path.
    host: &'t str,
    /// Port as it is written; `None` for a path.
    port: Option<&'t str>,
    weight: &'t str,
    /// Behind the blank.
    name: Option<&'t str>,
}

/// The servers of a pool that are sound; `None` when there is no list.
pub(crate) fn read(
    options: &mut Options<'_>,
    whole: bool,
    hosts: &mut Hosts<'_>,
) -> Option<Vec<Server>> {
    const EXAMPLE: &str = "write below it a line like - 10.0.1.11:11211:1";
    let written = options.place_of("servers").is_some();
    let list = options.list("servers");
    if list.is_none() && !written && whole {
        options.fault(options.at, &format!("servers are missing; {EXAMPLE}"));
    }
    let (at, texts) = list?;
    if texts.is_empty() {
        options.fault(at, &format!("servers are none; {EXAMPLE}"));
    }
    let mut names = BTreeMap::new();
    let read = |text: &Text| {
        let (server, name) = server(options, text, hosts)?;
        if let Some(first) = names.insert(name.clone(), server.at) {
            let what = format!(
                "server {}: the name {} is taken by the server of line {}",
                shown(&text.text),
                shown(&name),
                first.line
            );
            options.fault(text.at, &what);
            return None;
        }
        Some(server)
    };
    Some(texts.iter().filter_map(read).collect())
}

/// One server and its name.
fn server(
    options: &mut Options<'_>,
    whole: &Text,
    hosts: &mut Hosts<'_>,
) -> Option<(Server, String)> {
    let (text, at) = (&whole.text, whole.at);
    let shown = shown(text);
    let Some(parts) = parts(text) else {
        options.fault(
            at,
            &format!(
                "server {shown} is not HOST:PORT:WEIGHT, or /PATH:WEIGHT, and a name if need be"
            ),
        );
        return None;
    };
    let weight = weight(options, text, parts, at)?;
    if parts.name == Some("") {
        let what = format!("server {shown}: the name behind the weight is empty");
        options.fault(at, &what);
        return None;
    }
    let (place, own_name) = match parts.port {
        None => (parts.host.to_owned(), format!("{}:", parts.host)),
        Some(port_text) => {
            let port = port_number(options, text, port_text, at)?;
            let name = if port == MEMCACHED_PORT {
                parts.host.to_owned()
            } else {
                format!("{}:{port_text}", parts.host)
            };
            let address = address(options, whole, parts, hosts)?;
            (SocketAddr::new(address, port).to_string(), name)
        }
    };
    let name = parts.name.map_or(own_name, str::to_owned);
    let text = format!("{place}:{weight} {name}");
    Some((Server { text, at }, name))
}

/// Takes a server apart from its end, as twemproxy does: the name behind the last blank, then weight and port.
fn parts(text: &str) -> Option<Parts<'_>> {
    let (rest, name) = match text.rsplit_once(' ') {
        Some((rest, name)) => (rest, Some(name)),
        None => (text, None),
    };
    let (place, weight) = rest.rsplit_once(':')?;
    if place.starts_with('/') {
        // A path with a colon has a port to twemproxy, and is refused.
        return (!place.contains(':')).then_some(Parts {
            host: place,
            port: None,
            weight,
            name,
        });
    }
    let (host, port) = place.rsplit_once(':')?;
    (!host.is_empty()).then_some(Parts {
        host,
        port: Some(port),
        weight,
        name,
    })
}

/// At least 1. What is too much for Tidegate its own checks find.
fn weight(options: &mut Options<'_>, text: &str, parts: Parts<'_>, at: Place) -> Option<u64> {
    let shown = shown(text);
    let weight = digits(parts.weight).filter(|&weight| weight > 0);
    let Some(number) = weight else {
        let what = format!("server {shown}: the weight is not a number of at least 1");
        options.fault(at, &what);
        return None;
    };
    let bare_ipv6 = parts.host.contains(':') && !parts.host.starts_with('[');
    if bare_ipv6 && number > WEIGHT_UNBRACKETED_MAX {
        options.warn(
            at,
            &format!(
                "server {shown} has weight {number} to twemproxy, and what stands before it for its port: if that is not meant, its weight is missing"
            ),
        );
    }
    weight
}

fn address(
    options: &mut Options<'_>,
    Text { text, at }: &Text,
    parts: Parts<'_>,
    hosts: &mut Hosts<'_>,
) -> Option<IpAddr> {
    let (host, shown) = (parts.host, shown(text));
    let address = match hosts.find(host) {
        Ok(Host::Address(address)) => address,
        Ok(Host::Resolved(address)) => {
            let what = format!(
                "server {shown}: its host is {address} now, which is written; Tidegate does not look names up. Its keys stay, by its name"
            );
            options.warn(*at, &what);
            address
        }
        Err(error) => {
            let keep = match (&error, parts.name) {
                (HostError::Name, None) => {
                    ", and behind the weight this host (with the port, unless that is 11211) as its name, so that its keys stay"
                }
                _ => "",
            };
            let why = no_address(host, &error);
            options.fault(*at, &format!("server {shown}: {why}{keep}"));
            return None;
        }
    };
    if host.starts_with('[') {
        let what = format!(
            "server {shown}: twemproxy cannot connect to an address in brackets, Tidegate can; its keys are those that twemproxy meant for it"
        );
        options.warn(*at, &what);
    }
    if !address.is_unspecified() {
        return Some(address);
    }
    let here: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let what = format!("server {shown}: {address} leads to this machine and becomes {here}");
    options.warn(*at, &what);
    Some(here)
}
