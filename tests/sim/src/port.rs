//! A worker's queue of the simulated card: rings in memory, bounded and counted as a real one's.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use tidegate_port::{BURST_MAX, Flushed, Port, PortCounters, PortInfo, PortMode, RxQueue, TxQueue};

/// Largest frame: what the product's ports have room for.
const FRAME_BYTES_MAX: usize = 2_048;

/// The receive half.
pub struct SimRx {
    ring: VecDeque<Vec<u8>>,
    slots: usize,
    burst: usize,
}

impl RxQueue for SimRx {
    fn burst(&mut self, max: usize) -> usize {
        self.burst = self.ring.len().min(max).min(BURST_MAX);
        self.burst
    }

    fn waiting(&mut self) -> usize {
        self.ring.len()
    }

    fn frame(&self, index: usize) -> &[u8] {
        assert!(index < self.burst, "a frame of the burst");
        &self.ring[index]
    }

    fn release(&mut self) {
        self.ring.drain(..self.burst);
        self.burst = 0;
    }
}

/// The transmit half.
pub struct SimTx {
    frames: Vec<Vec<u8>>,
    queued: usize,
    /// Of these, so many were handed to the card.
    flushed: usize,
    slots: usize,
}

impl TxQueue for SimTx {
    fn room(&mut self) -> usize {
        self.slots - self.queued
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(
            self.queued < self.slots && bytes <= FRAME_BYTES_MAX,
            "the stack looks for room first"
        );
        let frame = &mut self.frames[self.queued];
        self.queued += 1;
        // Within what was reserved.
        frame.resize(bytes, 0);
        fill(frame)
    }

    fn show(&mut self, look: &mut dyn FnMut(&[u8])) {
        self.frames[self.flushed..self.queued]
            .iter()
            .for_each(|frame| look(frame));
    }

    fn flush(&mut self) -> Flushed {
        self.flushed = self.queued;
        Flushed::default()
    }
}

/// A queue.
pub struct SimPort {
    rx: SimRx,
    tx: SimTx,
    mac: [u8; 6],
    counters: PortCounters,
}

impl SimPort {
    /// A queue with so many slots in each ring.
    pub fn new(mac: [u8; 6], slots: usize) -> Self {
        let frames = (0..slots).map(|_| Vec::with_capacity(FRAME_BYTES_MAX));
        Self {
            rx: SimRx {
                ring: VecDeque::with_capacity(slots),
                slots,
                burst: 0,
            },
            tx: SimTx {
                frames: frames.collect(),
                queued: 0,
                flushed: 0,
                slots,
            },
            mac,
            counters: PortCounters::default(),
        }
    }

    /// A frame arrives; with a full ring it is lost, and counted.
    pub fn arrive(&mut self, frame: Vec<u8>) {
        if self.rx.ring.len() == self.rx.slots {
            self.counters.rx_ring_full += 1;
            return;
        }
        self.counters.rx_frames += 1;
        self.counters.rx_bytes += frame.len() as u64;
        self.rx.ring.push_back(frame);
    }

    /// The card sends what it was handed.
    pub fn depart(&mut self, mut send: impl FnMut(&[u8])) {
        for frame in &self.tx.frames[..self.tx.flushed] {
            self.counters.tx_frames += 1;
            self.counters.tx_bytes += frame.len() as u64;
            send(frame);
        }
        let (queued, flushed) = (self.tx.queued, self.tx.flushed);
        self.tx.frames[..queued].rotate_left(flushed);
        self.tx.queued -= flushed;
        self.tx.flushed = 0;
    }

    /// What was counted.
    pub fn counted(&self) -> PortCounters {
        self.counters
    }

    /// Frames that wait to be received.
    pub fn waiting(&self) -> usize {
        self.rx.ring.len()
    }
}

impl Port for SimPort {
    type Rx = SimRx;
    type Tx = SimTx;

    fn halves(&mut self) -> (&mut SimRx, &mut SimTx) {
        (&mut self.rx, &mut self.tx)
    }

    fn info(&self) -> PortInfo {
        PortInfo {
            mac: self.mac,
            mtu_bytes: crate::MTU_BYTES,
            mode: PortMode::Wire,
        }
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&mut self) -> PortCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_a_full_ring_is_counted() {
        let mut port = SimPort::new([0; 6], 2);
        (0..3).for_each(|byte| port.arrive(vec![byte; 60]));
        let counted = port.counted();
        assert_eq!((counted.rx_frames, counted.rx_ring_full), (2, 1));
        let (rx, _) = port.halves();
        assert_eq!(rx.burst(64), 2);
        assert_eq!(rx.frame(1), [1; 60]);
        rx.release();
        assert_eq!(port.waiting(), 0);
    }

    #[test]
    fn only_what_was_flushed_departs() {
        let mut port = SimPort::new([0; 6], 2);
        let (_, tx) = port.halves();
        tx.push(60, |frame| frame.fill(1));
        tx.flush();
        tx.push(61, |frame| frame.fill(2));
        assert_eq!(tx.room(), 0);
        let mut sent = Vec::new();
        port.depart(|frame| sent.push(frame.to_vec()));
        assert_eq!(sent, [vec![1; 60]]);
        let (_, tx) = port.halves();
        assert_eq!(tx.room(), 1);
        tx.flush();
        port.depart(|frame| sent.push(frame.to_vec()));
        assert_eq!(sent[1], [2; 61]);
    }
}
