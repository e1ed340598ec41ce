//! Copies of frames on their way from a worker to whoever writes them down.
//!
//! One [`frame_ring`] per worker, made by the manager, written by the worker's loop and read by the capturing command.
//! Nobody is woken: the reader looks every few milliseconds, so that a capture costs the worker no system call. A full ring costs
//! copies, never time.
//!
//! ```text
//! 0   u64  nanoseconds since 1970
//! 8   u32  bytes of the frame on the wire
//! 12  u32  copies lost so far because the ring was full
//! 16  u32  copies lost so far because of the rate
//! 20  u8   port, by position in the configuration
//! 21  u8   what it is: 0 received, 1 sent, 2 no frame but the end
//! 22  2 bytes unused
//! 24  the front of the frame
//! ```

use crate::frame_ring::{self, Consumer, FRAME_BYTES_MAX, Popped, Producer, RingError};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Slots of a ring: 16 MiB. At a million frames a second it takes 8 ms to fill, twice as long as its reader sleeps.
pub const SLOTS: usize = 8_192;

/// Bytes in front of each copy.
const HEADER_BYTES: usize = 24;

/// Longest copy: every frame of the largest MTU fits.
pub const COPY_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A frame that was received.
    Received,
    /// A frame that was handed to the device.
    Sent,
    /// The capture is over: no record follows.
    End,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Bytes of the frame on the wire.
    pub frame_bytes: u32,
    /// Copies lost before this one because the ring was full.
    pub lost_full: u32,
    /// Copies lost before this one because there were more than the rate allows.
    pub lost_rate: u32,
    /// The port, by position in the configuration.
    pub port: u8,
    /// What it is.
    pub kind: Kind,
    /// The front of the frame.
    pub bytes: &'a [u8],
}

/// A new ring, to be opened by one [`Sender`] and one [`Receiver`].
pub fn create() -> Result<OwnedFd, RingError> {
    frame_ring::create_fd("tidegate-capture", SLOTS)
}

/// The worker's end.
#[derive(Debug)]
pub struct Sender {
    ring: Producer,
}

impl Sender {
    /// Opens the sending end.
    pub fn open(ring: BorrowedFd<'_>) -> Result<Self, RingError> {
        Ok(Self {
            ring: Producer::open(ring)?,
        })
    }

    /// Copies a record into the ring; `false`: it is full. Bytes beyond [`COPY_BYTES_MAX`] are left out.
    pub fn send(&mut self, record: &Record<'_>) -> bool {
        if self.ring.room() == 0 {
            return false;
        }
        let bytes = &record.bytes[..record.bytes.len().min(COPY_BYTES_MAX)];
        self.ring.push(0, HEADER_BYTES + bytes.len(), |slot| {
            let (header, copy) = slot.split_at_mut(HEADER_BYTES);
            header[0..8].copy_from_slice(&record.unix_ns.to_ne_bytes());
            header[8..12].copy_from_slice(&record.frame_bytes.to_ne_bytes());
            header[12..16].copy_from_slice(&record.lost_full.to_ne_bytes());
            header[16..20].copy_from_slice(&record.lost_rate.to_ne_bytes());
            header[20] = record.port;
            header[21] = match record.kind {
                Kind::Received => 0,
                Kind::Sent => 1,
                Kind::End => 2,
            };
            header[22..].fill(0);
            copy.copy_from_slice(bytes);
        });
        true
    }

    /// Makes the records of the burst visible.
    pub fn publish(&mut self) {
        // The reader never sleeps on the ring.
        let _asleep = self.ring.publish();
    }
}

/// The end of whoever writes them down. It trusts the worker with nothing but the content of the frames.
#[derive(Debug)]
pub struct Receiver {
    ring: Consumer,
    slot: Box<[u8; FRAME_BYTES_MAX]>,
    /// Bytes of the record in `slot`, which is the next.
    held: Option<usize>,
    malformed: u64,
}

impl Receiver {
    /// Opens the receiving end.
    pub fn open(ring: BorrowedFd<'_>) -> Result<Self, RingError> {
        Ok(Self {
            ring: Consumer::open(ring)?,
            slot: Box::new([0; FRAME_BYTES_MAX]),
            held: None,
            malformed: 0,
        })
    }

    /// Gives `take` the records that are there, until it fails.
    ///
    /// # Errors
    /// Those of `take`; the record that it was given is gone.
    pub fn receive<E>(
        &mut self,
        mut take: impl FnMut(&Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.look();
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(record) = self.front()
        {
            outcome = take(&record);
            self.drop_front();
        }
        self.release();
        outcome
    }

    /// Sees what is there by now. Until the next look nothing is added to it.
    pub fn look(&mut self) {
        self.ring.waiting();
    }

    /// The next of the records that were seen. It stays the next.
    pub fn front(&mut self) -> Option<Record<'_>> {
        while self.held.is_none() {
            match self.ring.pop(&mut self.slot[..])? {
                Popped::Frame { bytes, .. } if parse(&self.slot[..bytes]).is_some() => {
                    self.held = Some(bytes);
                }
                Popped::Frame { .. } | Popped::Malformed => self.malformed += 1,
            }
        }
        parse(&self.slot[..self.held?])
    }

    /// The one after it is the next.
    pub fn drop_front(&mut self) {
        self.held = None;
    }

    /// Gives the room of records that were taken back to the worker.
    pub fn release(&mut self) {
        self.ring.release();
    }

    /// Records that were none.
    pub fn malformed(&self) -> u64 {
        self.malformed + self.ring.index_faults()
    }
}

fn parse(slot: &[u8]) -> Option<Record<'_>> {
    let (header, bytes) = slot.split_first_chunk::<HEADER_BYTES>()?;
    let word = |at: usize| {
        let word = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        u32::from_ne_bytes(word)
    };
    Some(Record {
        unix_ns: u64::from_ne_bytes(*header.first_chunk()?),
        frame_bytes: word(8),
        lost_full: word(12),
        lost_rate: word(16),
        port: header[20],
        kind: match header[21] {
            0 => Kind::Received,
            1 => Kind::Sent,
            2 => Kind::End,
            _ => return None,
        },
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn record(bytes: &[u8]) -> Record<'_> {
        Record {
            unix_ns: 1_700_000_000_123_456_789,
            frame_bytes: 1_514,
            lost_full: 3,
            lost_rate: 4,
            port: 1,
            kind: Kind::Sent,
            bytes,
        }
    }

    fn all(receiver: &mut Receiver) -> Vec<(Kind, usize)> {
        let mut seen = Vec::new();
        receiver
            .receive(|record| {
                seen.push((record.kind, record.bytes.len()));
                Ok::<(), ()>(())
            })
            .unwrap();
        seen
    }

    #[test]
    fn records_arrive_as_they_were_sent_once_they_are_published() {
        let ring = create().unwrap();
        let mut sender = Sender::open(ring.as_fd()).unwrap();
        let mut receiver = Receiver::open(ring.as_fd()).unwrap();
        assert!(sender.send(&record(b"frame")));
        assert!(all(&mut receiver).is_empty());
        sender.publish();
        let mut seen = 0;
        receiver
            .receive(|got| {
                assert_eq!(*got, record(b"frame"));
                seen += 1;
                Ok::<(), ()>(())
            })
            .unwrap();
        assert_eq!(seen, 1);
        let end = Record {
            kind: Kind::End,
            ..record(&[])
        };
        assert!(sender.send(&end) && sender.send(&record(&[0; 4_000])));
        sender.publish();
        assert_eq!(
            all(&mut receiver),
            [(Kind::End, 0), (Kind::Sent, COPY_BYTES_MAX)]
        );
        assert_eq!(receiver.malformed(), 0);
    }

    #[test]
    fn a_full_ring_refuses_and_goes_on_when_there_is_room() {
        let ring = create().unwrap();
        let mut sender = Sender::open(ring.as_fd()).unwrap();
        let mut receiver = Receiver::open(ring.as_fd()).unwrap();
        let sent = std::iter::repeat_with(|| sender.send(&record(b"x"))).take_while(|sent| *sent);
        assert_eq!(sent.count(), SLOTS);
        sender.publish();
        assert!(!sender.send(&record(b"x")));
        assert_eq!(all(&mut receiver).len(), SLOTS);
        assert!(sender.send(&record(b"x")));
    }

    #[test]
    fn what_is_no_record_is_counted() {
        let ring = create().unwrap();
        let mut producer = Producer::open(ring.as_fd()).unwrap();
        let mut receiver = Receiver::open(ring.as_fd()).unwrap();
        producer.push_copy(0, &[0; HEADER_BYTES - 1]);
        producer.push_copy(0, &[9; HEADER_BYTES]);
        assert!(!producer.publish());
        assert!(all(&mut receiver).is_empty());
        assert_eq!(receiver.malformed(), 2);
    }

    #[test]
    fn the_next_record_can_be_seen_before_it_is_taken() {
        let ring = create().unwrap();
        let mut sender = Sender::open(ring.as_fd()).unwrap();
        let mut receiver = Receiver::open(ring.as_fd()).unwrap();
        sender.send(&record(b"first"));
        sender.publish();
        assert!(receiver.front().is_none(), "nobody has looked");
        receiver.look();
        sender.send(&record(b"second"));
        sender.publish();
        for _ in 0..2 {
            assert_eq!(receiver.front().unwrap().bytes, b"first");
        }
        receiver.drop_front();
        assert!(receiver.front().is_none(), "it came after the look");
        receiver.look();
        assert_eq!(receiver.front().unwrap().bytes, b"second");
    }

    #[test]
    fn a_taker_that_fails_gets_nothing_more() {
        let ring = create().unwrap();
        let mut sender = Sender::open(ring.as_fd()).unwrap();
        let mut receiver = Receiver::open(ring.as_fd()).unwrap();
        for _ in 0..3 {
            sender.send(&record(b"x"));
        }
        sender.publish();
        assert_eq!(receiver.receive(|_| Err("full")), Err("full"));
        assert_eq!(all(&mut receiver).len(), 2);
    }
}
