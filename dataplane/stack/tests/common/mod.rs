//! Two stacks joined by a wire in memory: bounded rings, faults by seed, and a clock that only the test moves.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use tidegate_config::AckMode;
use tidegate_port::{Flushed, Port, PortCounters, PortInfo, PortMode, RxQueue, TxQueue};
use tidegate_proxy::streams::{ServerId, StreamId, StreamStatus, Streams};
use tidegate_stack::{HandOver, Listener, Path, QueueOracle, Stack, StackConfig, StackPort};

pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;
pub const MTU_BYTES: usize = 1_500;
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
pub const START_US: u64 = 1_000_000_000;

/// A ring of frames that never allocates after it was made.
pub struct Ring {
    frames: Vec<[u8; 2_048]>,
    bytes: Vec<usize>,
    first: usize,
    len: usize,
}

impl Ring {
    pub fn new(capacity: usize) -> Self {
        Self {
            frames: vec![[0; 2_048]; capacity],
            bytes: vec![0; capacity],
            first: 0,
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn room(&self) -> usize {
        self.frames.len() - self.len
    }

    pub fn get(&self, index: usize) -> &[u8] {
        let at = (self.first + index) % self.frames.len();
        &self.frames[at][..self.bytes[at]]
    }

    pub fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(self.room() > 0, "the caller checks for room");
        let at = (self.first + self.len) % self.frames.len();
        self.len += 1;
        self.bytes[at] = bytes;
        fill(&mut self.frames[at][..bytes])
    }

    pub fn drop_front(&mut self, frames: usize) {
        self.first = (self.first + frames) % self.frames.len();
        self.len -= frames;
    }
}

pub struct Rx {
    pub ring: Ring,
    burst: usize,
}

impl RxQueue for Rx {
    fn burst(&mut self, max: usize) -> usize {
        self.burst = self.ring.len().min(max);
        self.burst
    }

    fn waiting(&mut self) -> usize {
        self.ring.len()
    }

    fn frame(&self, index: usize) -> &[u8] {
        assert!(index < self.burst);
        self.ring.get(index)
    }

    fn release(&mut self) {
        self.ring.drop_front(self.burst);
        self.burst = 0;
    }
}

pub struct Tx {
    pub ring: Ring,
}

impl TxQueue for Tx {
    fn room(&mut self) -> usize {
        self.ring.room()
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.ring.push(bytes, fill)
    }

    fn flush(&mut self) -> Flushed {
        Flushed::default()
    }
}

pub struct MemoryPort {
    pub rx: Rx,
    pub tx: Tx,
    mac: [u8; 6],
}

impl MemoryPort {
    pub fn new(mac: [u8; 6], frames: usize) -> Self {
        Self {
            rx: Rx {
                ring: Ring::new(frames),
                burst: 0,
            },
            tx: Tx {
                ring: Ring::new(frames),
            },
            mac,
        }
    }
}

impl Port for MemoryPort {
    type Rx = Rx;
    type Tx = Tx;

    fn halves(&mut self) -> (&mut Rx, &mut Tx) {
        (&mut self.rx, &mut self.tx)
    }

    fn info(&self) -> PortInfo {
        PortInfo {
            mac: self.mac,
            mtu_bytes: MTU_BYTES,
            mode: PortMode::Wire,
        }
    }

    fn wait_fd(&self) -> Option<RawFd> {
        None
    }

    fn counters(&mut self) -> PortCounters {
        PortCounters::default()
    }
}

/// What was handed over.
#[derive(Default)]
pub struct Handed {
    pub frames: VecDeque<(u32, u8, Vec<u8>)>,
    pub full: bool,
}

impl HandOver for Handed {
    fn hand_over(&mut self, worker: u32, port: u8, frame: &[u8]) -> bool {
        if !self.full {
            self.frames.push_back((worker, port, frame.to_vec()));
        }
        !self.full
    }
}

pub struct Host {
    pub stack: Stack,
    pub ports: [MemoryPort; 1],
    pub handed: Handed,
}

/// How the world is made. Host 0 connects to host 1, which listens.
#[derive(Clone)]
pub struct Options {
    pub ipv6: bool,
    pub client_slots: usize,
    pub client_buffer_bytes: usize,
    pub server_slots: usize,
    pub server_buffer_bytes: usize,
    pub half_open_max: usize,
    pub keepalive_us: Option<u64>,
    pub ack: AckMode,
    pub oracle: QueueOracle,
    pub worker: u32,
    pub workers: u32,
    pub source_ports: (u16, u16),
    pub ring_frames: usize,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ipv6: false,
            client_slots: 64,
            client_buffer_bytes: 4_096,
            server_slots: 64,
            server_buffer_bytes: 65_536,
            half_open_max: 32,
            keepalive_us: None,
            ack: AckMode::Immediate,
            oracle: QueueOracle::Single,
            worker: 0,
            workers: 1,
            source_ports: (40_000, 49_999),
            ring_frames: 1_024,
            seed: 1,
        }
    }
}

pub fn address(ipv6: bool, host: usize, port: u16) -> SocketAddr {
    let ip: IpAddr = if ipv6 {
        [0x2001, 0xdb8, 0, 0, 0, 0, 0, host as u16 + 1].into()
    } else {
        [10, 0, 0, host as u8 + 1].into()
    };
    SocketAddr::new(ip, port)
}

pub fn listening(ipv6: bool) -> SocketAddr {
    address(ipv6, SERVER, 6_379)
}

pub fn config(options: &Options, host: usize) -> StackConfig {
    let listener = Listener {
        address: address(options.ipv6, host, 6_379),
        keepalive_us: options.keepalive_us,
    };
    let port = StackPort {
        mac: MACS[host],
        mtu_bytes: MTU_BYTES,
        ack: options.ack,
        oracle: options.oracle.clone(),
    };
    StackConfig {
        client_slots: options.client_slots,
        client_buffer_bytes: options.client_buffer_bytes,
        server_slots: options.server_slots,
        server_buffer_bytes: options.server_buffer_bytes,
        half_open_max: options.half_open_max,
        listeners: vec![listener],
        ports: vec![port],
        servers: 1,
        worker: options.worker,
        workers: options.workers,
        source_ports: options.source_ports,
        seed: options.seed.wrapping_mul(31).wrapping_add(host as u64),
    }
}

pub fn path(ipv6: bool, from: usize) -> Path {
    Path {
        port: 0,
        source: address(ipv6, from, 0).ip(),
        destination: address(ipv6, 1 - from, 6_379),
        next_hop_mac: MACS[1 - from],
    }
}

/// A small generator, enough for faults: xorshift64*.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.next().is_multiple_of(n)
    }
}

/// Faults of the wire: one frame in so many; 0 is never.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub lose: u64,
    pub delay: u64,
    pub duplicate: u64,
}

pub struct World {
    pub hosts: [Host; 2],
    pub now_us: u64,
    pub step_us: u64,
    pub faults: Faults,
    pub random: Random,
    /// Every frame that left a host in this turn, in order, if `record` is set.
    pub log: Vec<(usize, Vec<u8>)>,
    pub record: bool,
    late: Vec<(usize, Vec<u8>)>,
    pub ipv6: bool,
}

impl World {
    pub fn new(options: &Options) -> Self {
        Self::mixed(options, options)
    }

    pub fn mixed(client: &Options, server: &Options) -> Self {
        let host = |options: &Options, host: usize| Host {
            stack: Stack::new(config(options, host), START_US).expect("the configuration is right"),
            ports: [MemoryPort::new(MACS[host], options.ring_frames)],
            handed: Handed::default(),
        };
        let mut hosts = [host(client, CLIENT), host(server, SERVER)];
        for (index, host) in hosts.iter_mut().enumerate() {
            host.stack
                .set_path(ServerId(0), Some(path(client.ipv6, index)));
        }
        Self {
            hosts,
            now_us: START_US,
            step_us: 50,
            faults: Faults::default(),
            random: Random(client.seed | 1),
            log: Vec::new(),
            record: false,
            late: Vec::new(),
            ipv6: client.ipv6,
        }
    }

    /// One turn of each host's loop and the way of their frames over the wire.
    pub fn turn(&mut self, mut app: impl FnMut(usize, &mut Stack)) {
        for index in 0..2 {
            self.receive(index);
            app(index, &mut self.hosts[index].stack);
            self.transmit(index);
            self.carry(index);
        }
        self.now_us += self.step_us;
    }

    /// `turns` turns without an application.
    pub fn run(&mut self, turns: usize) {
        for _ in 0..turns {
            self.turn(|_, _| {});
        }
    }

    /// Lets `us` pass in steps of `step_us`.
    pub fn pass(&mut self, us: u64, step_us: u64) {
        let step = std::mem::replace(&mut self.step_us, step_us);
        self.run((us / step_us) as usize);
        self.step_us = step;
    }

    pub fn receive(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.stack.tick(self.now_us);
        let (rx, tx) = host.ports[0].halves();
        let frames = rx.burst(usize::MAX);
        for frame in 0..frames {
            host.stack.ingress(rx.frame(frame), 0, tx, &mut host.handed);
        }
        rx.release();
    }

    pub fn transmit(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.stack.egress(&mut host.ports);
    }

    /// Moves what `from` has sent to the other host.
    pub fn carry(&mut self, from: usize) {
        let mut out = Vec::new();
        let ring = &mut self.hosts[from].ports[0].tx.ring;
        for index in 0..ring.len() {
            out.push(ring.get(index).to_vec());
        }
        ring.drop_front(ring.len());
        let late = std::mem::take(&mut self.late);
        let (mine, other): (Vec<_>, Vec<_>) = late.into_iter().partition(|(host, _)| *host == from);
        self.late = other;
        for frame in out {
            if self.record {
                self.log.push((from, frame.clone()));
            }
            if self.random.one_in(self.faults.lose) {
                continue;
            }
            if self.random.one_in(self.faults.delay) {
                self.late.push((from, frame));
                continue;
            }
            if self.random.one_in(self.faults.duplicate) {
                self.arrive(1 - from, &frame);
            }
            self.arrive(1 - from, &frame);
        }
        for (_, frame) in mine {
            self.arrive(1 - from, &frame);
        }
    }

    /// Puts a frame into a host's receive ring; a full ring loses it, as a NIC does.
    pub fn arrive(&mut self, host: usize, frame: &[u8]) {
        let ring = &mut self.hosts[host].ports[0].rx.ring;
        if ring.room() > 0 {
            ring.push(frame.len(), |slot| slot.copy_from_slice(frame));
        }
    }

    pub fn client(&mut self) -> &mut Stack {
        &mut self.hosts[CLIENT].stack
    }

    pub fn server(&mut self) -> &mut Stack {
        &mut self.hosts[SERVER].stack
    }

    /// Opens a connection and returns both ends.
    pub fn open(&mut self) -> (StreamId, StreamId) {
        let client = self.client().connect(ServerId(0)).expect("there is room");
        let mut accepted = None;
        for _ in 0..8 {
            self.turn(|host, stack| {
                while let Some(id) = stack.next_ready() {
                    if host == SERVER && stack.status(id) == StreamStatus::Open {
                        accepted.get_or_insert(id);
                    }
                }
            });
            if accepted.is_some() && self.client().status(client) == StreamStatus::Open {
                break;
            }
        }
        (
            client,
            accepted.expect("the handshake ends within eight turns"),
        )
    }

    /// Frames that `host` sent while `record` was set.
    pub fn sent_by(&self, host: usize) -> Vec<Tcp> {
        self.log
            .iter()
            .filter(|(from, _)| *from == host)
            .map(|(_, frame)| Tcp::read(frame))
            .collect()
    }

    pub fn check_sums(&self) {
        for host in &self.hosts {
            check_sum(&host.stack);
        }
    }
}

/// Every frame is counted once.
pub fn check_sum(stack: &Stack) {
    let c = stack.counters();
    let sum = c.frames_delivered
        + c.frames_runt
        + c.frames_not_tcp
        + c.frames_bad_checksum
        + c.frames_malformed
        + c.frames_not_ours
        + c.frames_unknown_flow
        + c.frames_handed_over
        + c.frames_hand_over_full
        + c.frames_no_slot
        + c.frames_refused
        + c.frames_beyond_window
        + c.frames_tx_full;
    assert_eq!(c.frames_in, sum, "{c:?}");
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// The fields of a TCP frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Tcp {
    pub fn new(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        Self {
            source,
            destination,
            sequence: 0,
            acknowledgement: 0,
            flags,
            window: 65_535,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    pub fn read(frame: &[u8]) -> Self {
        let be16 = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let be32 = |at: usize| u32::from(be16(at)) << 16 | u32::from(be16(at + 2));
        let (ips, tcp, total): ([IpAddr; 2], usize, usize) = if frame[12] == 8 {
            let ip =
                |at: usize| IpAddr::from([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
            ([ip(26), ip(30)], 34, 14 + usize::from(be16(16)))
        } else {
            let ip = |at: usize| {
                IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("16 bytes"))
            };
            ([ip(22), ip(38)], 54, 54 + usize::from(be16(18)))
        };
        let data = tcp + usize::from(frame[tcp + 12] >> 4) * 4;
        Self {
            source: SocketAddr::new(ips[0], be16(tcp)),
            destination: SocketAddr::new(ips[1], be16(tcp + 2)),
            sequence: be32(tcp + 4),
            acknowledgement: be32(tcp + 8),
            flags: frame[tcp + 13],
            window: be16(tcp + 14),
            options: frame[tcp + 20..data].to_vec(),
            payload: frame[data..total].to_vec(),
        }
    }

    /// The frame with right checksums, from host `from` to the other.
    pub fn frame(&self, from: usize) -> Vec<u8> {
        let tcp_bytes = 20 + self.options.len() + self.payload.len();
        let mut frame = Vec::new();
        frame.extend(MACS[1 - from]);
        frame.extend(MACS[from]);
        let mut pseudo = Vec::new();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, 0]);
                frame.extend(((20 + tcp_bytes) as u16).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                let sum = checksum(&frame[14..34]);
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
                pseudo.extend(source.octets());
                pseudo.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((tcp_bytes as u16).to_be_bytes());
                frame.extend([6, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                pseudo.extend(source.octets());
                pseudo.extend(destination.octets());
            }
            _ => panic!("one family"),
        }
        let tcp = frame.len();
        frame.extend(self.source.port().to_be_bytes());
        frame.extend(self.destination.port().to_be_bytes());
        frame.extend(self.sequence.to_be_bytes());
        frame.extend(self.acknowledgement.to_be_bytes());
        frame.extend([((20 + self.options.len()) / 4 << 4) as u8, self.flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(&self.options);
        frame.extend(&self.payload);
        pseudo.extend([0, 6]);
        pseudo.extend((tcp_bytes as u16).to_be_bytes());
        pseudo.extend(&frame[tcp..]);
        let sum = checksum(&pseudo);
        frame[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
