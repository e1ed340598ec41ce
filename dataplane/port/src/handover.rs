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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn frames_reach_the_owner_with_their_port() {
        let fd = create(4).unwrap();
        let mut sender = Sender::open(fd.as_fd(), None).unwrap();
        let mut receiver = Receiver::open(fd.as_fd()).unwrap();
        assert!(sender.send(1, b"first") && sender.send(0, b"second"));
        assert_eq!(receiver.waiting(), 0);
        sender.publish();
        let mut seen = Vec::new();
        assert_eq!(
            receiver.receive(64, |port, frame| seen.push((port, frame.to_vec()))),
            2
        );
        assert_eq!(seen, [(1, b"first".to_vec()), (0, b"second".to_vec())]);
        assert_eq!(receiver.faults(), 0);
    }

    #[test]
    fn a_full_ring_refuses_and_recovers() {
        let (mut sender, mut receiver) = in_process(2).unwrap();
        assert!(sender.send(0, &[1]) && sender.send(0, &[2]));
        assert!(!sender.send(0, &[3]));
        sender.publish();
        assert_eq!(receiver.receive(1, |_, frame| assert_eq!(frame, [1])), 1);
        assert!(sender.send(0, &[3]));
    }

    #[test]
    fn one_bell_serves_several_senders() {
        let bell = Doorbell::new().unwrap();
        let fds = [create(4).unwrap(), create(4).unwrap()];
        let mut senders = fds
            .each_ref()
            .map(|fd| Sender::open(fd.as_fd(), bell.try_clone().ok()).unwrap());
        let mut receivers = fds.each_ref().map(|fd| Receiver::open(fd.as_fd()).unwrap());
        bell.silence();
        assert!(receivers.iter_mut().all(Receiver::prepare_to_wait));
        assert!(!crate::test_support::readable(bell.as_fd()));
        assert!(senders[1].send(0, &[9]));
        senders[1].publish();
        assert!(crate::test_support::readable(bell.as_fd()));
        bell.silence();
        assert!(!receivers.iter_mut().all(Receiver::prepare_to_wait));
    }
}
