//! The single-producer, single-consumer rings that user space shares with the kernel.
//!
//! Kernel documentation (`Documentation/networking/af_xdp.rst`): "The rings are single-producer/single-consumer rings, so
//! user-space needs explicit synchronization of multiple processes/threads reading/writing to them." Here each ring has one owner,
//! and `&mut self` on every operation that moves an index.
//!
//! Indexes count modulo 2³² and are masked into the ring, whose size is a power of two. Each side keeps a copy of the other's
//! index and looks again only when the copy promises too little, so that a burst costs one shared cache line, not one per entry.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mapping::Mapping;

/// Where the parts of a ring lie inside its mapping, as `XDP_MMAP_OFFSETS` tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingLayout {
    pub(super) producer: usize,
    pub(super) consumer: usize,
    pub(super) flags: usize,
    pub(super) entries: usize,
}

impl RingLayout {
    /// Bytes to map for `size` entries of `T`.
    pub(super) fn bytes<T>(&self, size: u32) -> usize {
        self.entries + size as usize * size_of::<T>()
    }
}

/// The mapped ring, before it is known who owns which end.
struct Shared<T> {
    mapping: Arc<Mapping>,
    layout: RingLayout,
    mask: u32,
    entry: PhantomData<T>,
}

impl<T: Copy> Shared<T> {
    fn new(mapping: Arc<Mapping>, layout: RingLayout, size: u32) -> Self {
        assert!(
            size.is_power_of_two(),
            "rings have a power of two of entries"
        );
        assert!(
            layout.bytes::<T>(size) <= mapping.bytes(),
            "the ring does not fit its mapping"
        );
        let aligned =
            |offset: usize, to: usize| offset.is_multiple_of(to) && offset + to <= mapping.bytes();
        assert!(
            [layout.producer, layout.consumer, layout.flags]
                .iter()
                .all(|offset| aligned(*offset, align_of::<AtomicU32>()))
                && aligned(layout.entries, align_of::<T>()),
            "the kernel aligns every part of a ring"
        );
        Self {
            mapping,
            layout,
            mask: size - 1,
            entry: PhantomData,
        }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: new() has checked that an aligned u32 lies there, inside a mapping that lives as long as self. The kernel
        // writes it as an atomic as well.
        unsafe { self.mapping.base().add(offset).cast::<AtomicU32>().as_ref() }
    }

    fn producer(&self) -> &AtomicU32 {
        self.word(self.layout.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.layout.consumer)
    }

    fn needs_wakeup(&self) -> bool {
        self.word(self.layout.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn size(&self) -> u32 {
        self.mask + 1
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: new() has checked that `mask + 1` aligned entries lie inside the mapping.
        unsafe {
            self.mapping
                .base()
                .add(self.layout.entries)
                .cast::<T>()
                .add((index & self.mask) as usize)
        }
    }
}

/// The end that writes entries: our side of the fill and the TX ring.
pub(super) struct ProducerRing<T> {
    shared: Shared<T>,
    /// Entries written, published or not.
    written: u32,
    /// Entries the other side may read.
    published: u32,
    /// Entries the other side had consumed when we last looked.
    consumed: u32,
}

impl<T: Copy> ProducerRing<T> {
    pub(super) fn new(mapping: Arc<Mapping>, layout: RingLayout, size: u32) -> Self {
        let shared = Shared::new(mapping, layout, size);
        let written = shared.producer().load(Ordering::Relaxed);
        let consumed = shared.consumer().load(Ordering::Acquire);
        Self {
            shared,
            written,
            published: written,
            consumed,
        }
    }

    /// Entries that can be written now.
    pub(super) fn free(&mut self, wanted: u32) -> u32 {
        if self.cached_free() < wanted {
            self.consumed = self.shared.consumer().load(Ordering::Acquire);
        }
        self.cached_free()
    }

    fn cached_free(&self) -> u32 {
        self.shared.size() - self.written.wrapping_sub(self.consumed)
    }

    /// Writes one entry, invisible to the other side until [`Self::publish`].
    pub(super) fn write(&mut self, entry: T) {
        assert!(self.free(1) > 0, "write into a full ring");
        // SAFETY: the entry is inside the ring, and not published, so the other side does not touch it.
        unsafe { self.shared.entry(self.written).write(entry) };
        self.written = self.written.wrapping_add(1);
    }

    /// Shows up to `max` more entries to the other side; returns how many.
    pub(super) fn publish(&mut self, max: u32) -> u32 {
        let count = self.unpublished().min(max);
        if count > 0 {
            self.published = self.published.wrapping_add(count);
            self.shared
                .producer()
                .store(self.published, Ordering::Release);
        }
        count
    }

    /// Entries written and not published.
    pub(super) fn unpublished(&self) -> u32 {
        self.written.wrapping_sub(self.published)
    }

    /// The entry that was written `back` entries ago, the last one being 1. It is not published.
    pub(super) fn unpublished_entry(&self, back: u32) -> T {
        assert!(
            (1..=self.unpublished()).contains(&back),
            "an entry that is published"
        );
        // SAFETY: the entry is inside the ring, was written by us, and is not published, so nobody else touches it.
        unsafe { self.shared.entry(self.written.wrapping_sub(back)).read() }
    }

    /// Entries published that the other side has not consumed.
    pub(super) fn unconsumed(&mut self) -> u32 {
        self.consumed = self.shared.consumer().load(Ordering::Acquire);
        self.published.wrapping_sub(self.consumed)
    }

    /// Tells whether the kernel waits for a system call before it looks at the ring again.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.shared.needs_wakeup()
    }
}

/// The end that reads entries: our side of the RX and the completion ring.
pub(super) struct ConsumerRing<T> {
    shared: Shared<T>,
    /// Entries read, released or not.
    read: u32,
    /// Entries the other side had published when we last looked.
    published: u32,
}

impl<T: Copy> ConsumerRing<T> {
    pub(super) fn new(mapping: Arc<Mapping>, layout: RingLayout, size: u32) -> Self {
        let shared = Shared::new(mapping, layout, size);
        let read = shared.consumer().load(Ordering::Relaxed);
        let published = shared.producer().load(Ordering::Acquire);
        Self {
            shared,
            read,
            published,
        }
    }

    /// Entries that can be read now.
    pub(super) fn waiting(&mut self) -> u32 {
        self.published = self.shared.producer().load(Ordering::Acquire);
        self.published.wrapping_sub(self.read)
    }

    /// The next entry, of those that [`Self::waiting`] has seen.
    pub(super) fn read(&mut self) -> Option<T> {
        if self.read == self.published {
            return None;
        }
        // SAFETY: the entry is inside the ring, and published and not released, so the other side does not touch it. T is
        // plain data (an integer or a descriptor), of which every bit pattern is valid.
        let entry = unsafe { self.shared.entry(self.read).read() };
        self.read = self.read.wrapping_add(1);
        Some(entry)
    }

    /// Gives the entries read back to the other side.
    pub(super) fn release(&mut self) {
        self.shared.consumer().store(self.read, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: RingLayout = RingLayout {
        producer: 0,
        consumer: 64,
        flags: 128,
        entries: 192,
    };

    /// Our end and, in the kernel's place, the other one, over plain memory.
    fn pair(size: u32, start: u32) -> (ProducerRing<u64>, ConsumerRing<u64>) {
        let mapping = Arc::new(Mapping::anonymous(LAYOUT.bytes::<u64>(size)).unwrap());
        let shared = Shared::<u64>::new(mapping.clone(), LAYOUT, size);
        shared.producer().store(start, Ordering::Relaxed);
        shared.consumer().store(start, Ordering::Relaxed);
        (
            ProducerRing::new(mapping.clone(), LAYOUT, size),
            ConsumerRing::new(mapping, LAYOUT, size),
        )
    }

    #[test]
    fn entries_are_seen_only_once_published_and_in_order() {
        let (mut user, mut kernel) = pair(8, 0);
        for entry in 0..5 {
            user.write(entry);
        }
        assert_eq!(kernel.waiting(), 0);
        assert_eq!(user.publish(2), 2);
        assert_eq!(kernel.waiting(), 2);
        assert_eq!((user.unpublished(), user.unconsumed()), (3, 2));
        assert_eq!(user.publish(u32::MAX), 3);
        assert_eq!(kernel.waiting(), 5);
        assert_eq!(
            std::iter::from_fn(|| kernel.read()).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4]
        );
        assert_eq!(user.unconsumed(), 5, "read but not released");
        kernel.release();
        assert_eq!(user.unconsumed(), 0);
    }

    #[test]
    fn a_full_ring_has_no_room_until_the_other_side_releases() {
        let (mut user, mut kernel) = pair(4, 0);
        for entry in 0..4 {
            user.write(entry);
        }
        user.publish(u32::MAX);
        assert_eq!(user.free(1), 0);
        assert_eq!(kernel.waiting(), 4);
        kernel.read();
        kernel.release();
        assert_eq!(user.free(1), 1);
    }

    #[test]
    fn the_cached_index_is_refreshed_only_when_it_promises_too_little() {
        let (mut user, mut kernel) = pair(4, 0);
        user.write(1);
        user.publish(1);
        kernel.waiting();
        kernel.read();
        kernel.release();
        assert_eq!(user.free(3), 3, "the copy suffices");
        assert_eq!(user.free(4), 4, "it does not: look again");
    }

    #[test]
    fn indexes_wrap_at_the_end_of_u32() {
        let (mut user, mut kernel) = pair(4, u32::MAX - 1);
        for round in 0..10u64 {
            for entry in 0..4 {
                user.write(round * 4 + entry);
            }
            assert_eq!(user.free(1), 0);
            assert_eq!(user.publish(u32::MAX), 4);
            assert_eq!(kernel.waiting(), 4);
            for entry in 0..4 {
                assert_eq!(kernel.read(), Some(round * 4 + entry));
            }
            assert_eq!(kernel.read(), None);
            kernel.release();
            assert_eq!(user.unconsumed(), 0);
        }
    }

    #[test]
    fn two_threads_exchange_every_entry_in_order() {
        let (mut user, mut kernel) = pair(8, u32::MAX - 20);
        let entries = if cfg!(miri) { 100 } else { 50_000u64 };
        let writer = std::thread::spawn(move || {
            let mut next = 0;
            while next < entries {
                let room = u64::from(user.free(1)).min(entries - next);
                for entry in next..next + room {
                    user.write(entry);
                }
                next += room;
                // In two portions, so that entries also wait for their publication.
                user.publish(1);
                user.publish(u32::MAX);
                std::thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < entries {
            let ended = writer.is_finished();
            if kernel.waiting() == 0 {
                assert!(!ended, "the writer ended before its time");
                std::thread::yield_now();
            }
            while let Some(entry) = kernel.read() {
                assert_eq!(entry, expected);
                expected += 1;
            }
            kernel.release();
        }
        writer.join().unwrap();
    }

    #[test]
    #[should_panic(expected = "write into a full ring")]
    fn writing_without_room_is_our_own_mistake() {
        let (mut user, _kernel) = pair(2, 7);
        for entry in 0..3 {
            user.write(entry);
        }
    }

    #[test]
    fn the_kernels_wakeup_flag_is_honoured() {
        let (user, kernel) = pair(2, 0);
        assert!(!user.needs_wakeup());
        kernel
            .shared
            .word(LAYOUT.flags)
            .store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);
        assert!(user.needs_wakeup());
    }
}
