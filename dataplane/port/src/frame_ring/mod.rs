//! A bounded ring of frames in shared memory, from one producer to one consumer.
//!
//! The two sides may be threads of one process (anonymous memory) or processes (a sealed memfd). Neither trusts the other:
//! frames are copied between private memory and the slots, so what was checked cannot change afterwards; indexes and
//! lengths are checked each time they are read, and what fails the check is dropped and counted. A side keeps no state in
//! the memory that its successor could not take over, so a process that died is replaced by opening the same descriptor.
//!
//! ```text
//! 0      magic, version
//! 128    head: slots published so far, written by the producer
//! 256    tail: slots taken so far, written by the consumer
//! 384    asleep: 1 while the consumer wants to be woken
//! 512    slot 0: u16 length, u8 tag, 5 bytes unused, frame
//! 2,560  slot 1 …
//! ```
//!
//! Indexes count modulo 2³² and are used modulo the number of slots, which is a power of two. They stand 128 bytes apart,
//! because x86 prefetches cache lines in pairs: neither side's stores disturb what the other one polls.

mod consumer;
mod memory;
mod producer;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

pub use consumer::{Consumer, Popped};
pub use producer::Producer;

use memory::SharedRing;

/// Bytes between two slots: the same as a chunk of UMEM, so that every frame of an AF_XDP port with MTU up to 1,778 fits.
pub const SLOT_BYTES: usize = 2_048;

/// Longest frame that a slot holds.
pub const FRAME_BYTES_MAX: usize = SLOT_BYTES - memory::SLOT_HEADER_BYTES;

/// Most slots of one ring: 128 MiB. A larger number in a configuration is a mistake rather than a wish.
pub const SLOTS_MAX: usize = 65_536;

/// Why a ring could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The number of slots is not usable.
    #[error(
        "a frame ring needs a power of two of slots between 2 and {SLOTS_MAX}, not {0}: change the ring size"
    )]
    Slots(usize),
    /// The descriptor is not one of our rings.
    #[error(
        "the descriptor is not a frame ring of this version ({0}): start manager and worker from one build"
    )]
    Foreign(&'static str),
    /// The kernel refused.
    #[error(
        "cannot {action} for a frame ring of {bytes} bytes: {source}; is there enough free memory?"
    )]
    System {
        /// What was tried.
        action: &'static str,
        /// Size of the ring.
        bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// A ring between two threads of this process.
pub fn in_process(slots: usize) -> Result<(Producer, Consumer), RingError> {
    let ring = SharedRing::anonymous(slots)?;
    Ok((Producer::new(ring.clone()), Consumer::new(ring)))
}

/// A ring that processes open with [`Producer::open`] and [`Consumer::open`]; `name` is what `/proc/<pid>/fd` shows.
///
/// The memfd is sealed against truncation, so that no holder of it can make another one crash with SIGBUS.
pub fn create_fd(name: &str, slots: usize) -> Result<OwnedFd, RingError> {
    memory::create_fd(name, slots)
}
