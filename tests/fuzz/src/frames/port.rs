//! A port in memory that holds its user to the rules: buffers are counted, and whoever loses one is found.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use tidegate_port::{BURST_MAX, Flushed, Port, PortCounters, PortInfo, PortMode, RxQueue, TxQueue};

/// Bytes of a buffer, as of a chunk of UMEM.
const CHUNK_BYTES: usize = 2_048;
/// Longest frame that a script sends.
pub(crate) const FRAME_BYTES_MAX: usize = 1_600;
/// Buffers of each half: a full burst and half of one more.
const CHUNKS: usize = BURST_MAX * 3 / 2;
/// What a buffer holds that is nobody's.
const NOBODYS: u8 = 0xa5;

/// Buffers, each of them either free or in one place.
struct Chunks {
    bytes: Vec<[u8; CHUNK_BYTES]>,
    free: Vec<usize>,
}

impl Chunks {
    fn new() -> Self {
        Self {
            bytes: vec![[NOBODYS; CHUNK_BYTES]; CHUNKS],
            free: (0..CHUNKS).collect(),
        }
    }

    fn give_back(&mut self, chunk: usize) {
        assert!(!self.free.contains(&chunk), "a buffer comes back twice");
        self.bytes[chunk].fill(NOBODYS);
        self.free.push(chunk);
    }
}

/// A buffer and how much of it is used.
type Held = (usize, usize);

/// The receive half.
pub(crate) struct Rx {
    chunks: Chunks,
    ring: VecDeque<Held>,
    burst: Vec<Held>,
    /// Frames that were given to the worker.
    pub(crate) given: u64,
}

/// The transmit half.
pub(crate) struct Tx {
    chunks: Chunks,
    queued: VecDeque<Held>,
    /// The link takes nothing.
    pub(crate) is_stuck: bool,
    sent: VecDeque<Vec<u8>>,
}

/// Both.
pub(crate) struct MemoryPort {
    pub(crate) rx: Rx,
    pub(crate) tx: Tx,
    info: PortInfo,
}

impl MemoryPort {
    pub(crate) fn new(mac: [u8; 6], mtu_bytes: usize) -> Self {
        Self {
            rx: Rx {
                chunks: Chunks::new(),
                ring: VecDeque::new(),
                burst: Vec::new(),
                given: 0,
            },
            tx: Tx {
                chunks: Chunks::new(),
                queued: VecDeque::new(),
                is_stuck: false,
                sent: VecDeque::new(),
            },
            info: PortInfo {
                mac,
                mtu_bytes,
                mode: PortMode::Wire,
            },
        }
    }

    /// A frame arrives. Without a free buffer it is lost, as at any card.
    pub(crate) fn arrive(&mut self, frame: &[u8]) {
        let Some(chunk) = self.rx.chunks.free.pop() else {
            return;
        };
        let frame = &frame[..frame.len().min(FRAME_BYTES_MAX)];
        self.rx.chunks.bytes[chunk][..frame.len()].copy_from_slice(frame);
        self.rx.ring.push_back((chunk, frame.len()));
    }

    /// The next frame that left.
    pub(crate) fn take_sent(&mut self) -> Option<Vec<u8>> {
        self.tx.sent.pop_front()
    }

    /// Whether every buffer is free, or the device's.
    pub(crate) fn assert_nothing_lost(&self) {
        let (rx, tx) = (&self.rx, &self.tx);
        assert_eq!(rx.chunks.free.len() + rx.ring.len(), CHUNKS, "received");
        assert!(rx.burst.is_empty(), "a burst was not released");
        assert_eq!(tx.chunks.free.len() + tx.queued.len(), CHUNKS, "to be sent");
    }
}

impl RxQueue for Rx {
    fn burst(&mut self, max: usize) -> usize {
        assert!(self.burst.is_empty(), "the burst before was not released");
        let count = self.ring.len().min(max).min(BURST_MAX);
        self.burst.extend(self.ring.drain(..count));
        self.given += count as u64;
        count
    }

    fn waiting(&mut self) -> usize {
        self.ring.len()
    }

    fn frame(&self, index: usize) -> &[u8] {
        let (chunk, bytes) = self.burst[index];
        &self.chunks.bytes[chunk][..bytes]
    }

    fn release(&mut self) {
        for (chunk, _) in self.burst.drain(..) {
            self.chunks.give_back(chunk);
        }
    }
}

impl TxQueue for Tx {
    fn room(&mut self) -> usize {
        self.chunks.free.len()
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let chunk = self.chunks.free.pop().expect("push without room");
        self.queued.push_back((chunk, bytes));
        fill(&mut self.chunks.bytes[chunk][..bytes])
    }

    fn show(&mut self, _look: &mut dyn FnMut(&[u8])) {
        unreachable!("nobody captures here");
    }

    fn flush(&mut self) -> Flushed {
        if !self.is_stuck {
            for (chunk, bytes) in self.queued.drain(..) {
                self.sent
                    .push_back(self.chunks.bytes[chunk][..bytes].to_vec());
                self.chunks.give_back(chunk);
            }
        }
        Flushed {
            pending: self.queued.len(),
            kicks: 0,
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
        self.info
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn counters(&mut self) -> PortCounters {
        PortCounters::default()
    }
}
