//! Memory obtained from `mmap` that goes back to the kernel when dropped.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// The smallest page of any machine: more often than needed is touched often enough.
const PAGE_BYTES: usize = 4_096;

/// A readable and writable mapping.
///
/// It hands out a raw pointer only: what else writes to the memory (the kernel, another process, another thread) differs
/// from user to user, so each user states its own rule where it touches the bytes.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; unmapping it from another thread is allowed.
unsafe impl Send for Mapping {}
// SAFETY: shared references give only the address and the length, both of which never change.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed memory of this process and of the threads in it; private, so that the kernel can back it with huge pages, which it is
    /// asked to. Every page is present from the start, so that the hot path takes no page fault.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let mapping = Self::map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        if cfg!(miri) {
            // An interpreter takes no advice.
            return Ok(mapping);
        }
        // Asked before the pages are there: those that are stay as they are. A kernel without huge pages refuses, and small ones
        // do as well.
        let _small_pages = mapping.advise(libc::MADV_HUGEPAGE);
        match mapping.advise(libc::MADV_POPULATE_WRITE) {
            // Linux 5.14 has it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => mapping.touch(),
            outcome => outcome?,
        }
        Ok(mapping)
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: base and bytes are those of a mapping of ours; none of the advice given here changes what is in it.
        let outcome = unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, advice) };
        if outcome == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Writes to every page of a mapping that nobody else has seen yet.
    fn touch(&self) {
        for offset in (0..self.bytes).step_by(PAGE_BYTES) {
            // SAFETY: inside the mapping, writable, and nobody else knows of it.
            unsafe { self.base.as_ptr().add(offset).write_volatile(0) };
        }
    }

    /// `bytes` of what `fd` refers to, from `offset` on, shared with whoever else maps it.
    pub(crate) fn of_fd(fd: BorrowedFd<'_>, bytes: usize, offset: i64) -> io::Result<Self> {
        Self::map(
            bytes,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    }

    fn map(bytes: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Self> {
        // SAFETY: the kernel chooses the address, so no existing mapping is touched.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                offset,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| io::Error::other("mmap returned address 0"))?;
        Ok(Self { base, bytes })
    }

    /// First byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Length.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and bytes are those of a successful mmap, and nothing else unmaps it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_and_every_byte_can_be_written_touched_or_populated() {
        let mapping = Mapping::anonymous(3 * PAGE_BYTES + 1).unwrap();
        mapping.touch();
        for offset in 0..mapping.bytes() {
            // SAFETY: inside the mapping, which nobody else knows of.
            let byte = unsafe { &mut *mapping.base().as_ptr().add(offset) };
            assert_eq!(*byte, 0);
            *byte = 1;
        }
    }
}
