//! Understands routes, neighbours, addresses and links as the kernel tells them.

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType, RouteVia,
};
use std::net::IpAddr;
use tidegate_port::xdp::AttachMode;

/// The kernel's answer to "how do I reach this address".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Outgoing interface.
    pub ifindex: u32,
    /// The router, unless the destination is a neighbour itself.
    pub gateway: Option<IpAddr>,
    /// The address that the kernel would send from.
    pub source: Option<IpAddr>,
    /// The destination is an address of this host.
    pub local: bool,
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Reads the answer to a route query. `None`: blackhole, prohibited, or nothing that we can send through.
pub fn route(message: &RouteMessage) -> Option<Route> {
    let mut route = Route {
        ifindex: 0,
        gateway: None,
        source: None,
        local: false,
    };
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => route.local = true,
        _ => return None,
    }
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => route.ifindex = *ifindex,
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            // An IPv4 route through an IPv6 router.
            RouteAttribute::Via(RouteVia::Inet(address)) => route.gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => {
                route.gateway = Some((*address).into());
            }
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            _ => {}
        }
    }
    (route.ifindex != 0).then_some(route)
}

/// A line of a routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Outgoing interfaces: several where paths share the load.
    pub interfaces: Vec<u32>,
    /// Bits of the destination that count; 0: any destination.
    pub prefix_bits: u8,
    /// The kernel made it of an address, and makes it again with that.
    pub by_kernel: bool,
}

/// Reads a line of a routing table. `None`: it leads to nobody else.
pub fn table_entry(message: &RouteMessage) -> Option<TableEntry> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut interfaces = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interfaces.push(*index),
            RouteAttribute::MultiPath(paths) => {
                interfaces.extend(paths.iter().map(|path| path.interface_index));
            }
            _ => {}
        }
    }
    Some(TableEntry {
        interfaces,
        prefix_bits: message.header.destination_prefix_length,
        by_kernel: message.header.protocol == RouteProtocol::Kernel,
    })
}

/// The link address of an interface; `None`: it has none, or not one of an Ethernet.
pub fn link_address(message: &LinkMessage) -> Option<[u8; 6]> {
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    })
}

/// Whether an XDP program is attached to an interface.
pub fn has_xdp(message: &LinkMessage) -> bool {
    message.attributes.iter().any(|attribute| {
        match attribute {
        LinkAttribute::Xdp(of_xdp) => of_xdp.iter().any(|of_xdp| {
            matches!(of_xdp, LinkXdp::Attached(attached) if *attached != XdpAttached::None)
        }),
        _ => false,
    }
    })
}

/// An XDP program that is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The kernel's number of the program.
    pub id: u32,
    /// Where it runs.
    pub mode: AttachMode,
}

/// The one program of an interface; `None`: there is none, or several.
pub fn program(message: &LinkMessage) -> Option<AttachedProgram> {
    let attributes = message.attributes.iter();
    let xdp = attributes.filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    let (mut id, mut mode) = (None, None);
    for xdp in xdp.flatten() {
        match xdp {
            LinkXdp::ProgId(program) => id = Some(*program),
            LinkXdp::Attached(XdpAttached::Driver) => mode = Some(AttachMode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some(AttachMode::Generic),
            _ => {}
        }
    }
    Some(AttachedProgram {
        id: id?,
        mode: mode?,
    })
}

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Confirmed lately, or configured: there is nothing to ask for.
    Fresh([u8; 6]),
    /// Good enough to be used, but it should be confirmed.
    Stale([u8; 6]),
    /// The kernel asked, or has yet to ask.
    Resolving,
    /// The kernel asked and got no answer.
    Failed,
}

/// Reads a neighbour entry.
pub fn neighbour(message: &NeighbourMessage) -> Neighbour {
    let mac = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                <[u8; 6]>::try_from(bytes.as_slice()).ok()
            }
            _ => None,
        });
    match (message.header.state, mac) {
        (NeighbourState::Failed, _) => Neighbour::Failed,
        (NeighbourState::Stale, Some(mac)) => Neighbour::Stale(mac),
        (
            NeighbourState::Reachable
            | NeighbourState::Noarp
            | NeighbourState::Permanent
            | NeighbourState::Delay
            | NeighbourState::Probe,
            Some(mac),
        ) => Neighbour::Fresh(mac),
        _ => Neighbour::Resolving,
    }
}

/// Reads an address of an interface.
pub fn address(message: &AddressMessage) -> Option<(u32, IpAddr)> {
    let find = |local: bool| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Local(address) if local => Some(*address),
                AddressAttribute::Address(address) if !local => Some(*address),
                _ => None,
            })
    };
    // On a point-to-point link `Address` is the other end; `Local` is ours wherever it is given.
    Some((message.header.index, find(true).or_else(|| find(false))?))
}

/// Whether an interface has an XDP program in its driver.
pub fn has_program(message: &LinkMessage) -> bool {
    let attributes = message.attributes.iter();
    let xdp = attributes.filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    xdp.flatten().any(|xdp| {
        let attached = LinkXdp::Attached;
        *xdp == attached(XdpAttached::Driver) || *xdp == attached(XdpAttached::Multiple)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::NetlinkMessage;
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::route::RouteNextHop;

    /// The kernel's answer for 10.9.2.2 behind a router, over an interface with 10.9.2.1/24.
    const ROUTE: &[u8] = &[
        0x4c, 0, 0, 0, 0x18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
        0, // header: 76 bytes, RTM_NEWROUTE
        2, 32, 0, 0, 0xfe, 0, 0, 1, 0, 2, 0, 0, // AF_INET, /32, main table, unicast, cloned
        8, 0, 15, 0, 0xfe, 0, 0, 0, // RTA_TABLE 254
        8, 0, 1, 0, 10, 9, 2, 2, // RTA_DST
        8, 0, 4, 0, 3, 0, 0, 0, // RTA_OIF 3
        8, 0, 7, 0, 10, 9, 2, 1, // RTA_PREFSRC
        8, 0, 5, 0, 10, 9, 2, 254, // RTA_GATEWAY
        8, 0, 25, 0, 0, 0, 0, 0, // RTA_UID
    ];

    fn parse(bytes: &[u8]) -> RouteNetlinkMessage {
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes)
            .unwrap()
            .payload
        {
            netlink_packet_core::NetlinkPayload::InnerMessage(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_route_is_understood() {
        let RouteNetlinkMessage::NewRoute(message) = parse(ROUTE) else {
            panic!("no route")
        };
        let expected = Route {
            ifindex: 3,
            gateway: Some("10.9.2.254".parse().unwrap()),
            source: Some("10.9.2.1".parse().unwrap()),
            local: false,
        };
        assert_eq!(route(&message), Some(expected));
        let mut local = message.clone();
        local.header.kind = RouteType::Local;
        assert_eq!(
            route(&local),
            Some(Route {
                local: true,
                ..expected
            })
        );
        local.header.kind = RouteType::BlackHole;
        assert_eq!(route(&local), None);
    }

    #[test]
    fn a_line_of_a_table_names_every_way_out() {
        let RouteNetlinkMessage::NewRoute(mut message) = parse(ROUTE) else {
            panic!("no route")
        };
        let mut path = RouteNextHop::default();
        path.interface_index = 4;
        message
            .attributes
            .push(RouteAttribute::MultiPath(vec![path]));
        let expected = TableEntry {
            interfaces: vec![3, 4],
            prefix_bits: 32,
            by_kernel: false,
        };
        assert_eq!(table_entry(&message), Some(expected));
        message.header.kind = RouteType::Unreachable;
        assert_eq!(table_entry(&message), None);
    }

    #[test]
    fn a_link_address_has_six_bytes() {
        let mut message = LinkMessage::default();
        assert_eq!(link_address(&message), None);
        let mac = [2, 0, 0, 0, 0, 7];
        // The address of a group stands beside its own.
        let group = LinkAttribute::Broadcast(vec![0xff; 6]);
        for (bytes, expected) in [(mac.to_vec(), Some(mac)), (vec![2; 20], None)] {
            message.attributes = vec![group.clone(), LinkAttribute::Address(bytes)];
            assert_eq!(link_address(&message), expected);
        }
    }

    #[test]
    fn a_program_that_is_attached_is_seen_and_none_is_none() {
        let mut message = LinkMessage::default();
        assert!(!has_xdp(&message));
        for (attached, expected) in [(XdpAttached::None, false), (XdpAttached::Driver, true)] {
            message.attributes = vec![LinkAttribute::Xdp(vec![LinkXdp::Attached(attached)])];
            assert_eq!(has_xdp(&message), expected);
        }
    }

    /// The kernel's message on a neighbour of interface 3.
    fn neighbour_bytes(state: u8) -> Vec<u8> {
        let mut bytes = vec![0x30, 0, 0, 0, 0x1c, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([2, 0, 0, 0, 3, 0, 0, 0, state, 0, 0, 1]);
        bytes.extend([8, 0, 1, 0, 10, 9, 2, 2]);
        bytes.extend([10, 0, 2, 0, 2, 0, 0, 0, 0, 7, 0, 0]);
        bytes
    }

    #[test]
    fn a_neighbour_is_used_while_the_kernel_would_use_it() {
        let mac = [2, 0, 0, 0, 0, 7];
        for (state, expected) in [
            (0x02, Neighbour::Fresh(mac)),
            (0x04, Neighbour::Stale(mac)),
            (0x08, Neighbour::Fresh(mac)),
            (0x10, Neighbour::Fresh(mac)),
            (0x80, Neighbour::Fresh(mac)),
            (0x20, Neighbour::Failed),
            (0x01, Neighbour::Resolving),
            (0x00, Neighbour::Resolving),
        ] {
            let RouteNetlinkMessage::NewNeighbour(message) = parse(&neighbour_bytes(state)) else {
                panic!("no neighbour")
            };
            assert_eq!(neighbour(&message), expected, "state {state:#x}");
        }
    }

    #[test]
    fn a_program_counts_where_the_driver_runs_it() {
        for (attached, expected) in [
            (XdpAttached::None, false),
            (XdpAttached::SocketBuffer, false),
            (XdpAttached::Driver, true),
            (XdpAttached::Multiple, true),
        ] {
            let mut message = LinkMessage::default();
            let xdp = vec![LinkXdp::Attached(attached), LinkXdp::ProgId(7)];
            message.attributes.push(LinkAttribute::Mtu(1_500));
            message.attributes.push(LinkAttribute::Xdp(xdp));
            assert_eq!(has_program(&message), expected, "{attached:?}");
        }
        assert!(!has_program(&LinkMessage::default()));
    }
}
