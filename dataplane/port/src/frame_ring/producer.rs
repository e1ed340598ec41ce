//! The side that writes frames.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use super::memory::{SharedRing, fence};
use super::{FRAME_BYTES_MAX, RingError};

/// The only writer of a ring.
#[derive(Debug)]
pub struct Producer {
    ring: SharedRing,
    /// Slots written, published or not.
    written: u32,
    /// Slots that the consumer may read.
    published: u32,
    /// Slots that the consumer had taken when we last looked.
    taken: u32,
    /// The frame is put together here, then copied: nobody sees it half-made, nobody changes it under our hands.
    draft: Box<[u8; FRAME_BYTES_MAX]>,
    index_faults: u64,
}

impl Producer {
    pub(super) fn new(ring: SharedRing) -> Self {
        let head = ring.header().head.0.load(Ordering::Acquire);
        let tail = ring.header().tail.0.load(Ordering::Acquire);
        let in_ring = head.wrapping_sub(tail);
        let possible = in_ring <= ring.slots();
        Self {
            taken: if possible {
                tail
            } else {
                head.wrapping_sub(ring.slots())
            },
            ring,
            written: head,
            published: head,
            draft: Box::new([0; FRAME_BYTES_MAX]),
            index_faults: u64::from(!possible),
        }
    }

    /// Becomes the writer of a ring that was made by [`super::create_fd`], after its last published frame. The one before
    /// has to be gone: two writers at once would overwrite each other's frames.
    pub fn open(fd: BorrowedFd<'_>) -> Result<Self, RingError> {
        Ok(Self::new(SharedRing::open(fd)?))
    }

    /// Frames that [`Producer::push`] can take now.
    pub fn room(&mut self) -> usize {
        let free = self.free();
        // The consumer's cache line is read only when the ring looks half full: each look costs a transfer between cores.
        if free >= self.ring.slots() / 2 {
            return free as usize;
        }
        let tail = self.ring.header().tail.0.load(Ordering::Acquire);
        self.accept_tail(tail);
        self.free() as usize
    }

    /// Writes one frame of exactly `bytes`; `fill` sees what earlier frames left there and has to overwrite all of it.
    /// The consumer sees it after [`Producer::publish`].
    ///
    /// Panics without room or with more than [`FRAME_BYTES_MAX`]: the caller has to look first.
    pub fn push<R>(&mut self, tag: u8, bytes: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        assert!(
            self.free() > 0 || self.room() > 0,
            "push into a full frame ring"
        );
        let result = fill(&mut self.draft[..bytes]);
        self.ring
            .write_slot(self.written, tag, &self.draft[..bytes]);
        self.written = self.written.wrapping_add(1);
        result
    }

    /// Writes a copy of `frame`, or nothing (`false`) if the ring is full or the frame is empty or too long.
    pub fn push_copy(&mut self, tag: u8, frame: &[u8]) -> bool {
        if frame.is_empty() || frame.len() > FRAME_BYTES_MAX || self.room() == 0 {
            return false;
        }
        self.ring.write_slot(self.written, tag, frame);
        self.written = self.written.wrapping_add(1);
        true
    }

    /// Frames written and not published.
    pub fn unpublished(&self) -> usize {
        self.written.wrapping_sub(self.published) as usize
    }

    /// Shows the last `frames` frames that were written and are not published.
    pub fn show(&mut self, frames: usize, look: &mut dyn FnMut(&[u8])) {
        let frames = frames.min(self.unpublished()) as u32;
        for back in (1..=frames).rev() {
            let index = self.written.wrapping_sub(back);
            // Out of the ring, since the other side could change it while it is looked at.
            if let Some((bytes, _)) = self.ring.read_slot(index, &mut self.draft[..]) {
                look(&self.draft[..bytes]);
            }
        }
    }

    /// Makes everything written visible. `true`: the consumer sleeps, its bell has to be rung.
    #[must_use = "a sleeping consumer would not notice the frames"]
    pub fn publish(&mut self) -> bool {
        if self.written == self.published {
            return false;
        }
        let header = self.ring.header();
        header.head.0.store(self.written, Ordering::Release);
        self.published = self.written;
        // Our store of head and our load of asleep must not change places, just as the consumer's store of asleep and
        // load of head: otherwise both could miss the other and the frame would wait forever.
        fence(Ordering::SeqCst);
        header.asleep.0.load(Ordering::Relaxed) != 0
            && header.asleep.0.swap(0, Ordering::AcqRel) != 0
    }

    /// Times the consumer's index was impossible and was ignored.
    pub fn index_faults(&self) -> u64 {
        self.index_faults
    }

    fn free(&self) -> u32 {
        self.ring.slots() - self.written.wrapping_sub(self.taken)
    }

    /// Believes an index only between the last one believed and what was published; then `written - taken` never exceeds
    /// the number of slots, whatever the other side writes.
    fn accept_tail(&mut self, tail: u32) {
        if self.published.wrapping_sub(tail) <= self.published.wrapping_sub(self.taken) {
            self.taken = tail;
        } else {
            self.index_faults += 1;
        }
    }
}
