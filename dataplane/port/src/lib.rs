//! Frames in and out of one NIC queue.
//!
//! A port is a pair of rings over one receive queue and one transmit queue of an interface. It moves Ethernet frames and
//! knows nothing of what is in them. With `capsule-ffi` it is the only crate of the data plane with `unsafe`.
//!
//! * [`afxdp`]: an AF_XDP socket on a queue of a NIC, for a worker.
//! * `dpdk`: a queue of a device that DPDK drives, with the feature `dpdk`; [`dpdk_memory`] says what it takes.
//! * [`wire`]: frames through shared memory between two processes or inside one, for benchmarks and simulation.
//! * [`handover`]: frames that reached the wrong worker, through the same [`frame_ring`].
//! * [`capture`]: copies of frames for whoever writes them down, through such rings as well.
//! * [`xdp`]: the program that decides which frames reach the sockets, for the manager; assembled and loaded with [`bpf`].
//! * [`nic`]: what an interface is, for the manager.
//!
//! The receive and the transmit half are separate values, so that a frame can be read in place from the receive ring
//! while its answer is written in place into the transmit ring. They share no buffer: the UMEM is divided once, at start,
//! into receive frames (fill ring → RX ring → fill ring) and transmit frames (free list → TX ring → completion ring → free
//! list), so neither half can starve the other and no frame can be lost between them.

pub mod afxdp;
pub mod bpf;
pub mod capture;
pub mod cards;
pub mod doorbell;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod dpdk_memory;
pub mod frame_ring;
pub mod handover;
#[cfg(test)]
mod handover_tests;
mod mapping;
pub mod nic;
#[cfg(test)]
mod test_lab;
#[cfg(test)]
mod test_support;
pub mod wire;
pub mod xdp;

use std::os::fd::BorrowedFd;

/// Most frames of one burst. Larger bursts add latency to their first frame and fall out of the L1 cache; smaller ones
/// spread the cost of a turn of the poll loop over fewer frames.
pub const BURST_MAX: usize = 64;

/// Destination, source and type.
pub const ETHERNET_HEADER_BYTES: usize = 14;

/// How frames reach the process, as obtained (not as asked for).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortMode {
    /// AF_XDP, the NIC writes into our UMEM.
    ZeroCopy,
    /// AF_XDP in the driver, one copy per frame.
    Copy,
    /// AF_XDP behind the kernel's generic XDP hook, after the skb was built.
    Generic,
    /// Shared memory.
    Wire,
    /// DPDK drives the device.
    Dpdk,
}

/// What is fixed about a port once it is open.
#[derive(Clone, Copy, Debug)]
pub struct PortInfo {
    /// Address of the interface.
    pub mac: [u8; 6],
    /// Largest IP packet, in bytes, that one frame carries.
    pub mtu_bytes: usize,
    /// The mode that was obtained.
    pub mode: PortMode,
}

/// What one [`TxQueue::flush`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Frames still in the ring: the caller has to flush again soon.
    pub pending: usize,
    /// System calls made.
    pub kicks: u32,
}

/// Monotonic counts of a port since it was opened. Drops have one field per reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames handed to the device.
    pub tx_frames: u64,
    /// Bytes handed to the device.
    pub tx_bytes: u64,
    /// System calls that started transmission.
    pub tx_kicks: u64,
    /// Kicks that the kernel answered with EAGAIN, EBUSY or ENOBUFS and that were repeated.
    pub tx_kick_retries: u64,
    /// Frames dropped before our ring for another reason than those below: longer than a chunk, invalid descriptor.
    pub rx_dropped: u64,
    /// Frames the kernel dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Times the kernel found the fill ring empty.
    pub rx_fill_ring_empty: u64,
    /// Frames the device dropped although we had handed them over, as far as the kernel tells: veth's peer ring was full.
    pub tx_dropped: u64,
    /// TX descriptors that the kernel refused.
    pub tx_invalid: u64,
    /// No count: 1 while a device that the kernel does not see has no link. The first queue asks.
    pub link_down: u64,
}

/// The receive half of a port.
pub trait RxQueue {
    /// Makes up to `max` received frames, never more than [`BURST_MAX`], readable as `frame(0)` … `frame(n - 1)` and
    /// returns n. The burst before must have been released.
    fn burst(&mut self, max: usize) -> usize;
    /// Frames that wait in the ring (an under-estimate is allowed), without starting a burst.
    fn waiting(&mut self) -> usize;
    /// One frame of the current burst, Ethernet header first.
    fn frame(&self, index: usize) -> &[u8];
    /// Whether the device vouches for the TCP checksum of a frame of the current burst. Then it need not be looked at, and cannot be
    /// where the frame was never on a wire: a hypervisor's guests leave checksums to a card that is not there.
    #[inline]
    fn is_verified(&self, _index: usize) -> bool {
        false
    }
    /// Gives the frames of the burst back to the device.
    fn release(&mut self);
}

/// The transmit half of a port.
pub trait TxQueue {
    /// Frames that [`TxQueue::push`] can take now.
    fn room(&mut self) -> usize;
    /// Writes one frame of exactly `bytes` in place and queues it. The caller has checked [`TxQueue::room`]; without room
    /// or with more bytes than a frame holds this panics, because it is our own mistake.
    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;
    /// Whether the device computes TCP checksums for whoever calls [`TxQueue::complete_checksum`].
    #[inline]
    fn completes_checksums(&self) -> bool {
        false
    }
    /// Has the device complete the TCP checksum of the frame that was pushed last: its field holds the sum of the pseudo-header, and
    /// the TCP header begins `tcp_at` bytes behind the Ethernet header.
    #[inline]
    fn complete_checksum(&mut self, _tcp_at: usize) {}
    /// Shows the frames that were queued since they were last shown, as far as the device has not got them yet.
    fn show(&mut self, look: &mut dyn FnMut(&[u8]));
    /// Hands everything queued to the device and takes finished frames back; a bounded number of system calls.
    fn flush(&mut self) -> Flushed;
}

/// One queue of one interface.
pub trait Port {
    /// The receive half.
    type Rx: RxQueue;
    /// The transmit half.
    type Tx: TxQueue;
    /// Both halves at once, borrowed apart.
    fn halves(&mut self) -> (&mut Self::Rx, &mut Self::Tx);
    /// What is fixed about the port.
    fn info(&self) -> PortInfo;
    /// The descriptor that becomes readable when a frame arrives, for a worker that goes to sleep. `None`: nothing to
    /// sleep on, the caller has to poll.
    fn wait_fd(&self) -> Option<BorrowedFd<'_>>;
    /// Has to be called before each sleep on [`Port::wait_fd`]; `false`: something arrived meanwhile or there is nothing to
    /// sleep on, poll instead. A wire rings its bell only for an end that asked for it here. Room to transmit wakes nobody:
    /// an owner with frames that found no room has to poll.
    fn prepare_to_wait(&mut self) -> bool {
        self.wait_fd().is_some()
    }
    /// Counts since the port was opened, the kernel's included.
    fn counters(&mut self) -> PortCounters;
}
