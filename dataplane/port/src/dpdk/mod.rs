//! DPDK: queues of a card that DPDK drives, or of one of its virtual devices, through capsule.
//!
//! One process serves all queues, each on a thread that capsule pins to a core and that runs one pipeline: a future that turns our
//! own loop [`TURNS_PER_POLL`] times, wakes itself, and lets capsule's executor look around. capsule initialises EAL, makes the
//! memory pool of what is received, and configures and starts the devices. Frames do not pass through its packet types: bursts
//! are DPDK's own calls, because capsule's allocate twice per burst and drop in silence what the device does not take
//! (docs/dpdk.md has the measurement).
//!
//! * [`DpdkConfig`] says what to open; everything in it is checked before EAL sees it.
//! * [`run`] opens it and turns the loops until they end.
//! * [`DpdkPort`] is one queue pair, as a [`Port`].
//! * [`Device`] is what all queues of a device share: link, statistics, receive side scaling.
//!
//! ```text
//!   capsule's pool ──▶ device ──▶ burst() ──▶ release() ──▶ capsule's pool          what is received
//!
//!   own pool ──▶ stash ──▶ push() ──▶ queued ──▶ flush() ──▶ device ──▶ own pool    what is sent
//! ```
//!
//! Each queue has a pool of its own for what it sends. So receiving cannot be starved by sending, and a device may give the mbufs
//! of a queue back to one pool without a look at them, which capsule allows it (`MBUF_FAST_FREE`).

mod checks;
mod config;
mod device;
mod engine;
mod error;
mod foresight;
mod log;
mod pool;
mod rss;
mod rx;
#[cfg(test)]
mod tests;
mod tx;
mod watch;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

pub use config::{DeviceConfig, DeviceKind, DpdkConfig, Memory, PciAddress};
pub use device::{Device, DeviceStatistics, Link, Offloads};
pub use engine::{MakeLoop, Outcome, QueueLoop, StartError, TURNS_PER_POLL, run};
pub use error::DpdkError;
pub use foresight::foresee;
pub use rx::DpdkRx;
pub use tx::DpdkTx;

use watch::{Seen, Watch};

use crate::{Port, PortCounters, PortInfo, PortMode};

/// One queue pair of a device. It belongs to the thread that [`run`] made for it.
#[derive(Debug)]
pub struct DpdkPort {
    rx: DpdkRx,
    tx: DpdkTx,
    device: Device,
    worker: usize,
    /// What the main thread sees of the device; where it is another queue that counts it, nothing ever.
    seen: Arc<Seen>,
}

/// Mbufs that are in no pool: in the device, in a burst, or written and not sent yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MbufsInUse {
    /// Of the pool that all queues of the memory node receive into.
    pub receive: u32,
    /// Of the queue's own pool.
    pub transmit: u32,
}

impl DpdkPort {
    fn open(
        device: &Device,
        worker: usize,
        queue: u16,
        ring_size: u16,
        watch: &Watch,
    ) -> Result<Self, DpdkError> {
        let pool = pool::for_transmission(device, queue, ring_size)?;
        Ok(Self {
            worker,
            rx: DpdkRx::new(device, queue),
            tx: DpdkTx::new(device, queue, pool),
            device: device.clone(),
            // What the device counts for all of its queues is counted by queue 0, so that the queues add up.
            seen: if queue == 0 {
                watch.add(device)
            } else {
                Arc::default()
            },
        })
    }

    /// What all queues of the device share.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The worker, from 0, and with it the queue.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Exchanges the transmit halves of two ports of one thread: each of two loops ([`DeviceKind::Loop`]) then receives what the
    /// port on the other one sends. For measurements and tests.
    ///
    /// A half keeps what is its own: the frames that wait in it leave by their device, and its pool goes with it. What devices
    /// count stays with the half that receives. Both ports carry what the smaller of their MTUs allows.
    pub fn exchange_tx(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.tx, &mut other.tx);
        let mtu_bytes = self.device.mtu_bytes().min(other.device.mtu_bytes());
        self.device.limit_mtu(mtu_bytes);
        other.device.limit_mtu(mtu_bytes);
    }

    /// Counts what is in use. Walks the caches of every thread: for tests and for status, not for every turn.
    pub fn mbufs_in_use(&self) -> MbufsInUse {
        MbufsInUse {
            receive: pool::for_reception(self.device.node()).map_or(0, pool::Pool::in_use),
            transmit: self.tx.in_use(),
        }
    }
}

impl Port for DpdkPort {
    type Rx = DpdkRx;
    type Tx = DpdkTx;

    fn halves(&mut self) -> (&mut DpdkRx, &mut DpdkTx) {
        (&mut self.rx, &mut self.tx)
    }

    fn info(&self) -> PortInfo {
        PortInfo {
            mac: self.device.mac(),
            mtu_bytes: self.device.mtu_bytes(),
            mode: PortMode::Dpdk,
        }
    }

    /// DPDK is polled.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&mut self) -> PortCounters {
        PortCounters {
            rx_frames: self.rx.frames,
            rx_bytes: self.rx.bytes,
            tx_frames: self.tx.frames,
            tx_bytes: self.tx.bytes,
            rx_dropped: self.rx.unfit + self.seen.rx_errors(),
            rx_ring_full: self.seen.rx_ring_full(),
            rx_fill_ring_empty: self.seen.rx_no_mbuf(),
            tx_dropped: self.seen.tx_errors(),
            link_down: self.seen.link_down(),
            ..PortCounters::default()
        }
    }
}
