//! A port over shared memory: what one side transmits, the other receives.
//!
//! It serves simulation (both sides in one process, driven by one thread) and benchmarks (two processes), with the same
//! stack and proxy code above it as a NIC. It loses nothing: a full ring shows as no [`TxQueue::room`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::doorbell::Doorbell;
use crate::frame_ring::{self, Consumer, FRAME_BYTES_MAX, Popped, Producer, RingError, SLOT_BYTES};
use crate::{
    BURST_MAX, ETHERNET_HEADER_BYTES, Flushed, Port, PortCounters, PortInfo, PortMode, RxQueue,
    TxQueue,
};

/// Slots of a ring when nothing else is asked for: 2 MiB per direction, 16 full bursts.
pub const DEFAULT_SLOTS: usize = 1_024;

/// Largest MTU of a wire.
pub const MTU_BYTES_MAX: usize = FRAME_BYTES_MAX - ETHERNET_HEADER_BYTES;

/// Why a wire could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A ring failed.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The MTU does not fit a slot.
    #[error("a wire carries an MTU of at most {MTU_BYTES_MAX} bytes, not {0}: lower mtu_bytes")]
    Mtu(usize),
    /// No more descriptors.
    #[error(
        "cannot duplicate the descriptors of a wire: {0}; raise the limit of open files (ulimit -n)"
    )]
    Descriptors(#[from] io::Error),
}

/// What a wire pretends to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireConfig {
    /// Address of this end.
    pub mac: [u8; 6],
    /// Largest IP packet, at most [`MTU_BYTES_MAX`].
    pub mtu_bytes: usize,
}

/// The descriptors of one end of a wire, to be passed to the process that opens it.
#[derive(Debug)]
pub struct WireFds {
    /// The ring this end reads.
    pub receive: OwnedFd,
    /// The ring this end writes.
    pub transmit: OwnedFd,
    /// Rings for this end; `None` on a wire whose ends only poll.
    pub own_bell: Option<OwnedFd>,
    /// Rings for the other end.
    pub peer_bell: Option<OwnedFd>,
}

/// Two ends in this process. They only poll.
pub fn pair_in_process(
    slots: usize,
    a: WireConfig,
    b: WireConfig,
) -> Result<(WirePort, WirePort), WireError> {
    let (a_writes, b_reads) = frame_ring::in_process(slots)?;
    let (b_writes, a_reads) = frame_ring::in_process(slots)?;
    Ok((
        WirePort::new(a_reads, a_writes, None, None, a)?,
        WirePort::new(b_reads, b_writes, None, None, b)?,
    ))
}

/// Two ends for two processes, as memfds. With `bells` an end can sleep until frames arrive; without them it has to poll,
/// and no flush makes a system call.
pub fn create_shared(slots: usize, bells: bool) -> Result<(WireFds, WireFds), WireError> {
    let a_to_b = frame_ring::create_fd("tidegate-wire", slots)?;
    let b_to_a = frame_ring::create_fd("tidegate-wire", slots)?;
    let bell = || -> io::Result<Option<OwnedFd>> {
        if bells {
            Ok(Some(Doorbell::new()?.into_fd()))
        } else {
            Ok(None)
        }
    };
    let copy = |bell: &Option<OwnedFd>| bell.as_ref().map(OwnedFd::try_clone).transpose();
    let (a_bell, b_bell) = (bell()?, bell()?);
    let a = WireFds {
        receive: b_to_a.try_clone()?,
        transmit: a_to_b.try_clone()?,
        own_bell: copy(&a_bell)?,
        peer_bell: copy(&b_bell)?,
    };
    let b = WireFds {
        receive: a_to_b,
        transmit: b_to_a,
        own_bell: b_bell,
        peer_bell: a_bell,
    };
    Ok((a, b))
}

/// One end of a wire made by [`create_shared`]. Each end may be open in one process at a time; one that died can be
/// replaced from the same descriptors.
pub fn open(fds: WireFds, config: WireConfig) -> Result<WirePort, WireError> {
    let receive = Consumer::open(fds.receive.as_fd())?;
    let transmit = Producer::open(fds.transmit.as_fd())?;
    let own_bell = fds.own_bell.map(Doorbell::from_fd);
    let peer_bell = fds.peer_bell.map(Doorbell::from_fd);
    WirePort::new(receive, transmit, own_bell, peer_bell, config)
}

/// One end of a wire.
#[derive(Debug)]
pub struct WirePort {
    rx: WireRx,
    tx: WireTx,
    info: PortInfo,
    own_bell: Option<Doorbell>,
}

/// The receive half of a wire.
#[derive(Debug)]
pub struct WireRx {
    ring: Consumer,
    /// The frames of the burst, copied out of the shared memory.
    frames: Box<[[u8; SLOT_BYTES]]>,
    lengths: [u16; BURST_MAX],
    in_burst: usize,
    received: u64,
    received_bytes: u64,
}

/// The transmit half of a wire.
#[derive(Debug)]
pub struct WireTx {
    ring: Producer,
    peer_bell: Option<Doorbell>,
    sent: u64,
    /// Frames sent so far when they were last shown.
    shown: u64,
    sent_bytes: u64,
    kicks: u64,
}

impl WirePort {
    fn new(
        receive: Consumer,
        transmit: Producer,
        own_bell: Option<Doorbell>,
        peer_bell: Option<Doorbell>,
        config: WireConfig,
    ) -> Result<Self, WireError> {
        if config.mtu_bytes > MTU_BYTES_MAX {
            return Err(WireError::Mtu(config.mtu_bytes));
        }
        let rx = WireRx {
            ring: receive,
            frames: vec![[0; SLOT_BYTES]; BURST_MAX].into_boxed_slice(),
            lengths: [0; BURST_MAX],
            in_burst: 0,
            received: 0,
            received_bytes: 0,
        };
        let tx = WireTx {
            ring: transmit,
            peer_bell,
            sent: 0,
            shown: 0,
            sent_bytes: 0,
            kicks: 0,
        };
        let info = PortInfo {
            mac: config.mac,
            mtu_bytes: config.mtu_bytes,
            mode: PortMode::Wire,
        };
        Ok(Self {
            rx,
            tx,
            info,
            own_bell,
        })
    }
}

impl RxQueue for WireRx {
    fn burst(&mut self, max: usize) -> usize {
        debug_assert!(self.in_burst == 0, "the burst before was not released");
        let take = self.ring.waiting().min(max).min(BURST_MAX);
        let mut kept = 0;
        for _ in 0..take {
            if let Some(Popped::Frame { bytes, .. }) = self.ring.pop(&mut self.frames[kept]) {
                self.lengths[kept] = bytes as u16;
                self.received_bytes += bytes as u64;
                kept += 1;
            }
        }
        if take > 0 {
            // The frames are copies, so the slots need not wait for the end of the burst.
            self.ring.release();
        }
        self.received += kept as u64;
        self.in_burst = kept;
        kept
    }

    fn waiting(&mut self) -> usize {
        self.ring.waiting()
    }

    fn frame(&self, index: usize) -> &[u8] {
        assert!(
            index < self.in_burst,
            "frame {index} of a burst of {}",
            self.in_burst
        );
        &self.frames[index][..self.lengths[index] as usize]
    }

    fn release(&mut self) {
        self.in_burst = 0;
    }
}

impl TxQueue for WireTx {
    fn room(&mut self) -> usize {
        self.ring.room()
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let result = self.ring.push(0, bytes, fill);
        self.sent += 1;
        self.sent_bytes += bytes as u64;
        result
    }

    fn show(&mut self, look: &mut dyn FnMut(&[u8])) {
        let unseen = self.sent - self.shown;
        self.ring
            .show(usize::try_from(unseen).unwrap_or(usize::MAX), look);
        self.shown = self.sent;
    }

    fn flush(&mut self) -> Flushed {
        let mut kicks = 0;
        if self.ring.publish()
            && let Some(bell) = &self.peer_bell
        {
            bell.ring();
            kicks = 1;
        }
        self.kicks += u64::from(kicks);
        // What is published has left: the other side takes it without our help.
        Flushed { pending: 0, kicks }
    }
}

impl Port for WirePort {
    type Rx = WireRx;
    type Tx = WireTx;

    fn halves(&mut self) -> (&mut WireRx, &mut WireTx) {
        (&mut self.rx, &mut self.tx)
    }

    fn info(&self) -> PortInfo {
        self.info
    }

    fn wait_fd(&self) -> Option<BorrowedFd<'_>> {
        self.own_bell.as_ref().map(AsFd::as_fd)
    }

    fn prepare_to_wait(&mut self) -> bool {
        let Some(bell) = &self.own_bell else {
            return false;
        };
        bell.silence();
        self.rx.ring.prepare_to_wait()
    }

    fn counters(&mut self) -> PortCounters {
        PortCounters {
            rx_frames: self.rx.received,
            rx_bytes: self.rx.received_bytes,
            tx_frames: self.tx.sent,
            tx_bytes: self.tx.sent_bytes,
            tx_kicks: self.tx.kicks,
            rx_dropped: self.rx.ring.length_faults() + self.rx.ring.index_faults(),
            tx_invalid: self.tx.ring.index_faults(),
            ..PortCounters::default()
        }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
