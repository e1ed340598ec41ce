//! The transmit half: free list → TX ring → kernel → completion ring → free list.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::ring::{ConsumerRing, ProducerRing};
use super::socket::Socket;
use super::umem::{CHUNK_BYTES, Umem};
use crate::{BURST_MAX, Flushed, TxQueue};

/// Kicks of one flush. Without `XDP_MAX_TX_SKB_BUDGET` a kick sends 32 frames, so this empties 2,048 entries; more would keep
/// the poll loop from receiving, fewer would strand frames of a large turn until the next one.
const KICKS_MAX: u32 = 64;

/// Kicks in a row that moved nothing before a flush gives up and reports the rest as pending. The link is full then, and
/// receiving is what empties it.
const STALLS_MAX: u32 = 4;

/// What one flush may do to the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct TxLimits {
    /// Frames that one kick sends.
    pub(super) kick: u32,
    /// Frames shown to the kernel and not completed.
    pub(super) in_flight: u32,
    /// The driver takes frames from the ring by itself.
    pub(super) zero_copy: bool,
}

/// The transmit half of an AF_XDP port.
pub struct AfXdpTx {
    socket: Arc<Socket>,
    ring: ProducerRing<libc::xdp_desc>,
    completion: ConsumerRing<u64>,
    /// Chunks that are on no ring.
    free: Vec<u64>,
    /// Frames shown to the kernel and not completed.
    in_flight: u32,
    /// Frames queued so far when they were last shown to a capture.
    shown: u64,
    limits: TxLimits,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) kicks: u64,
    pub(super) kick_retries: u64,
    pub(super) dropped: u64,
}

/// What a kick achieved.
enum Kicked {
    /// The kernel worked on the ring.
    Done,
    /// The kernel could not go on.
    Retry,
    /// The link is down or gone.
    Failed,
}

impl AfXdpTx {
    pub(super) fn new(
        socket: Arc<Socket>,
        ring: ProducerRing<libc::xdp_desc>,
        completion: ConsumerRing<u64>,
        limits: TxLimits,
    ) -> Self {
        let free = socket.umem.tx_addresses().collect();
        Self {
            socket,
            ring,
            completion,
            free,
            in_flight: 0,
            shown: 0,
            limits,
            frames: 0,
            bytes: 0,
            kicks: 0,
            kick_retries: 0,
            dropped: 0,
        }
    }

    /// Takes the chunks of finished frames back.
    fn reap(&mut self) {
        if self.in_flight == 0 || self.completion.waiting() == 0 {
            return;
        }
        while let Some(address) = self.completion.read() {
            debug_assert!(
                self.socket.umem.holds_tx(address),
                "completion of a chunk that we never sent"
            );
            self.free.push(Umem::chunk_of(address));
            self.in_flight -= 1;
        }
        self.completion.release();
    }

    fn kick(&mut self) -> Kicked {
        self.kicks += 1;
        // SAFETY: sends nothing but what is in the TX ring: no buffer, no address.
        let outcome = unsafe {
            libc::sendto(
                self.socket.fd.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        if outcome >= 0 {
            return Kicked::Done;
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EBUSY) if !self.limits.zero_copy => {
                // In copy mode the kernel says EBUSY when the device dropped the frame (NET_XMIT_DROP), for example
                // because veth's peer ring was full. The chunk completes, the frame is lost, TCP sends it again.
                self.dropped += 1;
                self.kick_retries += 1;
                Kicked::Retry
            }
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => {
                self.kick_retries += 1;
                Kicked::Retry
            }
            _ => Kicked::Failed,
        }
    }
}

impl TxQueue for AfXdpTx {
    fn room(&mut self) -> usize {
        if self.free.len() < BURST_MAX {
            self.reap();
        }
        // There is a ring entry for each chunk, but a chunk can come back before its entry: when the device drops the only
        // frame of a kick (NET_XMIT_DROP), the kernel completes the chunk and publishes the ring's consumer index only with
        // the next frame that it sends.
        let entries = self.ring.free(BURST_MAX as u32) as usize;
        self.free.len().min(entries)
    }

    fn push<R>(&mut self, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(
            bytes <= CHUNK_BYTES,
            "a frame of {bytes} bytes does not fit a chunk"
        );
        let Some(addr) = self.free.pop() else {
            panic!("push without room")
        };
        // SAFETY: the chunk was on the free list, so it is on no ring, and the slice ends with this call.
        let result = fill(unsafe { self.socket.umem.draft(addr, bytes) });
        self.ring.write(libc::xdp_desc {
            addr,
            len: bytes as u32,
            options: 0,
        });
        self.frames += 1;
        self.bytes += bytes as u64;
        result
    }

    fn show(&mut self, look: &mut dyn FnMut(&[u8])) {
        let unseen = (self.frames - self.shown).min(u64::from(self.ring.unpublished()));
        for back in (1..=unseen as u32).rev() {
            let descriptor = self.ring.unpublished_entry(back);
            // SAFETY: the entry is not published, so its chunk is ours alone, and no other slice of it lives.
            look(unsafe {
                self.socket
                    .umem
                    .draft(descriptor.addr, descriptor.len as usize)
            });
        }
        self.shown = self.frames;
    }

    fn flush(&mut self) -> Flushed {
        self.reap();
        let (mut kicks, mut stalls) = (0, 0);
        let pending = loop {
            // A burst is shown to the kernel in portions: no larger than what one kick sends, and no larger than what the
            // link has taken off our hands, because veth's peer ring holds 256 frames and drops the rest.
            let portion = self.limits.kick.min(self.limits.in_flight - self.in_flight);
            self.in_flight += self.ring.publish(portion);
            let unconsumed = self.ring.unconsumed();
            let pending = unconsumed + self.ring.unpublished();
            if unconsumed == 0 || !self.ring.needs_wakeup() || kicks == KICKS_MAX {
                break pending;
            }
            kicks += 1;
            let kicked = self.kick();
            self.reap();
            let left = self.ring.unconsumed();
            stalls = if left == unconsumed { stalls + 1 } else { 0 };
            // A zero-copy driver works on its own after one kick, a broken link not at all.
            if matches!(kicked, Kicked::Failed)
                || stalls == STALLS_MAX
                || (self.limits.zero_copy && stalls > 0)
            {
                break left + self.ring.unpublished();
            }
        };
        Flushed {
            pending: pending as usize,
            kicks,
        }
    }
}
