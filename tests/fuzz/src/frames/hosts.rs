//! The other hosts of the link: clients and servers, each knowing of its connections what an honest host would.

use super::MAC;
use super::packet::{ACK, FIN, Mac, PSH, RST, SYN, Segment, arp, icmp, packet};
use super::script::{Act, BYTES_MAX, CLIENTS, Link, Odd};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tidegate_channel::paths::PathEntry;

/// Connections of servers that are remembered: twice as many as the worker may have.
const SERVER_CONNECTIONS: usize = 8;
const WINDOW: u16 = 8_192;
/// Maximum segment size 1,400, window scale 2.
const OPTIONS: [u8; 8] = [2, 4, 5, 0x78, 3, 3, 2, 1];

/// One connection, as its other end sees it.
#[derive(Clone, Debug)]
struct Connection {
    ours: SocketAddr,
    worker: SocketAddr,
    /// The next that we send.
    next: u32,
    /// The next that we expect.
    expected: u32,
    /// Where the worker's window ends, as it said last.
    edge: u32,
    /// The worker said something since we last did.
    owes: bool,
    /// The worker opened it, and we have not answered.
    opening: bool,
}

/// All of them.
pub(super) struct Hosts {
    clients: Vec<Connection>,
    /// Connections of servers, the latest last.
    servers: Vec<Connection>,
    /// Source ports used so far.
    opened: u16,
}

fn v4(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn v6(last: u8) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into()
}

fn mac(last: u8) -> Mac {
    [2, 0, 0, 0, 1, last]
}

fn last(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

/// The server of each pool.
const SERVERS: [fn() -> SocketAddr; 2] = [
    || SocketAddr::new(v4(20), 11_211),
    || SocketAddr::new(v6(0x21), 6_379),
];

impl Hosts {
    pub(super) fn new() -> Self {
        Self {
            clients: Vec::new(),
            servers: Vec::new(),
            opened: 0,
        }
    }

    pub(super) fn servers() -> [SocketAddr; 2] {
        SERVERS.map(|address| address())
    }

    pub(super) fn server_at(address: IpAddr) -> Option<usize> {
        let is_there = |server: &SocketAddr| server.ip() == address;
        Self::servers().iter().position(is_there)
    }

    /// How the worker reaches a server.
    pub(super) fn path(server: usize) -> PathEntry {
        let destination = Self::servers()[server];
        PathEntry {
            port: 0,
            source: if destination.is_ipv4() {
                v4(10)
            } else {
                v6(0x10)
            },
            destination,
            next_hop_mac: mac(last(destination.ip())),
        }
    }

    /// The connection that a script means by a number.
    fn connection(&mut self, who: usize) -> Option<&mut Connection> {
        let all = self.clients.len() + self.servers.len();
        let index = who.checked_rem(all)?;
        self.clients.iter_mut().chain(&mut self.servers).nth(index)
    }

    /// The frame that an act sends.
    pub(super) fn frame(&mut self, act: Act) -> Option<Vec<u8>> {
        match act {
            Act::Open { who } => Some(self.open(who)),
            Act::Say { who, bytes } => Some(self.connection(who)?.say(PSH | ACK, bytes)),
            Act::Acknowledge { who } => Some(self.connection(who)?.acknowledge()),
            Act::Odd { who, odd, bytes } => Some(self.connection(who)?.odd(odd, bytes)),
            Act::Finish { who } => Some(self.connection(who)?.say(FIN | ACK, Vec::new())),
            Act::Fill { who, finishes } => Some(self.connection(who)?.fill(finishes)),
            Act::Reset { who } => Some(self.connection(who)?.say(RST | ACK, Vec::new())),
            Act::Raw { bytes } => Some(bytes),
            Act::Link(link) => Some(of_link(link)),
            _ => None,
        }
    }

    /// A client knocks: at one of two pools, over one of two families, from a new port or once more from one it had.
    fn open(&mut self, who: usize) -> Vec<u8> {
        let ports = [11_211, 6_379];
        let address = if who & 1 == 0 { v4 } else { v6 };
        let worker = SocketAddr::new(
            address(if who & 1 == 0 { 10 } else { 0x10 }),
            ports[who >> 1 & 1],
        );
        let again = who & 0x80 != 0 && !self.clients.is_empty();
        let ours = if again {
            self.clients[who % self.clients.len()].ours
        } else {
            self.opened = self.opened.wrapping_add(1);
            // The worker's oracle gives it every other pair of ports.
            SocketAddr::new(address(100 + (who >> 2 & 7) as u8), 2_000 + self.opened * 2)
        };
        let connection = Connection {
            ours,
            worker: if ours.is_ipv4() == worker.is_ipv4() {
                worker
            } else {
                self.clients[who % self.clients.len()].worker
            },
            next: (self.opened as u32).wrapping_mul(0x1357_9bdf),
            expected: 0,
            edge: 0,
            owes: false,
            opening: false,
        };
        if again {
            let index = who % self.clients.len();
            self.clients.remove(index);
        }
        if self.clients.len() == CLIENTS {
            self.clients.remove(0);
        }
        self.clients.push(connection);
        let connection = self.clients.last_mut().expect("it was just put there");
        let mut segment = connection.segment(SYN);
        segment.acknowledgement = 0;
        if who & 0x40 == 0 {
            segment.options = OPTIONS.to_vec();
        }
        connection.next = connection.next.wrapping_add(1);
        connection.wrap(&segment)
    }

    /// A frame of the worker: what everybody learns from it.
    pub(super) fn take(&mut self, frame: &[u8]) {
        let Some(segment) = Segment::read(frame) else {
            return;
        };
        let known = self.clients.iter_mut().chain(&mut self.servers);
        let mut known = known.filter(|connection| {
            connection.ours == segment.destination && connection.worker == segment.source
        });
        if let Some(connection) = known.next() {
            connection.take(&segment);
        } else if segment.flags & (SYN | ACK) == SYN {
            if self.servers.len() == SERVER_CONNECTIONS {
                self.servers.remove(0);
            }
            self.servers.push(Connection {
                ours: segment.destination,
                worker: segment.source,
                next: segment.sequence.rotate_left(7),
                expected: segment.sequence.wrapping_add(1),
                edge: 0,
                owes: true,
                opening: true,
            });
        }
    }

    /// What honest hosts would say now.
    pub(super) fn acknowledge_all(&mut self) -> Vec<Vec<u8>> {
        let all = self.clients.iter_mut().chain(&mut self.servers);
        all.filter(|connection| connection.owes)
            .map(Connection::acknowledge)
            .collect()
    }
}

impl Connection {
    fn segment(&self, flags: u8) -> Segment {
        Segment {
            source: self.ours,
            destination: self.worker,
            sequence: self.next,
            acknowledgement: self.expected,
            flags,
            window: WINDOW,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    fn wrap(&self, segment: &Segment) -> Vec<u8> {
        segment.frame(MAC, mac(last(self.ours.ip())))
    }

    fn say(&mut self, flags: u8, payload: Vec<u8>) -> Vec<u8> {
        let segment = Segment {
            payload,
            ..self.segment(flags)
        };
        self.next = self.next.wrapping_add(segment.length());
        self.wrap(&segment)
    }

    fn fill(&mut self, finishes: bool) -> Vec<u8> {
        let room = self.edge.wrapping_sub(self.next) as usize;
        // Beyond a segment it is a window that was not told, or one that we have overrun.
        let mut payload = b"set big 0 0 4000\r\n".to_vec();
        payload.resize(if room > BYTES_MAX { 0 } else { room }, b'x');
        self.say(if finishes { FIN | PSH | ACK } else { PSH | ACK }, payload)
    }

    fn acknowledge(&mut self) -> Vec<u8> {
        self.owes = false;
        if self.opening {
            self.opening = false;
            let segment = Segment {
                options: OPTIONS.to_vec(),
                ..self.segment(SYN | ACK)
            };
            self.next = self.next.wrapping_add(1);
            return self.wrap(&segment);
        }
        self.wrap(&self.segment(ACK))
    }

    fn odd(&mut self, odd: Odd, payload: Vec<u8>) -> Vec<u8> {
        let near = self.segment(odd.flags);
        // The ends of the range are those of all numbers, where they wrap.
        let moved = |by: i16| match by {
            i16::MIN => 1 << 31,
            i16::MAX => (1 << 31) - 1,
            _ => i32::from(by) as u32,
        };
        let segment = Segment {
            sequence: near.sequence.wrapping_add(moved(odd.sequence)),
            acknowledgement: near
                .acknowledgement
                .wrapping_add(moved(odd.acknowledgement)),
            window: odd.window,
            payload,
            ..near
        };
        if odd.sequence == 0 {
            self.next = self.next.wrapping_add(segment.length());
        }
        self.wrap(&segment)
    }

    fn take(&mut self, segment: &Segment) {
        self.owes |= segment.length() > 0;
        if segment.flags & ACK != 0 {
            // Buffers are small, so windows are not scaled.
            self.edge = segment.acknowledgement.wrapping_add(segment.window.into());
        }
        if segment.flags & SYN != 0 {
            self.expected = segment.sequence.wrapping_add(1);
            if segment.flags & ACK == 0 {
                self.opening = true;
            }
        } else if segment.sequence == self.expected {
            self.expected = self.expected.wrapping_add(segment.length());
        }
    }
}

/// ARP, neighbour discovery and echo: of servers, of the worker's own addresses, and of strangers.
fn of_link(link: Link) -> Vec<u8> {
    let known = [10, 20, 0x10, 0x21, 1, 255];
    let number = |byte: u8| known[usize::from(byte) % known.len()];
    let (sender, target) = (number(link.sender), number(link.target));
    let (from, everybody) = (mac(sender), [0xff; 6]);
    let to = if link.kind & 0x80 == 0 {
        MAC
    } else {
        everybody
    };
    match link.kind % 6 {
        0 => arp(to, from, 1, v4(sender), v4(target)),
        1 => arp(to, from, 2, v4(sender), v4(target)),
        kind @ (2 | 3) => {
            let solicits = kind == 2;
            let mut body = vec![if solicits { 135 } else { 136 }, 0, 0, 0];
            body.extend([if solicits { 0 } else { 0x60 }, 0, 0, 0]);
            let about = v6(if solicits { target } else { sender });
            if let IpAddr::V6(about) = about {
                body.extend(about.octets());
            }
            body.extend([if solicits { 1 } else { 2 }, 1]);
            body.extend(from);
            packet(to, from, v6(sender), v6(target), icmp(about), &body)
        }
        kind => {
            let address = if kind == 4 { v4 } else { v6 };
            let (sender, target) = (address(sender), address(target));
            let mut body = vec![if kind == 4 { 8 } else { 128 }, 0, 0, 0, 0, 1, 0, 1];
            body.resize(8 + usize::from(link.sender) * 4, 0x5a);
            packet(to, from, sender, target, icmp(target), &body)
        }
    }
}
