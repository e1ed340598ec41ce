//! The side that reads frames.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use super::RingError;
use super::memory::{SharedRing, fence};

/// The only reader of a ring.
#[derive(Debug)]
pub struct Consumer {
    ring: SharedRing,
    /// Slots taken, released or not.
    taken: u32,
    /// Slots published when we last looked.
    published: u32,
    index_faults: u64,
    length_faults: u64,
}

/// What [`Consumer::pop`] found in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Popped {
    /// A frame: its length and the tag it was pushed with.
    Frame {
        /// Bytes written to the buffer.
        bytes: usize,
        /// The producer's tag.
        tag: u8,
    },
    /// A slot whose length was impossible; it is dropped and counted.
    Malformed,
}

impl Consumer {
    pub(super) fn new(ring: SharedRing) -> Self {
        let tail = ring.header().tail.0.load(Ordering::Acquire);
        Self {
            ring,
            taken: tail,
            published: tail,
            index_faults: 0,
            length_faults: 0,
        }
    }

    /// Becomes the reader of a ring that was made by [`super::create_fd`], at the first frame that was not taken. The one
    /// before has to be gone.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, RingError> {
        Ok(Self::new(SharedRing::open(fd)?))
    }

    /// Frames that can be popped now.
    pub fn waiting(&mut self) -> usize {
        let head = self.ring.header().head.0.load(Ordering::Acquire);
        if head.wrapping_sub(self.taken) <= self.ring.slots() {
            self.published = head;
        } else {
            // More frames than slots: the producer lies. Going on from its index drops what was there and lets an
            // honest successor start over.
            self.index_faults += 1;
            self.taken = head;
            self.published = head;
            self.release();
        }
        self.published.wrapping_sub(self.taken) as usize
    }

    /// Copies the next frame out. `None`: no more than [`Consumer::waiting`] has seen.
    pub fn pop(&mut self, out: &mut [u8]) -> Option<Popped> {
        if self.taken == self.published {
            return None;
        }
        let read = self.ring.read_slot(self.taken, out);
        self.taken = self.taken.wrapping_add(1);
        let Some((bytes, tag)) = read else {
            self.length_faults += 1;
            return Some(Popped::Malformed);
        };
        Some(Popped::Frame { bytes, tag })
    }

    /// Gives the popped slots back to the producer.
    pub fn release(&mut self) {
        self.ring
            .header()
            .tail
            .0
            .store(self.taken, Ordering::Release);
    }

    /// Asks the producer to ring after its next publication. `false`: frames are waiting already, do not sleep.
    pub fn prepare_to_wait(&mut self) -> bool {
        self.ring.header().asleep.0.store(1, Ordering::Relaxed);
        // See Producer::publish for the pair of this fence.
        fence(Ordering::SeqCst);
        if self.waiting() == 0 {
            return true;
        }
        self.ring.header().asleep.0.store(0, Ordering::Relaxed);
        false
    }

    /// Times the producer's index was impossible.
    pub fn index_faults(&self) -> u64 {
        self.index_faults
    }

    /// Frames dropped because their length was impossible.
    pub fn length_faults(&self) -> u64 {
        self.length_faults
    }
}
