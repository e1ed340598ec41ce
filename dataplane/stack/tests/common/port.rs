//! A port whose rings are in memory: bounded, and without allocation once it is made.

use super::{MTU_BYTES, Tcp, checksum};
use std::os::fd::BorrowedFd;
use tidegate_port::{
    ETHERNET_HEADER_BYTES, Flushed, Port, PortCounters, PortInfo, PortMode, RxQueue, TxQueue,
};

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

    pub fn last_mut(&mut self) -> &mut [u8] {
        let at = (self.first + self.len - 1) % self.frames.len();
        &mut self.frames[at][..self.bytes[at]]
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
    /// The device completes checksums.
    pub completes: bool,
    /// Frames that it completed.
    pub completed: usize,
}

impl TxQueue for Tx {
    fn room(&mut self) -> usize {
        self.ring.room()
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.ring.push(bytes, fill)
    }

    fn completes_checksums(&self) -> bool {
        self.completes
    }

    fn complete_checksum(&mut self, tcp_at: usize) {
        let segment = &mut self.ring.last_mut()[ETHERNET_HEADER_BYTES + tcp_at..];
        let sum = checksum(segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        self.completed += 1;
    }

    fn show(&mut self, _look: &mut dyn FnMut(&[u8])) {
        unreachable!("nobody captures here");
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
                completes: false,
                completed: 0,
            },
            mac,
        }
    }

    /// Takes the frames that were sent and nobody has taken.
    pub fn take_frames(&mut self) -> Vec<Vec<u8>> {
        let ring = &mut self.tx.ring;
        let sent = (0..ring.len()).map(|index| ring.get(index).to_vec());
        let sent = sent.collect();
        ring.drop_front(ring.len());
        sent
    }

    /// The same, read.
    pub fn take_sent(&mut self) -> Vec<Tcp> {
        let sent = self.take_frames();
        sent.iter().map(|frame| Tcp::read(frame)).collect()
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

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&mut self) -> PortCounters {
        PortCounters::default()
    }
}
