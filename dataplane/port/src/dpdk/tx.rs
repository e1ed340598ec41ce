//! The transmit half: pool → stash → queued → device → pool.

use std::ptr;

use capsule_ffi as ffi;

use super::device::Device;
use super::pool::Pool;
use crate::dpdk_memory::QUEUED_MAX;
use crate::{BURST_MAX, ETHERNET_HEADER_BYTES, Flushed, TxQueue};

/// The transmit half of a DPDK port.
#[derive(Debug)]
pub struct DpdkTx {
    port: u16,
    queue: u16,
    pool: Pool,
    /// Empty mbufs, taken off the pool in bulk.
    stash: [*mut ffi::rte_mbuf; BURST_MAX],
    stashed: usize,
    /// Frames that the device has not taken yet: `taken..queued_end`.
    queued: Box<[*mut ffi::rte_mbuf; QUEUED_MAX]>,
    taken: usize,
    queued_end: usize,
    /// Frames queued so far when they were last shown to a capture.
    shown: u64,
    frame_bytes_max: usize,
    completes_checksums: bool,
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

/// The shortest frame, without its checksum. Not every driver pads what is shorter, as an acknowledgement over IPv4 is.
const FRAME_BYTES_MIN: usize = 60;

/// Where the header lengths of a frame stand in an mbuf's `tx_offload`.
const IP_HEADER_SHIFT: u32 = 7;

impl DpdkTx {
    pub(super) fn new(device: &Device, queue: u16, pool: Pool) -> Self {
        Self {
            port: device.id(),
            queue,
            pool,
            stash: [ptr::null_mut(); BURST_MAX],
            stashed: 0,
            queued: Box::new([ptr::null_mut(); QUEUED_MAX]),
            taken: 0,
            queued_end: 0,
            shown: 0,
            frame_bytes_max: device.frame_bytes_max(),
            completes_checksums: device.offloads().tx_tcp,
            frames: 0,
            bytes: 0,
        }
    }

    /// Mbufs that are not in the pool, but for those of the stash.
    pub(super) fn in_use(&self) -> u32 {
        self.pool.in_use().saturating_sub(self.stashed as u32)
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> Pool {
        self.pool
    }

    /// Fills the stash. A pool takes all or nothing, so with few left they come one by one.
    fn refill(&mut self) {
        let free = &mut self.stash[self.stashed..];
        if self.pool.take_all(free) {
            self.stashed = BURST_MAX;
            return;
        }
        for place in free {
            let Some(mbuf) = self.pool.take_one() else {
                break;
            };
            *place = mbuf;
            self.stashed += 1;
        }
    }

    fn queued(&self) -> usize {
        self.queued_end - self.taken
    }
}

/// The first `bytes` of an mbuf's data.
///
/// # Safety
///
/// The mbuf is the caller's alone, its buffer has that many bytes behind `data_off`, and `'a` ends before it is given away.
unsafe fn data<'a>(mbuf: *mut ffi::rte_mbuf, bytes: usize) -> &'a mut [u8] {
    // SAFETY: as the caller promised. Pools are made of zeroed memory, so every byte has a value.
    unsafe {
        let data = (*mbuf)
            .buf_addr
            .cast::<u8>()
            .add(usize::from((*mbuf).data_off));
        std::slice::from_raw_parts_mut(data, bytes)
    }
}

impl TxQueue for DpdkTx {
    #[inline]
    fn room(&mut self) -> usize {
        if self.stashed == 0 {
            self.refill();
        }
        self.stashed.min(QUEUED_MAX - self.queued())
    }

    #[inline]
    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(
            bytes <= self.frame_bytes_max,
            "a frame of {bytes} bytes does not fit the MTU"
        );
        assert!(
            self.stashed > 0 && self.queued() < QUEUED_MAX,
            "push without room"
        );
        if self.queued_end == QUEUED_MAX {
            self.queued.copy_within(self.taken.., 0);
            self.queued_end -= self.taken;
            self.taken = 0;
        }
        self.stashed -= 1;
        let mbuf = self.stash[self.stashed];
        let frame_bytes = bytes.max(FRAME_BYTES_MIN);
        // SAFETY: the mbuf is ours; a new one is one empty segment, whose room is larger than any frame of the MTU.
        let frame = unsafe {
            (*mbuf).data_len = frame_bytes as u16;
            (*mbuf).pkt_len = frame_bytes as u32;
            data(mbuf, frame_bytes)
        };
        let (written, padding) = frame.split_at_mut(bytes);
        let result = fill(written);
        // The mbuf may have been another frame, whose bytes are nobody's business. A device that computes a checksum to the end of
        // the frame finds nothing to add. Few frames are so short, and to fill nothing is a call as well.
        if !padding.is_empty() {
            padding.fill(0);
        }
        self.queued[self.queued_end] = mbuf;
        self.queued_end += 1;
        self.frames += 1;
        self.bytes += frame_bytes as u64;
        result
    }

    #[inline]
    fn completes_checksums(&self) -> bool {
        self.completes_checksums
    }

    #[inline]
    fn complete_checksum(&mut self, tcp_at: usize) {
        let Some(last) = self.queued[self.taken..self.queued_end].last() else {
            return;
        };
        let mbuf = *last;
        // SAFETY: pushed and not flushed, so it is ours alone, with an IP header behind the Ethernet header. A new mbuf has neither
        // flags nor lengths.
        unsafe {
            let is_ipv4 = data(mbuf, ETHERNET_HEADER_BYTES + 1)[ETHERNET_HEADER_BYTES] >> 4 == 4;
            (*mbuf).ol_flags |= ffi::TIDEGATE_TX_COMPLETE_TCP
                | if is_ipv4 {
                    ffi::TIDEGATE_TX_IS_IPV4
                } else {
                    ffi::TIDEGATE_TX_IS_IPV6
                };
            (*mbuf).__bindgen_anon_3.tx_offload =
                ETHERNET_HEADER_BYTES as u64 | (tcp_at as u64) << IP_HEADER_SHIFT;
        }
    }

    fn show(&mut self, look: &mut dyn FnMut(&[u8])) {
        let unseen = (self.frames - self.shown).min(self.queued() as u64) as usize;
        for mbuf in &self.queued[self.queued_end - unseen..self.queued_end] {
            // SAFETY: the device has not got it, so it is ours alone, and no other slice of it lives.
            look(unsafe { data(*mbuf, usize::from((**mbuf).data_len)) });
        }
        self.shown = self.frames;
    }

    #[inline]
    fn flush(&mut self) -> Flushed {
        while self.taken < self.queued_end {
            let waiting = &mut self.queued[self.taken..self.queued_end];
            let most = waiting.len() as u16;
            // SAFETY: the device is started, the queue is ours alone, and there are `most` mbufs. Those that it takes are
            // its own from now on.
            let sent = unsafe {
                ffi::_rte_eth_tx_burst(self.port, self.queue, waiting.as_mut_ptr(), most)
            };
            if sent == 0 {
                break;
            }
            self.taken += usize::from(sent);
        }
        if self.taken == self.queued_end {
            self.taken = 0;
            self.queued_end = 0;
        }
        // Which drivers make system calls, they do not say.
        Flushed {
            pending: self.queued(),
            kicks: 0,
        }
    }
}

impl Drop for DpdkTx {
    fn drop(&mut self) {
        let waiting = &mut self.queued[self.taken..self.queued_end];
        // SAFETY: neither the device nor the pool has any of these mbufs, and nobody can ask for them any more.
        unsafe {
            ffi::tidegate_free_bulk(waiting.as_mut_ptr(), waiting.len() as u32);
            ffi::tidegate_free_bulk(self.stash.as_mut_ptr(), self.stashed as u32);
        }
    }
}
