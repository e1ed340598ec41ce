//! The receive half: fill ring → kernel → RX ring → fill ring.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::ring::{ConsumerRing, ProducerRing};
use super::socket::Socket;
use super::umem::Umem;
use crate::{BURST_MAX, RxQueue};

/// The receive half of an AF_XDP port.
pub struct AfXdpRx {
    socket: Arc<Socket>,
    fill: ProducerRing<u64>,
    ring: ConsumerRing<libc::xdp_desc>,
    /// The burst. Its chunks are ours until they are written to the fill ring.
    burst: [libc::xdp_desc; BURST_MAX],
    in_burst: usize,
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

impl AfXdpRx {
    pub(super) fn new(
        socket: Arc<Socket>,
        fill: ProducerRing<u64>,
        ring: ConsumerRing<libc::xdp_desc>,
    ) -> Self {
        let empty = libc::xdp_desc {
            addr: 0,
            len: 0,
            options: 0,
        };
        Self {
            socket,
            fill,
            ring,
            burst: [empty; BURST_MAX],
            in_burst: 0,
            frames: 0,
            bytes: 0,
        }
    }

    /// Tells the driver that the fill ring has entries again. Only zero-copy drivers ever ask.
    fn wake_driver(&self) {
        if self.fill.needs_wakeup() {
            // SAFETY: receives nothing: no buffer, no address. An error means that the driver is busy, and it asks again.
            unsafe {
                libc::recvfrom(
                    self.socket.fd.as_raw_fd(),
                    std::ptr::null_mut(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                )
            };
        }
    }
}

impl RxQueue for AfXdpRx {
    fn burst(&mut self, max: usize) -> usize {
        assert!(self.in_burst == 0, "the burst before was not released");
        let count = (self.ring.waiting() as usize).min(max).min(BURST_MAX);
        if count == 0 {
            self.wake_driver();
            return 0;
        }
        for slot in &mut self.burst[..count] {
            let Some(descriptor) = self.ring.read() else {
                break;
            };
            *slot = descriptor;
            self.in_burst += 1;
            self.bytes += u64::from(descriptor.len);
        }
        self.ring.release();
        self.frames += self.in_burst as u64;
        self.in_burst
    }

    fn waiting(&mut self) -> usize {
        self.ring.waiting() as usize
    }

    fn frame(&self, index: usize) -> &[u8] {
        assert!(
            index < self.in_burst,
            "frame {index} of a burst of {}",
            self.in_burst
        );
        let descriptor = self.burst[index];
        // SAFETY: the descriptor came out of the RX ring with this burst, and release(), which needs &mut self and so ends
        // the borrow, is the only place that gives its chunk away.
        unsafe { self.socket.umem.received(descriptor.addr, descriptor.len) }
    }

    fn release(&mut self) {
        if self.in_burst == 0 {
            return;
        }
        for descriptor in &self.burst[..self.in_burst] {
            self.fill.write(Umem::chunk_of(descriptor.addr));
        }
        self.in_burst = 0;
        self.fill.publish(u32::MAX);
        self.wake_driver();
    }
}
