//! AF_XDP: one socket with its own UMEM on one queue of one interface.
//!
//! The socket only moves frames. Which frames reach it is decided by the XDP program (`xdp`), which belongs to the
//! management process: the worker passes its descriptor there ([`AfXdpPort`] implements [`AsFd`]), the manager inserts it
//! into the XSKMAP and closes its copy, so that the socket dies with the worker.
//!
//! ```text
//!            fill ring ──▶ kernel ──▶ RX ring ──▶ burst()         receive chunks circle here
//!                ▲                                   │
//!                └────────────── release() ◀─────────┘
//!
//!  push() ──▶ TX ring ──▶ kernel ──▶ completion ring ──▶ free list transmit chunks circle here
//!     ▲                                                      │
//!     └──────────────────────────────────────────────────────┘
//! ```

#[cfg(test)]
mod chunk_tests;
mod error;
mod ring;
mod rx;
mod socket;
#[cfg(test)]
mod tests;
mod tx;
mod umem;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

pub use error::AfXdpError;
pub use rx::AfXdpRx;
pub use tx::AfXdpTx;

use crate::{BURST_MAX, ETHERNET_HEADER_BYTES, Port, PortCounters, PortInfo, PortMode};

/// Fewest entries of a ring: two bursts, so that one can be on its way while the other is worked on.
pub const RING_SIZE_MIN: u32 = 2 * BURST_MAX as u32;

/// Most entries of a ring: 256 MiB of buffers per queue, half a second of small requests at 120,000 per second.
pub const RING_SIZE_MAX: u32 = 65_536;

/// Entries when nothing else is asked for: they outlast 60 ms without the core at 130,000 frames per second; 32 MiB.
pub const DEFAULT_RING_SIZE: u32 = 8_192;

/// Largest MTU: in copy mode the kernel keeps its headroom free in each chunk.
pub const MTU_BYTES_MAX: usize = umem::CHUNK_BYTES - umem::HEADROOM_BYTES - ETHERNET_HEADER_BYTES;

/// Frames on the link and not completed, when nothing else is asked for: three quarters of veth's peer ring of 256, which the
/// kernel's own ARP and NDP frames share.
pub const DEFAULT_IN_FLIGHT_MAX: u32 = 192;

/// How long a queue may stay busy after its last owner died. Freeing takes 30 to 150 ms.
pub const DEFAULT_BIND_DEADLINE: Duration = Duration::from_secs(2);

/// Pause between two attempts to bind.
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// What to open and how.
#[derive(Clone, Copy, Debug)]
pub struct AfXdpConfig {
    /// The interface.
    pub ifindex: u32,
    /// The queue, from 0.
    pub queue: u32,
    /// Entries of each of the four rings, and chunks on each side: a power of two.
    pub ring_size: u32,
    /// MTU of the interface, at most [`MTU_BYTES_MAX`].
    pub mtu_bytes: usize,
    /// Address of the interface.
    pub mac: [u8; 6],
    /// The XDP program is attached behind the driver (generic): zero-copy is not tried.
    pub generic: bool,
    /// Fail rather than copy.
    pub require_zero_copy: bool,
    /// Most frames that the link may hold (copy modes only; 0: as many as the ring). See [`DEFAULT_IN_FLIGHT_MAX`].
    pub in_flight_max: u32,
    /// How long to repeat a bind that finds the queue busy.
    pub bind_deadline: Duration,
}

/// One queue of one interface through AF_XDP.
pub struct AfXdpPort {
    rx: AfXdpRx,
    tx: AfXdpTx,
    socket: Arc<socket::Socket>,
    info: PortInfo,
}

impl AfXdpPort {
    /// Allocates the buffers and binds the queue. Frames arrive once the manager has put the socket into the XSKMAP.
    pub fn open(config: &AfXdpConfig) -> Result<Self, AfXdpError> {
        let ring_size = config.ring_size;
        if !ring_size.is_power_of_two() || !(RING_SIZE_MIN..=RING_SIZE_MAX).contains(&ring_size) {
            return Err(AfXdpError::RingSize(ring_size));
        }
        if config.mtu_bytes > MTU_BYTES_MAX {
            let interface = error::interface(config.ifindex);
            return Err(AfXdpError::Mtu {
                interface,
                mtu_bytes: config.mtu_bytes,
            });
        }
        let opened = socket::open(config)?;
        let mode = match (opened.zero_copy, config.generic) {
            (true, _) => PortMode::ZeroCopy,
            (false, false) => PortMode::Copy,
            (false, true) => PortMode::Generic,
        };
        // In zero-copy modes the link is the driver's own ring, which takes what fits and loses nothing.
        let limits = match (opened.zero_copy, config.in_flight_max) {
            (true, _) => tx::TxLimits {
                kick: ring_size,
                in_flight: ring_size,
                zero_copy: true,
            },
            (false, 0) => tx::TxLimits {
                kick: opened.tx_budget,
                in_flight: ring_size,
                zero_copy: false,
            },
            (false, most) => tx::TxLimits {
                kick: opened.tx_budget,
                in_flight: most.min(ring_size),
                zero_copy: false,
            },
        };
        let socket = opened.socket;
        Ok(Self {
            rx: AfXdpRx::new(socket.clone(), opened.fill, opened.rx),
            tx: AfXdpTx::new(socket.clone(), opened.tx, opened.completion, limits),
            socket,
            info: PortInfo {
                mac: config.mac,
                mtu_bytes: config.mtu_bytes,
                mode,
            },
        })
    }
}

/// The buffers and rings would fill pages.
impl fmt::Debug for AfXdpPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AfXdpPort")
            .field("fd", &self.socket.fd)
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl AsFd for AfXdpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd.as_fd()
    }
}

impl Port for AfXdpPort {
    type Rx = AfXdpRx;
    type Tx = AfXdpTx;

    fn halves(&mut self) -> (&mut AfXdpRx, &mut AfXdpTx) {
        (&mut self.rx, &mut self.tx)
    }

    fn info(&self) -> PortInfo {
        self.info
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.fd.as_fd())
    }

    fn counters(&mut self) -> PortCounters {
        let mut counters = PortCounters {
            rx_frames: self.rx.frames,
            rx_bytes: self.rx.bytes,
            tx_frames: self.tx.frames,
            tx_bytes: self.tx.bytes,
            tx_kicks: self.tx.kicks,
            tx_kick_retries: self.tx.kick_retries,
            tx_dropped: self.tx.dropped,
            ..PortCounters::default()
        };
        // The call cannot fail on a bound socket; if it did, our own counts would still be worth showing.
        if let Ok(kernel) = socket::statistics(&self.socket.fd) {
            counters.rx_dropped = kernel.rx_dropped + kernel.rx_invalid_descs;
            counters.rx_ring_full = kernel.rx_ring_full;
            counters.rx_fill_ring_empty = kernel.rx_fill_ring_empty_descs;
            counters.tx_invalid = kernel.tx_invalid_descs;
        }
        counters
    }
}
