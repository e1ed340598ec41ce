//! The argument of `bpf()`: a union of structs, written here field by field at the offsets of `linux/bpf.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Longer than any command's struct that is used here; the kernel accepts trailing zeroes.
const ATTR_BYTES: usize = 128;

/// Commands of `enum bpf_cmd`.
#[derive(Clone, Copy)]
pub(super) enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    ProgramLoad = 5,
    ObjectPin = 6,
    ProgramTestRun = 10,
    ProgramById = 13,
    ObjectInfo = 15,
    LinkCreate = 28,
}

/// `union bpf_attr`.
#[repr(C, align(8))]
pub(super) struct Attr([u8; ATTR_BYTES]);

impl Attr {
    pub(super) fn new() -> Self {
        Self([0; ATTR_BYTES])
    }

    pub(super) fn bytes(mut self, offset: usize, value: &[u8]) -> Self {
        self.0[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    pub(super) fn u32(self, offset: usize, value: u32) -> Self {
        self.bytes(offset, &value.to_ne_bytes())
    }

    pub(super) fn u64(self, offset: usize, value: u64) -> Self {
        self.bytes(offset, &value.to_ne_bytes())
    }

    pub(super) fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.u32(offset, fd.as_raw_fd() as u32)
    }

    /// At most 15 bytes and the terminating zero.
    pub(super) fn name(self, offset: usize, name: &str) -> Self {
        let length = name.len().min(15);
        self.bytes(offset, &name.as_bytes()[..length])
    }

    /// Reads a field that the kernel wrote.
    pub(super) fn get_u32(&self, offset: usize) -> u32 {
        let mut value = [0; 4];
        value.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(value)
    }

    /// # Safety
    ///
    /// Every pointer among the fields must be valid for what the command reads or writes there.
    pub(super) unsafe fn call(&mut self, command: Command) -> io::Result<i32> {
        // SAFETY: the attribute lives here, is as long as said, and the caller vouches for the pointers in it.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command as libc::c_int,
                self.0.as_mut_ptr(),
                ATTR_BYTES,
            )
        };
        if outcome < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(outcome as i32)
        }
    }

    /// # Safety
    ///
    /// As for [`Self::call`]; the command must be one that returns a new descriptor.
    pub(super) unsafe fn create(mut self, command: Command) -> io::Result<OwnedFd> {
        // SAFETY: the caller's promise.
        let fd = unsafe { self.call(command) }?;
        // SAFETY: new descriptors belong to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
