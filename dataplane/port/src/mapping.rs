//! Memory obtained from `mmap` that goes back to the kernel when dropped.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

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
    /// Zeroed memory of this process and of the threads in it; private, so that the kernel may back it with huge pages. Every page is present from the start, so that the hot path
    /// takes no page fault.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::map(
            bytes,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
            -1,
            0,
        )
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
