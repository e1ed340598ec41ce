//! What both sides of a ring see, in the place of the product's bytes.

use super::{FRAME_BYTES_MAX, RingError};
use crate::mistake::Mistake;
use loom::cell::Cell;
use loom::sync::atomic::AtomicU32;
use rustix::fs::MemfdFlags;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The fence of both sides.
pub fn fence(ordering: Ordering) {
    if Mistake::NoFence.is_made() {
        return;
    }
    let weak = Mistake::WeakFence.is_made();
    loom::sync::atomic::fence(if weak { Ordering::AcqRel } else { ordering });
}

/// Where the product has padding.
#[derive(Debug)]
pub struct Padded<T>(pub T);

/// Slots published.
#[derive(Debug)]
pub struct Head {
    slots: AtomicU32,
    asleep: Arc<AsleepWord>,
}

impl Head {
    pub(super) fn load(&self, ordering: Ordering) -> u32 {
        let slots = self.slots.load(Mistake::HeadLoad.leaves(ordering));
        self.asleep.say_at_last();
        slots
    }

    pub(super) fn store(&self, slots: u32, ordering: Ordering) {
        let ordering = Mistake::HeadStore.leaves(ordering);
        self.slots.store(slots, ordering);
    }
}

/// Slots taken.
#[derive(Debug)]
pub struct Tail(AtomicU32);

impl Tail {
    pub(super) fn load(&self, ordering: Ordering) -> u32 {
        self.0.load(Mistake::TailLoad.leaves(ordering))
    }

    pub(super) fn store(&self, slots: u32, ordering: Ordering) {
        self.0.store(slots, Mistake::TailStore.leaves(ordering));
    }
}

/// The consumer wants to be woken.
#[derive(Debug)]
pub struct AsleepWord {
    word: AtomicU32,
    /// It has not said so yet: [`Mistake::SleepsLate`].
    late: AtomicBool,
}

impl AsleepWord {
    pub(super) fn load(&self, ordering: Ordering) -> u32 {
        self.word.load(ordering)
    }

    pub(super) fn store(&self, value: u32, ordering: Ordering) {
        if value != 0 && Mistake::SleepsLate.is_made() {
            self.late.store(true, Ordering::Relaxed);
        } else {
            self.word.store(value, ordering);
        }
    }

    pub(super) fn swap(&self, value: u32, ordering: Ordering) -> u32 {
        self.word.swap(value, ordering)
    }

    fn say_at_last(&self) {
        if self.late.swap(false, Ordering::Relaxed) {
            self.word.store(1, Ordering::Relaxed);
        }
    }
}

/// What is not frames.
#[derive(Debug)]
pub struct Header {
    pub(super) head: Padded<Head>,
    pub(super) tail: Padded<Tail>,
    pub(super) asleep: Padded<Arc<AsleepWord>>,
}

/// Tag, length and bytes.
type Slot = (u8, usize, [u8; FRAME_BYTES_MAX]);

/// A ring.
#[derive(Clone, Debug)]
pub struct SharedRing {
    header: Arc<Header>,
    /// Loom's cells notice accesses that nothing orders. The mutex is not one of loom's and orders nothing in its eyes; it only tells the
    /// compiler that threads may share them.
    slots: Arc<[Mutex<Cell<Slot>>]>,
}

thread_local! {
    // All of loom's threads see it, as all processes see a file.
    static FILES: RefCell<HashMap<u64, SharedRing>> = RefCell::default();
}

/// Forgets the rings of the run before.
pub(crate) fn forget() {
    FILES.take();
}

/// A ring behind a descriptor: an empty file, whose number says which.
pub fn create_fd(name: &str, slots: usize) -> Result<OwnedFd, RingError> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map_err(system)?;
    let number = number_of(&file)?;
    FILES.with_borrow_mut(|files| files.insert(number, SharedRing::new(slots)));
    Ok(file)
}

fn number_of(file: impl AsFd) -> Result<u64, RingError> {
    Ok(rustix::fs::fstat(file).map_err(system)?.st_ino)
}

fn system(error: rustix::io::Errno) -> RingError {
    RingError::System {
        action: "make a file",
        bytes: 0,
        source: io::Error::from(error),
    }
}

impl SharedRing {
    pub(super) fn new(slots: usize) -> Self {
        let asleep = Arc::new(AsleepWord {
            word: AtomicU32::new(0),
            late: AtomicBool::new(false),
        });
        let head = Head {
            slots: AtomicU32::new(0),
            asleep: asleep.clone(),
        };
        let empty = || Mutex::new(Cell::new((0, 0, [0; FRAME_BYTES_MAX])));
        Self {
            header: Arc::new(Header {
                head: Padded(head),
                tail: Padded(Tail(AtomicU32::new(0))),
                asleep: Padded(asleep),
            }),
            slots: (0..slots).map(|_| empty()).collect(),
        }
    }

    pub(super) fn open(fd: BorrowedFd<'_>) -> Result<Self, RingError> {
        let number = number_of(fd)?;
        let known = FILES.with_borrow(|files| files.get(&number).cloned());
        known.ok_or(RingError::Foreign("no ring was made here"))
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn write_slot(&self, index: u32, tag: u8, frame: &[u8]) {
        let mut bytes = [0; FRAME_BYTES_MAX];
        bytes[..frame.len()].copy_from_slice(frame);
        self.with(index, |slot| slot.set((tag, frame.len(), bytes)));
    }

    pub(super) fn read_slot(&self, index: u32, out: &mut [u8]) -> Option<(usize, u8)> {
        let (tag, length, bytes) = self.with(index, Cell::get);
        if length == 0 || length > out.len() {
            return None;
        }
        out[..length].copy_from_slice(&bytes[..length]);
        Some((length, tag))
    }

    fn with<R>(&self, index: u32, access: impl FnOnce(&Cell<Slot>) -> R) -> R {
        let slot = &self.slots[index as usize & (self.slots.len() - 1)];
        access(&slot.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
