//! What a stack is made of, and what can be wrong with it.

use crate::limits::{MTU_BYTES_MAX, MTU_BYTES_MIN, SLOTS_MAX};
use crate::oracle::QueueOracle;
use std::net::{IpAddr, SocketAddr};
use tidegate_config::AckMode;

/// Everything a [`crate::Stack`] is told at start.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// Client connections.
    pub client_slots: usize,
    /// Bytes of the receive and of the send buffer of each client connection (each).
    pub client_buffer_bytes: usize,
    /// Server connections.
    pub server_slots: usize,
    /// Bytes of the receive and of the send buffer of each server connection (each).
    pub server_buffer_bytes: usize,
    /// Handshakes under way.
    pub half_open_max: usize,
    /// Listening addresses; the position is the `ListenerId`.
    pub listeners: Vec<Listener>,
    /// Ports, in the order of the worker's.
    pub ports: Vec<StackPort>,
    /// Number of servers.
    pub servers: usize,
    /// Which worker this is.
    pub worker: u32,
    /// Number of workers.
    pub workers: u32,
    /// First and last source port towards servers, of all workers together.
    pub source_ports: (u16, u16),
    /// Seed of sequence numbers, hashes and port choice. Whoever knows it can forge segments and collide hashes.
    pub seed: u64,
}

/// A listening address.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// Silence after which a client is probed; `None`: never.
    pub keepalive_us: Option<u64>,
}

/// One port of the worker.
#[derive(Clone, Debug)]
pub struct StackPort {
    /// Our Ethernet address.
    pub mac: [u8; 6],
    /// Largest IP packet.
    pub mtu_bytes: usize,
    /// When to acknowledge.
    pub ack: AckMode,
    /// How its frames find their queue.
    pub oracle: QueueOracle,
}

/// How to reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The port to send through.
    pub port: u8,
    /// Our address.
    pub source: IpAddr,
    /// The server's address, of the same family.
    pub destination: SocketAddr,
    /// Ethernet address of the server or of the router towards it.
    pub next_hop_mac: [u8; 6],
}

/// Why a stack cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    /// No port.
    #[error("a worker needs at least one port")]
    NoPort,
    /// A port's MTU.
    #[error(
        "port {port} has an MTU of {mtu_bytes}: set one between {MTU_BYTES_MIN} and {MTU_BYTES_MAX} on the interface or in the configuration"
    )]
    Mtu {
        /// Position of the port.
        port: usize,
        /// Its MTU.
        mtu_bytes: usize,
    },
    /// A port's queue oracle.
    #[error("port {port} cannot tell its queues apart: {fault}; set rss = \"software\" for it")]
    Oracle {
        /// Position of the port.
        port: usize,
        /// What is wrong.
        fault: &'static str,
    },
    /// Too many slots.
    #[error(
        "clients_max and server_connections_max ask for {slots} connections in one worker, the most is {SLOTS_MAX}: lower them or add workers"
    )]
    Slots {
        /// What was asked for.
        slots: usize,
    },
    /// Buffers of no use.
    #[error(
        "a buffer of {bytes} bytes cannot hold a connection: set client_buffer_bytes and server_buffer_bytes between 512 and 1 GiB"
    )]
    Buffer {
        /// What was asked for.
        bytes: usize,
    },
    /// Source ports that do not give every worker one.
    #[error("source_ports {first}-{last} are too few for {workers} workers: widen the range")]
    SourcePorts {
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
        /// Number of workers.
        workers: u32,
    },
    /// A worker number that does not exist.
    #[error(
        "worker {worker} of {workers} does not exist: queues must be numbered from 0 without gaps"
    )]
    Worker {
        /// The number.
        worker: u32,
        /// How many there are.
        workers: u32,
    },
    /// No room for handshakes.
    #[error("half_open_max is 0: no client could ever connect; set at least 1")]
    HalfOpen,
}

const BUFFER_BYTES: std::ops::RangeInclusive<usize> = 512..=1 << 30;

impl StackConfig {
    pub(crate) fn check(&self) -> Result<(), StackError> {
        let slots = self.client_slots.saturating_add(self.server_slots);
        if slots > SLOTS_MAX {
            return Err(StackError::Slots { slots });
        }
        for bytes in [self.client_buffer_bytes, self.server_buffer_bytes] {
            if !BUFFER_BYTES.contains(&bytes) {
                return Err(StackError::Buffer { bytes });
            }
        }
        if self.half_open_max == 0 {
            return Err(StackError::HalfOpen);
        }
        if self.worker >= self.workers {
            return Err(StackError::Worker {
                worker: self.worker,
                workers: self.workers,
            });
        }
        let (first, last) = self.source_ports;
        let ports = (u32::from(last) + 1).saturating_sub(u32::from(first));
        if first == 0 || ports < self.workers {
            return Err(StackError::SourcePorts {
                first,
                last,
                workers: self.workers,
            });
        }
        self.check_ports()
    }

    fn check_ports(&self) -> Result<(), StackError> {
        if self.ports.is_empty() {
            return Err(StackError::NoPort);
        }
        for (
            port,
            StackPort {
                mtu_bytes, oracle, ..
            },
        ) in self.ports.iter().enumerate()
        {
            if !(MTU_BYTES_MIN..=MTU_BYTES_MAX).contains(mtu_bytes) {
                return Err(StackError::Mtu {
                    port,
                    mtu_bytes: *mtu_bytes,
                });
            }
            if let Some(fault) = oracle.fault() {
                return Err(StackError::Oracle { port, fault });
            }
        }
        Ok(())
    }
}
