//! The receive half: device → burst → pool.

use std::ptr;

use capsule_ffi as ffi;

use super::device::Device;
use crate::{BURST_MAX, RxQueue};

/// The receive half of a DPDK port.
#[derive(Debug)]
pub struct DpdkRx {
    port: u16,
    queue: u16,
    /// What was taken off the device: `..in_burst` is the burst, `..held` is ours.
    mbufs: [*mut ffi::rte_mbuf; BURST_MAX],
    held: usize,
    in_burst: usize,
    frame_bytes_max: usize,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    /// Frames that were longer than the MTU allows, or in several pieces.
    pub(super) unfit: u64,
}

impl DpdkRx {
    pub(super) fn new(device: &Device, queue: u16) -> Self {
        Self {
            port: device.id(),
            queue,
            mbufs: [ptr::null_mut(); BURST_MAX],
            held: 0,
            in_burst: 0,
            frame_bytes_max: device.frame_bytes_max(),
            frames: 0,
            bytes: 0,
            unfit: 0,
        }
    }

    /// Takes off the device what there is room for.
    #[inline]
    fn take(&mut self) {
        let free = &mut self.mbufs[self.held..];
        if free.is_empty() {
            return;
        }
        let most = free.len() as u16;
        // SAFETY: the device is started, the queue is ours alone, and there are `most` places.
        let taken =
            unsafe { ffi::_rte_eth_rx_burst(self.port, self.queue, free.as_mut_ptr(), most) };
        for place in self.held..self.held + usize::from(taken) {
            let mbuf = self.mbufs[place];
            // SAFETY: the device gave it to us, so it is valid and ours until it is freed.
            let (segments, bytes) = unsafe { ((*mbuf).nb_segs, usize::from((*mbuf).data_len)) };
            if segments == 1 && bytes <= self.frame_bytes_max {
                self.mbufs[self.held] = mbuf;
                self.held += 1;
                self.frames += 1;
                self.bytes += bytes as u64;
            } else {
                self.unfit += 1;
                // SAFETY: ours, as above, and forgotten here.
                unsafe { ffi::_rte_pktmbuf_free(mbuf) };
            }
        }
    }
}

impl RxQueue for DpdkRx {
    #[inline]
    fn burst(&mut self, max: usize) -> usize {
        debug_assert!(self.in_burst == 0, "the burst before was not released");
        if self.held == 0 {
            self.take();
        }
        self.in_burst = self.held.min(max);
        self.in_burst
    }

    /// Few drivers tell how many frames wait, so they are taken, and the next burst has them.
    #[inline]
    fn waiting(&mut self) -> usize {
        debug_assert!(self.in_burst == 0, "the burst before was not released");
        self.take();
        self.held
    }

    #[inline]
    fn frame(&self, index: usize) -> &[u8] {
        assert!(
            index < self.in_burst,
            "frame {index} of a burst of {}",
            self.in_burst
        );
        let mbuf = self.mbufs[index];
        // SAFETY: the mbuf is ours until release(), which needs &mut self and so ends the borrow. Its data are `data_len` bytes
        // behind `data_off` of its buffer, written by the device or, beyond what it wrote, zero since the pool was made.
        unsafe {
            let data = (*mbuf)
                .buf_addr
                .cast::<u8>()
                .add(usize::from((*mbuf).data_off));
            std::slice::from_raw_parts(data, usize::from((*mbuf).data_len))
        }
    }

    /// A driver that does not check checksums says nothing about any frame.
    #[inline]
    fn is_verified(&self, index: usize) -> bool {
        // SAFETY: an mbuf of the burst, as for `frame`.
        index < self.in_burst
            && unsafe { (*self.mbufs[index]).ol_flags } & ffi::TIDEGATE_RX_TCP_CHECKED != 0
    }

    #[inline]
    fn release(&mut self) {
        if self.in_burst == 0 {
            return;
        }
        // SAFETY: this many mbufs are ours, and are forgotten below.
        unsafe { ffi::tidegate_free_bulk(self.mbufs.as_mut_ptr(), self.in_burst as u32) };
        self.mbufs.copy_within(self.in_burst..self.held, 0);
        self.held -= self.in_burst;
        self.in_burst = 0;
    }
}

impl Drop for DpdkRx {
    fn drop(&mut self) {
        // SAFETY: this many mbufs are ours, and nobody can ask for them any more.
        unsafe { ffi::tidegate_free_bulk(self.mbufs.as_mut_ptr(), self.held as u32) };
    }
}
