//! The bytes that both sides of a frame ring see.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{FRAME_BYTES_MAX, RingError, SLOT_BYTES, SLOTS_MAX};
use crate::mapping::Mapping;

/// Both sides take it from here, with everything else that touches the memory: a model checker puts its own in this module's place.
pub(super) use std::sync::atomic::fence;

/// Length, tag and padding before each frame. Eight bytes keep the frame aligned for wide copies.
pub(super) const SLOT_HEADER_BYTES: usize = 8;

/// "tgring" and the version of the layout.
const MAGIC: u64 = 0x0001_676e_6972_6774;

/// Nobody may shrink the memory under another process, nor lift that rule.
const SEALS: i32 = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// A value on a cache line pair of its own.
#[repr(C, align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// The start of the memory. Everything in it is atomic: a shared reference is sound while the other side writes.
#[repr(C)]
pub(super) struct Header {
    magic: Padded<AtomicU64>,
    pub(super) head: Padded<AtomicU32>,
    pub(super) tail: Padded<AtomicU32>,
    pub(super) asleep: Padded<AtomicU32>,
}

const HEADER_BYTES: usize = size_of::<Header>();
const _: () = assert!(
    HEADER_BYTES == 512,
    "the layout in the module's documentation"
);
const _: () = assert!(
    FRAME_BYTES_MAX <= u16::MAX as usize,
    "a slot's length is a u16"
);
const _: () = assert!(
    SLOTS_MAX.is_power_of_two(),
    "indexes are taken modulo the number of slots"
);

/// One mapping of a ring, with its size checked once.
#[derive(Clone, Debug)]
pub(super) struct SharedRing {
    mapping: Arc<Mapping>,
    slots: u32,
}

impl SharedRing {
    /// A new ring in memory of this process.
    pub(super) fn anonymous(slots: usize) -> Result<Self, RingError> {
        let bytes = bytes_of(slots)?;
        let mapping = Mapping::anonymous(bytes).map_err(|source| RingError::System {
            action: "map memory",
            bytes,
            source,
        })?;
        let ring = Self {
            mapping: Arc::new(mapping),
            slots: slots as u32,
        };
        ring.header().magic.0.store(MAGIC, Ordering::Release);
        Ok(ring)
    }

    /// A ring that another process may have made.
    pub(super) fn open(fd: BorrowedFd<'_>) -> Result<Self, RingError> {
        // SAFETY: F_GET_SEALS takes no argument and only reads.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & SEALS != SEALS {
            return Err(RingError::Foreign("it is not a sealed memfd"));
        }
        let bytes = size_of_file(fd).map_err(|source| RingError::System {
            action: "read the size",
            bytes: 0,
            source,
        })?;
        let slots = bytes.saturating_sub(HEADER_BYTES) / SLOT_BYTES;
        if !bytes_of(slots).is_ok_and(|expected| expected == bytes) {
            return Err(RingError::Foreign("its size is not that of a ring"));
        }
        let ring = Self::map(fd, slots, bytes)?;
        if ring.header().magic.0.load(Ordering::Acquire) != MAGIC {
            return Err(RingError::Foreign("its first bytes are not ours"));
        }
        Ok(ring)
    }

    fn map(fd: BorrowedFd<'_>, slots: usize, bytes: usize) -> Result<Self, RingError> {
        let mapping = Mapping::of_fd(fd, bytes, 0).map_err(|source| RingError::System {
            action: "map memory",
            bytes,
            source,
        })?;
        Ok(Self {
            mapping: Arc::new(mapping),
            slots: slots as u32,
        })
    }

    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least HEADER_BYTES long and lives as long as self; every field is an
        // atomic, for which any bit pattern is valid and foreign writes are allowed.
        unsafe { self.mapping.base().cast::<Header>().as_ref() }
    }

    /// Writes one slot. The caller owns it: the consumer has taken it, and it is not published.
    pub(super) fn write_slot(&self, index: u32, tag: u8, frame: &[u8]) {
        assert!(
            frame.len() <= FRAME_BYTES_MAX,
            "a frame of {} bytes does not fit a slot",
            frame.len()
        );
        let length = (frame.len() as u16).to_ne_bytes();
        let header = [length[0], length[1], tag, 0, 0, 0, 0, 0];
        let slot = self.slot(index);
        // SAFETY: slot() points at SLOT_BYTES inside the mapping, and header and frame together are no longer (asserted). No
        // reference to the slot exists anywhere. An honest consumer does not read it before it is published; a
        // dishonest one is another process and reads what it deserves.
        unsafe {
            slot.copy_from_nonoverlapping(header.as_ptr(), SLOT_HEADER_BYTES);
            slot.add(SLOT_HEADER_BYTES)
                .copy_from_nonoverlapping(frame.as_ptr(), frame.len());
        }
    }

    /// Copies one published slot into `out`. `None`: its length is impossible.
    pub(super) fn read_slot(&self, index: u32, out: &mut [u8]) -> Option<(usize, u8)> {
        let slot = self.slot(index);
        let mut header = [0u8; SLOT_HEADER_BYTES];
        // SAFETY: slot() points at SLOT_BYTES inside the mapping. No reference to it exists; an honest producer does not
        // write it before we have taken it, a dishonest one can only spoil the copied bytes.
        unsafe { slot.copy_to_nonoverlapping(header.as_mut_ptr(), SLOT_HEADER_BYTES) };
        let length = u16::from_ne_bytes([header[0], header[1]]) as usize;
        if length == 0 || length > FRAME_BYTES_MAX || length > out.len() {
            return None;
        }
        // SAFETY: as above; length was copied to private memory before it was checked against both ends.
        unsafe {
            slot.add(SLOT_HEADER_BYTES)
                .copy_to_nonoverlapping(out.as_mut_ptr(), length);
        }
        Some((length, header[2]))
    }

    /// Spoils the length of a slot, as a faulty producer would.
    #[cfg(test)]
    pub(super) fn set_slot_length(&self, index: u32, length: u16) {
        let length = length.to_ne_bytes();
        // SAFETY: slot() points at SLOT_BYTES inside the mapping; the test's threads do not touch it meanwhile.
        unsafe {
            self.slot(index)
                .copy_from_nonoverlapping(length.as_ptr(), length.len());
        };
    }

    fn slot(&self, index: u32) -> *mut u8 {
        let offset = HEADER_BYTES + (index & (self.slots - 1)) as usize * SLOT_BYTES;
        debug_assert!(
            offset + SLOT_BYTES <= self.mapping.bytes(),
            "slot outside of the ring"
        );
        // SAFETY: slots is a power of two, so the masked index is below it, and the mapping is as long as bytes_of(slots).
        unsafe { self.mapping.base().as_ptr().add(offset) }
    }
}

/// Size of a ring, if the number of slots is allowed.
fn bytes_of(slots: usize) -> Result<usize, RingError> {
    if !slots.is_power_of_two() || !(2..=SLOTS_MAX).contains(&slots) {
        return Err(RingError::Slots(slots));
    }
    Ok(HEADER_BYTES + slots * SLOT_BYTES)
}

fn size_of_file(fd: BorrowedFd<'_>) -> io::Result<usize> {
    // SAFETY: stat is plain data, for which zeroes are valid.
    let mut stat = unsafe { std::mem::zeroed::<libc::stat>() };
    // SAFETY: fills a live local of the right type.
    if unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) } < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(stat.st_size).map_err(io::Error::other)
}

/// See [`super::create_fd`].
pub(super) fn create_fd(name: &str, slots: usize) -> Result<OwnedFd, RingError> {
    let bytes = bytes_of(slots)?;
    let system = |action, source| RingError::System {
        action,
        bytes,
        source,
    };
    let name =
        CString::new(name).map_err(|error| system("name a memfd", io::Error::other(error)))?;
    // SAFETY: name is a live C string.
    let fd =
        unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if fd < 0 {
        return Err(system("create a memfd", io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is new and nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: takes integers only.
    if unsafe { libc::ftruncate(fd.as_raw_fd(), bytes as i64) } < 0 {
        return Err(system("size a memfd", io::Error::last_os_error()));
    }
    // SAFETY: takes integers only.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } < 0 {
        return Err(system("seal a memfd", io::Error::last_os_error()));
    }
    let ring = SharedRing::map(fd.as_fd(), slots, bytes)?;
    ring.header().magic.0.store(MAGIC, Ordering::Release);
    Ok(fd)
}
