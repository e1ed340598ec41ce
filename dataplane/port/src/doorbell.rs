//! An eventfd that wakes a sleeping process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A descriptor that becomes readable when somebody rings, and stays so until [`Doorbell::silence`].
///
/// One bell can serve several rings: its owner silences it, arms every ring, and sleeps only if none had frames.
#[derive(Debug)]
pub struct Doorbell {
    fd: OwnedFd,
}

impl Doorbell {
    /// A silent bell.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// A bell received from another process. It has to be a non-blocking eventfd, as made by [`Doorbell::new`].
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The same bell under another descriptor.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// Wakes the owner. A full counter (EAGAIN) means that it rings already, so the outcome needs no look.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: writes the eight bytes of a live local.
        unsafe {
            libc::write(
                self.fd.as_raw_fd(),
                (&raw const one).cast(),
                size_of::<u64>(),
            )
        };
    }

    /// Makes the descriptor unreadable until the next ring.
    pub fn silence(&self) {
        let mut count = 0u64;
        // SAFETY: reads at most eight bytes into a live local.
        unsafe {
            libc::read(
                self.fd.as_raw_fd(),
                (&raw mut count).cast(),
                size_of::<u64>(),
            )
        };
    }

    /// The descriptor, to be passed to another process.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{ErrorKind, Read};

    /// How often it rang since it was silenced, which silences it. An interpreter has no poll().
    fn rung(bell: &Doorbell) -> u64 {
        let mut count = [0; size_of::<u64>()];
        let mut file = File::from(bell.try_clone().unwrap().into_fd());
        match file.read(&mut count) {
            Ok(read) => assert_eq!(read, count.len()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        u64::from_ne_bytes(count)
    }

    #[test]
    fn a_bell_rings_until_it_is_silenced_and_silence_is_no_wait() {
        let bell = Doorbell::new().unwrap();
        bell.silence();
        assert_eq!(rung(&bell), 0);
        let ringer = bell.try_clone().unwrap();
        std::thread::spawn(move || (0..3).for_each(|_| ringer.ring()))
            .join()
            .unwrap();
        assert_eq!(rung(&bell), 3);
        bell.ring();
        bell.silence();
        assert_eq!(rung(&bell), 0);
    }
}
