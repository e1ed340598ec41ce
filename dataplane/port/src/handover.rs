//! Frames that reached the wrong worker, on their way to the right one.
//!
//! Each ordered pair of workers shares one ring, made by the manager and opened by both. A frame carries the index of the
//! port it arrived on, because the owner treats it as if it had arrived there itself.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::doorbell::Doorbell;
use crate::frame_ring::{self, Consumer, FRAME_BYTES_MAX, Popped, Producer, RingError};

/// Slots of a ring when nothing else is asked for: 512 KiB per pair of workers. Hand-over is the exception, a few bursts
/// are enough; what does not fit is dropped, counted by the stack, and sent again by TCP.
pub const DEFAULT_SLOTS: usize = 256;

/// A new ring, to be opened by one [`Sender`] and one [`Receiver`].
pub fn create(slots: usize) -> Result<OwnedFd, RingError> {
    frame_ring::create_fd("tidegate-handover", slots)
}

/// A ring inside this process.
pub fn in_process(slots: usize) -> Result<(Sender, Receiver), RingError> {
    let (producer, consumer) = frame_ring::in_process(slots)?;
    Ok((
        Sender {
            ring: producer,
            bell: None,
        },
        Receiver::new(consumer),
    ))
}

/// The worker that found the frame.
#[derive(Debug)]
pub struct Sender {
    ring: Producer,
    bell: Option<Doorbell>,
}

impl Sender {
    /// Opens the sending end. `bell` is the owner's, if it sleeps.
    pub fn open(ring: BorrowedFd<'_>, bell: Option<Doorbell>) -> Result<Self, RingError> {
        Ok(Self {
            ring: Producer::open(ring)?,
            bell,
        })
    }

    /// Copies the frame into the ring; `false`: it is full, or no slot holds the frame. Seen by the owner after
    /// [`Sender::publish`].
    pub fn send(&mut self, port: u8, frame: &[u8]) -> bool {
        self.ring.push_copy(port, frame)
    }

    /// Makes the frames of the burst visible and wakes the owner if it sleeps.
    pub fn publish(&mut self) {
        if self.ring.publish()
            && let Some(bell) = &self.bell
        {
            bell.ring();
        }
    }
}

/// The worker that owns the flow.
#[derive(Debug)]
pub struct Receiver {
    ring: Consumer,
    frame: Box<[u8; FRAME_BYTES_MAX]>,
}

impl Receiver {
    fn new(ring: Consumer) -> Self {
        Self {
            ring,
            frame: Box::new([0; FRAME_BYTES_MAX]),
        }
    }

    /// Opens the receiving end.
    pub fn open(ring: BorrowedFd<'_>) -> Result<Self, RingError> {
        Ok(Self::new(Consumer::open(ring)?))
    }

    /// Frames that wait.
    pub fn waiting(&mut self) -> usize {
        self.ring.waiting()
    }

    /// Gives up to `max` frames, with the port they arrived on, to `take`; returns how many slots it emptied. The port
    /// comes from another process: check it before it becomes an index.
    pub fn receive(&mut self, max: usize, mut take: impl FnMut(u8, &[u8])) -> usize {
        let emptied = self.ring.waiting().min(max);
        for _ in 0..emptied {
            if let Some(Popped::Frame { bytes, tag }) = self.ring.pop(&mut self.frame[..]) {
                take(tag, &self.frame[..bytes]);
            }
        }
        if emptied > 0 {
            self.ring.release();
        }
        emptied
    }

    /// Asks the sender to ring our bell after its next frame. `false`: frames wait already, do not sleep. Silence the
    /// bell before.
    pub fn prepare_to_wait(&mut self) -> bool {
        self.ring.prepare_to_wait()
    }

    /// Frames and indexes that were impossible, and dropped.
    pub fn faults(&self) -> u64 {
        self.ring.length_faults() + self.ring.index_faults()
    }
}
