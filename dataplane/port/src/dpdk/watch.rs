//! What a device says of itself, from the main thread to the worker that counts it.
//!
//! Reading counts and link takes a card some hundred accesses of its registers, and with some drivers a conversation with its
//! firmware: milliseconds in which a worker would leave its ring to overflow. The main thread has nothing else to do. Values are told one
//! by one: each is right by itself, and nobody adds up two of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::device::{Device, DeviceStatistics, Link};

/// The last look at a device.
#[derive(Debug, Default)]
pub(super) struct Seen {
    rx_ring_full: AtomicU64,
    rx_no_mbuf: AtomicU64,
    rx_errors: AtomicU64,
    tx_errors: AtomicU64,
    link_down: AtomicU64,
}

impl Seen {
    /// Counts that could not be read stay what they were.
    fn note(&self, statistics: Option<DeviceStatistics>, link: Link) {
        if let Some(statistics) = statistics {
            let set = |place: &AtomicU64, value| place.store(value, Ordering::Relaxed);
            set(&self.rx_ring_full, statistics.rx_ring_full);
            set(&self.rx_no_mbuf, statistics.rx_no_mbuf);
            set(&self.rx_errors, statistics.rx_errors);
            set(&self.tx_errors, statistics.tx_errors);
        }
        let link_down = u64::from(!link.is_up);
        self.link_down.store(link_down, Ordering::Relaxed);
    }

    pub(super) fn rx_ring_full(&self) -> u64 {
        self.rx_ring_full.load(Ordering::Relaxed)
    }

    pub(super) fn rx_no_mbuf(&self) -> u64 {
        self.rx_no_mbuf.load(Ordering::Relaxed)
    }

    pub(super) fn rx_errors(&self) -> u64 {
        self.rx_errors.load(Ordering::Relaxed)
    }

    pub(super) fn tx_errors(&self) -> u64 {
        self.tx_errors.load(Ordering::Relaxed)
    }

    /// 1 while there is no link.
    pub(super) fn link_down(&self) -> u64 {
        self.link_down.load(Ordering::Relaxed)
    }
}

/// All devices that are looked at.
#[derive(Debug, Default)]
pub(super) struct Watch {
    devices: Mutex<Vec<(Device, Arc<Seen>)>>,
}

impl Watch {
    /// Looks at `device` too from now on.
    pub(super) fn add(&self, device: &Device) -> Arc<Seen> {
        let seen = Arc::new(Seen::default());
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.push((device.clone(), seen.clone()));
        seen
    }

    /// One look at each. A driver's calls of this kind must not meet others of the same device on another thread, so it is not for the time
    /// in which workers open theirs.
    pub(super) fn look(&self) {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        for (device, seen) in &*devices {
            seen.note(device.statistics(), device.link());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_stays_what_it_was() {
        let seen = Seen::default();
        let up = Link {
            is_up: true,
            speed_mbps: None,
            full_duplex: true,
        };
        let counted = DeviceStatistics {
            rx_ring_full: 1,
            rx_no_mbuf: 2,
            rx_errors: 3,
            tx_errors: 4,
            ..DeviceStatistics::default()
        };
        seen.note(Some(counted), up);
        assert_eq!(seen.link_down(), 0);
        seen.note(None, Link { is_up: false, ..up });
        let counts = [
            seen.rx_ring_full(),
            seen.rx_no_mbuf(),
            seen.rx_errors(),
            seen.tx_errors(),
            seen.link_down(),
        ];
        assert_eq!(counts, [1, 2, 3, 4, 1]);
    }
}
