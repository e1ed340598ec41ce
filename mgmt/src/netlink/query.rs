//! Asks the kernel.

use super::answer::{self, AttachedProgram, Neighbour, Route, TableEntry};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::net::IpAddr;

/// A socket for questions. The kernel answers while it handles the question, so that waiting for the answer is short.
pub struct Query {
    socket: Socket,
    sequence: u32,
}

fn family(address: IpAddr) -> (AddressFamily, u8) {
    match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    }
}

fn neighbour_message(ifindex: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address).0;
    message.header.ifindex = ifindex;
    message
        .attributes
        .push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
    message
}

impl Query {
    /// Opens the socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// How the kernel would reach `destination`; `None`: it would not.
    pub fn route(&mut self, destination: IpAddr) -> io::Result<Option<Route>> {
        let (address_family, prefix) = family(destination);
        let mut message = RouteMessage::default();
        message.header.address_family = address_family;
        message.header.destination_prefix_length = prefix;
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(destination)));
        let answers = match self.ask(RouteNetlinkMessage::GetRoute(message), 0) {
            Err(error) if is_no_route(&error) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => answer::route(message),
            _ => None,
        }))
    }

    /// What the kernel knows of a neighbour; `None`: it has never heard of it.
    pub fn neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<Option<Neighbour>> {
        let message = neighbour_message(ifindex, address);
        let answers = match self.ask(RouteNetlinkMessage::GetNeighbour(message), 0) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => return Ok(None),
            answers => answers?,
        };
        Ok(answers.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => Some(answer::neighbour(message)),
            _ => None,
        }))
    }

    /// Makes the kernel use the neighbour, as if it had a packet for it: it resolves what is unknown and confirms what is
    /// stale. We learn the outcome as an event.
    pub fn use_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        let mut message = neighbour_message(ifindex, address);
        message.header.flags = NeighbourFlags::Use;
        self.ask(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_ACK,
        )?;
        Ok(())
    }

    /// Makes the kernel ask a neighbour whether it is still where it was, although it has no doubt: what TCP of our own hears, or does not,
    /// it knows nothing of. An entry that somebody made by hand is left alone.
    pub fn probe_neighbour(&mut self, ifindex: u32, address: IpAddr) -> io::Result<()> {
        let question = RouteNetlinkMessage::GetNeighbour(neighbour_message(ifindex, address));
        let answers = match self.ask(question, 0) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => return Ok(()),
            answers => answers?,
        };
        let is_believed = answers.iter().any(|message| match message {
            RouteNetlinkMessage::NewNeighbour(message) => matches!(
                message.header.state,
                NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay
            ),
            _ => false,
        });
        if is_believed {
            // Without a link address and without NLM_F_REPLACE the state changes, and nothing else.
            let mut message = neighbour_message(ifindex, address);
            message.header.state = NeighbourState::Probe;
            self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_ACK)?;
        }
        Ok(())
    }

    /// All addresses of this host with their interfaces.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask(message, NLM_F_DUMP)?;
        let addresses = answers.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) => answer::address(message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// All lines of all routing tables that lead to somebody else.
    pub fn routes(&mut self) -> io::Result<Vec<TableEntry>> {
        let mut entries = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = match self.ask(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP) {
                // A kernel without IPv6.
                Err(error) if is_unknown_family(&error) => continue,
                answers => answers?,
            };
            entries.extend(answers.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(message) => answer::table_entry(message),
                _ => None,
            }));
        }
        Ok(entries)
    }

    /// The link address of an interface; `None`: it has none, or not one of an Ethernet.
    pub fn link_address(&mut self, ifindex: u32) -> io::Result<Option<[u8; 6]>> {
        Ok(self.links(ifindex)?.iter().find_map(answer::link_address))
    }

    /// Whether an XDP program is attached to an interface, wherever it runs.
    pub fn has_xdp(&mut self, ifindex: u32) -> io::Result<bool> {
        self.link(ifindex, answer::has_xdp)
    }

    /// Whether the driver of an interface has an XDP program.
    pub fn has_program(&mut self, ifindex: u32) -> io::Result<bool> {
        self.link(ifindex, answer::has_program)
    }

    /// The XDP program of an interface; `None`: it has none, or several.
    pub fn program(&mut self, ifindex: u32) -> io::Result<Option<AttachedProgram>> {
        let links = self.links(ifindex)?;
        Ok(links.iter().find_map(answer::program))
    }

    fn link(&mut self, ifindex: u32, has: fn(&LinkMessage) -> bool) -> io::Result<bool> {
        Ok(self.links(ifindex)?.iter().any(has))
    }

    fn links(&mut self, ifindex: u32) -> io::Result<Vec<LinkMessage>> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), 0)?;
        let links = answers.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(message) => Some(message),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Gives an interface, which has to be down, another name.
    pub fn rename(&mut self, ifindex: u32, name: &str) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.ask(RouteNetlinkMessage::SetLink(message), NLM_F_ACK)?;
        Ok(())
    }

    /// Sends a question and collects the answers: one message, an acknowledgement, or a list that ends with Done.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let list = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in Messages(&bytes) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => {
                        answers.push(inner);
                        if !list {
                            return Ok(answers);
                        }
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

fn is_no_route(error: &io::Error) -> bool {
    use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
    // EACCES and EINVAL are the answers to prohibit and blackhole routes.
    matches!(
        error.raw_os_error(),
        Some(ENETUNREACH | EHOSTUNREACH | EACCES | EINVAL)
    )
}

fn is_unknown_family(error: &io::Error) -> bool {
    use nix::libc::{EAFNOSUPPORT, EOPNOTSUPP};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EOPNOTSUPP))
}

/// The messages of one datagram. One that cannot be understood is an error, and the last.
struct Messages<'a>(&'a [u8]);

impl Iterator for Messages<'_> {
    type Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(self.0) {
            Ok(message) => {
                // Messages begin at multiples of four bytes.
                let length = (message.header.length as usize).next_multiple_of(4).max(4);
                self.0 = self.0.get(length..).unwrap_or_default();
                Some(Ok(message))
            }
            Err(error) => {
                self.0 = &[];
                Some(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    error.to_string(),
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_local_to_itself() {
        let mut query = Query::open().unwrap();
        let route = query.route("127.0.0.1".parse().unwrap()).unwrap().unwrap();
        assert!(route.local);
        assert_eq!(
            query
                .neighbour(route.ifindex, "192.0.2.77".parse().unwrap())
                .unwrap(),
            None
        );
    }

    #[test]
    fn the_loopback_address_is_among_the_addresses() {
        let mut query = Query::open().unwrap();
        let addresses = query.addresses().unwrap();
        assert!(
            addresses.iter().any(|(_, address)| address.is_loopback()),
            "{addresses:?}"
        );
    }

    #[test]
    fn tables_and_programs_are_asked_for() {
        let mut query = Query::open().unwrap();
        let routes = query.routes().unwrap();
        assert!(routes.iter().all(|route| route.prefix_bits <= 128));
        // Loopback has the index 1 everywhere, and a program on it would be news.
        assert!(!query.has_xdp(1).unwrap());
        assert!(query.has_xdp(u32::MAX >> 1).is_err());
        assert!(!query.has_program(1).unwrap());
        // Loopback has one of an Ethernet, which is nobody's.
        assert_eq!(query.link_address(1).unwrap(), Some([0; 6]));
        assert!(query.link_address(u32::MAX >> 1).is_err());
        assert!(query.has_program(u32::MAX >> 1).is_err());
        assert!(query.rename(u32::MAX >> 1, "tg-nowhere0").is_err());
    }

    #[test]
    fn a_truncated_datagram_is_an_error_and_ends() {
        let mut messages = Messages(&[1, 2, 3]);
        assert!(messages.next().unwrap().is_err());
        assert!(messages.next().is_none());
    }
}
