//! Two stacks joined by a wire in memory: faults by seed, and a clock that only the test moves.
#![allow(dead_code, reason = "each test binary uses a part of it")]

mod port;
mod tcp;

pub use port::MemoryPort;
#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub use tcp::{ACK, FIN, PSH, RST, SYN, Tcp, checksum, syn};

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use tidegate_config::AckMode;
use tidegate_port::{Port, RxQueue};
use tidegate_proxy::streams::{ServerId, StreamId, StreamStatus, Streams};
use tidegate_stack::{HandOver, Listener, Path, QueueOracle, Stack, StackConfig, StackPort};

pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;
pub const MTU_BYTES: usize = 1_500;
pub const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
pub const START_US: u64 = 1_000_000_000;

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
#[derive(Clone, Debug)]
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

    /// Takes what `host` has sent, so that it does not reach the other host.
    pub fn take_sent(&mut self, host: usize) -> Vec<Tcp> {
        self.hosts[host].ports[0].take_sent()
    }

    /// Moves what `from` has sent to the other host.
    pub fn carry(&mut self, from: usize) {
        let out = self.hosts[from].ports[0].take_frames();
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
    assert_eq!(c.frames_in, c.frames_told(), "{c:?}");
}
