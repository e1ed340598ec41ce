//! A host with a TCP of its own: smoltcp as it is, one interface, one socket set for each connection.

use crate::{APPLIANCE_MAC, MTU_BYTES};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::net::Ipv4Addr;

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// Segments of one connection in one go.
const SEGMENTS_MAX: usize = 64;
/// First of the ports that connections go out from.
const FIRST_PORT: u16 = 2_048;
/// Connections whose peer is silent are probed after so long, and given up after so much longer.
const PROBE_MS: u64 = 3_000;
const SILENT_MS: u64 = 20_000;

/// What a host's TCP is like.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Bytes of each buffer.
    pub buffer_bytes: usize,
    /// Small segments wait for acknowledgements.
    pub nagle: bool,
    /// Acknowledgements wait for so many milliseconds.
    pub ack_delay_ms: Option<u64>,
    /// Peers that are silent are probed.
    pub keep_alive: bool,
}

/// One connection.
pub struct Connection {
    /// Its number on this host, never used again.
    pub serial: u32,
    local: u16,
    remote: (Ipv4Addr, u16),
    set: SocketSet<'static>,
    handle: SocketHandle,
    due_us: u64,
}

impl Connection {
    /// Its socket.
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }
}

/// A host.
pub struct Host {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// Frames that it has to send.
    pub out: Vec<Vec<u8>>,
    /// It neither hears nor says anything.
    pub is_dead: bool,
    /// It takes connections.
    pub listens: bool,
    port: u16,
    habits: Habits,
    interface: Interface,
    nobody: SocketSet<'static>,
    next_port: u16,
    serial: u32,
}

struct HostDevice<'a> {
    received: Option<&'a [u8]>,
    out: &'a mut Vec<Vec<u8>>,
    mac: [u8; 6],
}

struct Received<'a>(&'a [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Sent<'a> {
    out: &'a mut Vec<Vec<u8>>,
    mac: [u8; 6],
}

impl TxToken for Sent<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, write: F) -> R {
        let mut frame = vec![0; ETHERNET_BYTES + bytes];
        frame[..6].copy_from_slice(&APPLIANCE_MAC);
        frame[6..12].copy_from_slice(&self.mac);
        frame[12..ETHERNET_BYTES].copy_from_slice(&[8, 0]);
        let result = write(&mut frame[ETHERNET_BYTES..]);
        self.out.push(frame);
        result
    }
}

impl Device for HostDevice<'_> {
    type RxToken<'a>
        = Received<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Sent<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Sent<'_>)> {
        let received = self.received.take()?;
        let sent = Sent {
            out: self.out,
            mac: self.mac,
        };
        Some((Received(received), sent))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sent<'_>> {
        Some(Sent {
            out: self.out,
            mac: self.mac,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU_BYTES;
        capabilities
    }
}

fn instant(now_us: u64) -> Instant {
    Instant::from_micros(now_us as i64)
}

/// The Ethernet address of the host with this address.
pub fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [2, 1, a, b, c, d]
}

/// The ends of an IPv4 TCP segment, as far as they can be made out: source, destination, flags.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source.
    pub from: (Ipv4Addr, u16),
    /// Destination.
    pub to: (Ipv4Addr, u16),
    /// TCP's flags.
    pub flags: u8,
}

/// Reads them.
pub fn ends(frame: &[u8]) -> Option<Ends> {
    let packet = frame.get(ETHERNET_BYTES..)?;
    let tcp = packet.get(IPV4_BYTES..IPV4_BYTES + 20)?;
    if frame[12..ETHERNET_BYTES] != [8, 0] || packet[0] != 0x45 || packet[9] != 6 {
        return None;
    }
    let address =
        |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    Some(Ends {
        from: (address(12), port(0)),
        to: (address(16), port(2)),
        flags: tcp[13],
    })
}

impl Host {
    /// A host at `address`, which takes connections at `port` if it `listens`.
    pub fn new(
        address: Ipv4Addr,
        port: u16,
        listens: bool,
        habits: Habits,
        seed: u64,
        now_us: u64,
    ) -> Self {
        let mac = mac_of(address);
        let mut out = Vec::new();
        let mut device = HostDevice {
            received: None,
            out: &mut out,
            mac,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, instant(now_us));
        interface.update_ip_addrs(|addresses| {
            // It is the only one.
            let _full = addresses.push(IpCidr::new(IpAddress::Ipv4(address), 8));
        });
        Self {
            mac,
            address,
            connections: Vec::new(),
            out,
            is_dead: false,
            listens,
            port,
            habits,
            interface,
            nobody: SocketSet::new(Vec::new()),
            next_port: FIRST_PORT,
            serial: 0,
        }
    }

    fn add(&mut self, local: u16, remote: (Ipv4Addr, u16)) -> usize {
        let buffer = || SocketBuffer::new(vec![0; self.habits.buffer_bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(self.habits.nagle);
        socket.set_ack_delay(self.habits.ack_delay_ms.map(Duration::from_millis));
        let probe_after = Duration::from_millis(PROBE_MS);
        socket.set_keep_alive(self.habits.keep_alive.then_some(probe_after));
        // smoltcp counts it from the last segment that came, whether it waits for one or not.
        let silent = Duration::from_millis(SILENT_MS);
        socket.set_timeout(self.habits.keep_alive.then_some(silent));
        let mut set = SocketSet::new(Vec::with_capacity(1));
        let handle = set.add(socket);
        self.serial += 1;
        self.connections.push(Connection {
            serial: self.serial,
            local,
            remote,
            set,
            handle,
            due_us: u64::MAX,
        });
        self.connections.len() - 1
    }

    /// Opens a connection. Returns its number.
    pub fn connect(&mut self, to: (Ipv4Addr, u16)) -> u32 {
        let local = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        let index = self.add(local, to);
        let connection = &mut self.connections[index];
        let remote = (IpAddress::Ipv4(to.0), to.1);
        let socket = connection.set.get_mut::<Socket<'_>>(connection.handle);
        let connected = socket.connect(self.interface.context(), remote, local);
        assert!(connected.is_ok(), "a fresh socket connects");
        connection.due_us = 0;
        connection.serial
    }

    /// Takes a frame. Returns the connection that it belongs to.
    pub fn deliver(&mut self, frame: &[u8], now_us: u64) -> Option<usize> {
        if self.is_dead || frame.get(..6)? != self.mac {
            return None;
        }
        let ends = ends(frame)?;
        let index = self
            .connections
            .iter()
            .position(|one| one.local == ends.to.1 && one.remote == ends.from);
        let index = match index {
            None if self.listens && ends.to.1 == self.port && ends.flags & (SYN | ACK) == SYN => {
                let index = self.add(self.port, ends.from);
                let listening = self.connections[index].socket().listen(ends.to.1);
                assert!(listening.is_ok(), "a fresh socket listens");
                Some(index)
            }
            found => found,
        };
        let mut device = HostDevice {
            received: Some(&frame[ETHERNET_BYTES..]),
            out: &mut self.out,
            mac: self.mac,
        };
        let set = match index {
            Some(index) => &mut self.connections[index].set,
            None => &mut self.nobody,
        };
        self.interface
            .poll_ingress_single(instant(now_us), &mut device, set);
        let index = index?;
        if self.connections[index].socket().state() == State::Listen {
            self.connections.swap_remove(index);
            return None;
        }
        Some(index)
    }

    /// Sends what a connection has to say.
    pub fn flush(&mut self, index: usize, now_us: u64) {
        let connection = &mut self.connections[index];
        let mut device = HostDevice {
            received: None,
            out: &mut self.out,
            mac: self.mac,
        };
        let now = instant(now_us);
        for _ in 0..SEGMENTS_MAX {
            self.interface
                .poll_egress(now, &mut device, &mut connection.set);
            let at = self.interface.poll_at(now, &connection.set);
            connection.due_us = at.map_or(u64::MAX, |at| at.total_micros().max(0) as u64);
            if connection.due_us > now_us {
                return;
            }
        }
        connection.due_us = now_us + 100;
    }

    /// When the next timer is due.
    pub fn due_us(&self) -> u64 {
        let due = self.connections.iter().map(|one| one.due_us);
        due.min().unwrap_or(u64::MAX)
    }

    /// The place of a connection.
    pub fn find(&self, serial: u32) -> Option<usize> {
        self.connections.iter().position(|one| one.serial == serial)
    }

    /// Forgets a connection that is over.
    pub fn sweep(&mut self, index: usize) {
        if self.connections[index].socket().state() == State::Closed {
            self.connections.swap_remove(index);
        }
    }
}
