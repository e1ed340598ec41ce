//! The tap of `tidegate capture`: copies of a pool's frames, as they pass the ports.
//!
//! It is made by the control thread, put into the network by a command, and taken out when it is over: asked for, after its time, or when
//! nobody has read its ring for a while. While there is none, a burst costs one branch more.

mod filter;

pub use filter::{Filter, Headers};

use crate::limits::{CAPTURE_BURST_FRAMES, CAPTURE_PATIENCE_US};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate_channel::capture::CaptureOrder;
use tidegate_port::capture::{Kind, Record, Sender};
use tidegate_port::frame_ring::RingError;

/// A capture under way.
#[derive(Debug)]
pub struct Tap {
    id: u64,
    ring: Sender,
    filter: Filter,
    /// Most bytes of a frame; `None`: its headers.
    snaplen: Option<usize>,
    bucket: Bucket,
    /// How long it may last; then when it is over.
    lasts_us: u64,
    ends_us: u64,
    now_us: u64,
    unix_ns: u64,
    lost_full: u32,
    lost_rate: u32,
    /// Since when the ring has been full.
    full_since_us: Option<u64>,
    over: bool,
}

impl Tap {
    /// Opens the ring. Allocates.
    pub fn open(order: CaptureOrder, ring: &OwnedFd) -> Result<Self, RingError> {
        Ok(Self {
            id: order.id,
            ring: Sender::open(ring.as_fd())?,
            filter: Filter::new(order.addresses),
            snaplen: order.snaplen.map(|bytes| bytes as usize),
            bucket: Bucket::full(order.rate),
            lasts_us: order.lasts_ms.saturating_mul(1_000),
            ends_us: u64::MAX,
            now_us: 0,
            unix_ns: 0,
            lost_full: 0,
            lost_rate: 0,
            full_since_us: None,
            over: false,
        })
    }

    /// The manager's number of it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The capture begins.
    pub fn start(&mut self, now_us: u64) {
        self.ends_us = now_us.saturating_add(self.lasts_us);
        self.begin_turn(now_us);
    }

    /// A turn of the loop begins. Its frames get this moment's time.
    pub fn begin_turn(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.now_us);
        self.bucket.fill(passed_us);
        self.now_us = now_us;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.unix_ns = now.map_or(0, |since| since.as_nanos() as u64);
    }

    /// A frame passes.
    pub fn pass(&mut self, port: usize, kind: Kind, frame: &[u8]) {
        if self.over {
            return;
        }
        let Some(headers) = self.filter.wants(frame) else {
            return;
        };
        if !self.bucket.take() {
            self.lost_rate = self.lost_rate.saturating_add(1);
            return;
        }
        let bytes = self.snaplen.unwrap_or(headers.bytes).min(frame.len());
        let record = Record {
            unix_ns: self.unix_ns,
            frame_bytes: frame.len() as u32,
            lost_full: self.lost_full,
            lost_rate: self.lost_rate,
            port: port as u8,
            kind,
            bytes: &frame[..bytes],
        };
        if self.ring.send(&record) {
            self.full_since_us = None;
        } else {
            self.lost_full = self.lost_full.saturating_add(1);
            let since_us = *self.full_since_us.get_or_insert(self.now_us);
            // Whoever read it is gone, and could not say so.
            self.over = self.now_us - since_us >= CAPTURE_PATIENCE_US;
        }
    }

    /// The frames of the turn are shown to whoever reads.
    pub fn publish(&mut self) {
        self.ring.publish();
    }

    /// Whether it is to be taken out.
    pub fn is_over(&self, now_us: u64) -> bool {
        self.over || now_us >= self.ends_us
    }

    /// Says that no more will come.
    pub fn end(&mut self) {
        let end = Record {
            unix_ns: self.unix_ns,
            frame_bytes: 0,
            lost_full: self.lost_full,
            lost_rate: self.lost_rate,
            port: 0,
            kind: Kind::End,
            bytes: &[],
        };
        // A full ring belongs to nobody who would read it.
        let _told = self.ring.send(&end);
        self.ring.publish();
        self.over = true;
    }
}

/// Frames that may be copied: a second's worth of them at once, or what the ring takes, and from then on as many as the rate says.
#[derive(Debug)]
struct Bucket {
    /// Frames in a second, which are millionths of a frame in a microsecond.
    rate: u64,
    /// Millionths of a frame.
    left: u64,
    most: u64,
}

/// A frame in millionths.
const FRAME: u64 = 1_000_000;

impl Bucket {
    fn full(rate: u64) -> Self {
        let most = rate.clamp(1, CAPTURE_BURST_FRAMES) * FRAME;
        Self {
            rate,
            left: most,
            most,
        }
    }

    fn fill(&mut self, passed_us: u64) {
        let more = passed_us.saturating_mul(self.rate);
        self.left = self.left.saturating_add(more).min(self.most);
    }

    fn take(&mut self) -> bool {
        let left = self.left.checked_sub(FRAME);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::filter::tests::frame;
    use super::*;
    use tidegate_port::capture::{self, Receiver, SLOTS};

    fn order() -> CaptureOrder {
        CaptureOrder {
            id: 7,
            addresses: vec!["10.0.0.1:11211".parse().unwrap()],
            snaplen: None,
            rate: 1_000_000,
            lasts_ms: 1_000,
        }
    }

    fn tap(order: CaptureOrder) -> (Tap, Receiver) {
        let ring = capture::create().unwrap();
        let mut tap = Tap::open(order, &ring).unwrap();
        tap.start(0);
        (tap, Receiver::open(ring.as_fd()).unwrap())
    }

    /// What was copied: kind, bytes on the wire, bytes copied, and what was lost before.
    fn copies(receiver: &mut Receiver) -> Vec<(Kind, u32, usize, u32, u32)> {
        let mut copies = Vec::new();
        receiver
            .receive(|r| {
                copies.push((
                    r.kind,
                    r.frame_bytes,
                    r.bytes.len(),
                    r.lost_full,
                    r.lost_rate,
                ));
                Ok::<(), ()>(())
            })
            .unwrap();
        copies
    }

    #[test]
    fn headers_of_the_pools_frames_are_copied_and_nothing_else() {
        let (mut tap, mut receiver) = tap(order());
        let ours = frame(
            "10.0.0.9:1",
            "10.0.0.1:11211",
            b"set password 0 0 7\r\nhunter2\r\n",
        );
        let other = frame("10.0.0.9:1", "10.0.0.2:11211", b"");
        tap.pass(0, Kind::Received, &ours);
        tap.pass(1, Kind::Sent, &other);
        tap.publish();
        let bytes = ours.len() as u32;
        assert_eq!(copies(&mut receiver), [(Kind::Received, bytes, 66, 0, 0)]);
        let (mut tap, mut receiver) = super::tests::tap(CaptureOrder {
            snaplen: Some(80),
            ..order()
        });
        tap.pass(0, Kind::Sent, &ours);
        tap.end();
        assert_eq!(
            copies(&mut receiver),
            [(Kind::Sent, bytes, 80, 0, 0), (Kind::End, 0, 0, 0, 0)]
        );
    }

    #[test]
    fn beyond_the_rate_frames_are_counted_and_not_copied() {
        let (mut tap, mut receiver) = tap(CaptureOrder {
            rate: 300,
            ..order()
        });
        let ours = frame("10.0.0.9:1", "10.0.0.1:11211", b"");
        // What a second allows may come at once; half a second later there is half as much again.
        for (now_us, frames) in [(10, 301), (500_010, 152)] {
            tap.begin_turn(now_us);
            for _ in 0..frames {
                tap.pass(0, Kind::Received, &ours);
            }
        }
        tap.end();
        let lost: Vec<u32> = copies(&mut receiver).iter().map(|copy| copy.4).collect();
        let expected = [vec![0; 300], vec![1; 150], vec![3]].concat();
        assert_eq!(lost, expected);
    }

    #[test]
    fn no_rate_allows_more_at_once_than_the_ring_takes() {
        let mut bucket = Bucket::full(10_000_000);
        bucket.fill(u64::MAX);
        let at_once = std::iter::repeat_with(|| bucket.take()).take_while(|taken| *taken);
        assert_eq!(at_once.count(), SLOTS);
    }

    #[test]
    fn a_capture_that_nobody_reads_ends_by_itself() {
        let (mut tap, _receiver) = tap(order());
        let ours = frame("10.0.0.9:1", "10.0.0.1:11211", b"");
        for _ in 0..SLOTS {
            tap.pass(0, Kind::Received, &ours);
        }
        tap.begin_turn(1);
        tap.pass(0, Kind::Received, &ours);
        tap.publish();
        assert!(!tap.is_over(1));
        tap.begin_turn(1 + CAPTURE_PATIENCE_US);
        tap.pass(0, Kind::Received, &ours);
        assert!(tap.is_over(1));
    }

    #[test]
    fn a_capture_ends_after_its_time() {
        let (tap, _receiver) = tap(order());
        assert!(!tap.is_over(999_999));
        assert!(tap.is_over(1_000_000));
    }
}
