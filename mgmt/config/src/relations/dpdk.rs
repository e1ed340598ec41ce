//! What has to fit together where ports are DPDK's: there the file alone says which addresses are ours and how others are reached.

use super::listeners;
use crate::address;
use crate::config::Draft;
use crate::dpdk::{self, DpdkOptions, NoHost, Prefix, Route};
use crate::fault::Faults;
use crate::port::{self, Driver};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What to do about a second default route.
const DEFAULT: &str =
    "remove it, or name the networks behind it, for example \"10.1.0.0/16 via GATEWAY\"";

/// Checks it, if any port is DPDK's.
pub(super) fn check(draft: &Draft, faults: &Faults<'_>) {
    let is_dpdk = |port: &&port::Draft| port.config.driver == Driver::Dpdk;
    let Some(first) = draft.ports.iter().find(is_dpdk) else {
        return;
    };
    let others = draft.ports.iter().filter(|port| !is_dpdk(port));
    for port in others {
        faults.value(
            port.at,
            format!(
                "{}: with driver = \"dpdk\" in line {} all ports are DPDK's: its workers are threads of one process; a second instance \
                 can serve this port",
                port.label,
                faults.line(first.at)
            ),
        );
    }
    addresses_differ(draft, faults);
    routes_differ(draft, faults);
    // Faults that follow from others help nobody.
    let sound = |port: &port::Draft| port.dpdk.as_ref().is_some_and(|dpdk| dpdk.sound);
    if draft.ports.iter().all(sound) {
        let gateways = gateways_are_neighbours(draft, faults);
        listeners_are_ours(draft, faults);
        servers_are_reached(draft, gateways, faults);
    }
}

/// Every address of every port, with its place and the label of the port.
fn addresses(draft: &Draft) -> impl Iterator<Item = (Prefix, usize, &str)> {
    draft.ports.iter().flat_map(|port| {
        let own = port.dpdk.iter().flat_map(|dpdk| {
            let addresses = &dpdk.options.addresses;
            addresses.iter().zip(&dpdk.addresses_at)
        });
        own.map(|(prefix, &at)| (*prefix, at, port.label.as_str()))
    })
}

fn options(draft: &Draft) -> impl Iterator<Item = &DpdkOptions> {
    let drafts = draft.ports.iter().filter_map(|port| port.dpdk.as_ref());
    drafts.map(|dpdk| &dpdk.options)
}

/// Why an address in a network that is reached directly is that of no host.
fn no_host<'a>(own: impl Iterator<Item = &'a Prefix>, address: IpAddr) -> Option<NoHost> {
    let mut whys = own.filter_map(|own| own.no_host(address));
    whys.next()
}

fn is_ours(draft: &Draft, address: IpAddr) -> bool {
    addresses(draft).any(|(own, ..)| own.address == address)
}

fn addresses_differ(draft: &Draft, faults: &Faults<'_>) {
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (own, at, label) in addresses(draft) {
        if let Some(&first) = seen.get(&own.address) {
            faults.value(
                at,
                format!(
                    "{label}: addresses: {} stands in line {} already",
                    own.address,
                    faults.line(first)
                ),
            );
        }
        seen.entry(own.address).or_insert(at);
    }
}

/// Of two ways to one network the second would never be taken, whatever its port.
fn routes_differ(draft: &Draft, faults: &Faults<'_>) {
    let mut seen: BTreeMap<(IpAddr, u8), usize> = BTreeMap::new();
    for port in &draft.ports {
        let Some(dpdk) = &port.dpdk else {
            continue;
        };
        for (Route { to, .. }, &at) in dpdk.options.routes.iter().zip(&dpdk.routes_at) {
            let first = *seen.entry((to.address, to.bits)).or_insert(at);
            if first == at {
                continue;
            }
            let (what, remedy) = match (to.bits, to.address) {
                (0, IpAddr::V4(_)) => ("the default gateway of IPv4".to_owned(), DEFAULT),
                (0, IpAddr::V6(_)) => ("the default gateway of IPv6".to_owned(), DEFAULT),
                _ => (format!("the gateway of {to}"), "remove one of the two"),
            };
            faults.value(
                at,
                format!(
                    "{}: routes: {what} stands in line {} already, and of two the first alone would be used; {remedy}",
                    port.label,
                    faults.line(first)
                ),
            );
        }
    }
}

/// Returns whether they are.
fn gateways_are_neighbours(draft: &Draft, faults: &Faults<'_>) -> bool {
    let mut sound = true;
    for port in &draft.ports {
        let Some(dpdk) = &port.dpdk else {
            continue;
        };
        let (addresses, routes) = (&dpdk.options.addresses, &dpdk.options.routes);
        for (route, &at) in routes.iter().zip(&dpdk.routes_at) {
            let direct = addresses.iter().any(|own| own.contains(route.via));
            let no_host = no_host(addresses.iter(), route.via);
            let why = if is_ours(draft, route.via) {
                Some("it is an address of ours".to_owned())
            } else if !direct {
                Some("it is in no network of this port's addresses".to_owned())
            } else {
                no_host.map(|why| format!("it is {}; write that of the router", why.text()))
            };
            if let Some(why) = why {
                sound = false;
                faults.value(
                    at,
                    format!(
                        "{}: routes: gateway {} cannot be: {why}",
                        port.label, route.via
                    ),
                );
            }
        }
    }
    sound
}

fn listeners_are_ours(draft: &Draft, faults: &Faults<'_>) {
    for (listen, at, label) in listeners(draft) {
        if let Some(address) = listen.endpoint.ip()
            && address::of_a_port(address.ip()).is_ok()
            && !is_ours(draft, address.ip())
        {
            faults.value(
                at,
                format!(
                    "{label}: listen {address} is an address of no port; add it to the addresses of one, for example \"{}/{}\"",
                    address.ip(),
                    if address.is_ipv4() { 24 } else { 64 }
                ),
            );
        }
    }
    if let Some(source) = draft.worker.config.source_address
        && address::of_a_port(source).is_ok()
        && !is_ours(draft, source)
    {
        faults.value(
            draft.worker.source_address_at,
            format!("worker: source_address {source} is an address of no port"),
        );
    }
}

fn servers_are_reached(draft: &Draft, gateways: bool, faults: &Faults<'_>) {
    for pool in &draft.pools {
        for (server, &at) in pool.config.servers.iter().zip(&pool.servers_at) {
            let Some(address) = server.address.ip() else {
                continue;
            };
            if is_ours(draft, address.ip()) {
                faults.value(
                    at,
                    format!(
                        "{}: server {address} is an address of ours: a server has to be another machine",
                        pool.label
                    ),
                );
            } else if let Some(why) =
                no_host(options(draft).flat_map(|own| &own.addresses), address.ip())
            {
                faults.value(
                    at,
                    format!(
                        "{}: server {address} cannot be: it is {}; write that of the server",
                        pool.label,
                        why.text()
                    ),
                );
            } else if gateways && dpdk::way(options(draft), address.ip()).is_none() {
                faults.value(
                    at,
                    format!(
                        "{}: server {address} is in no network of a port's addresses, and no route leads there; add one, for example \
                         routes = [\"default via GATEWAY\"]",
                        pool.label
                    ),
                );
            }
        }
    }
}
