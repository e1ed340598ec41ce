//! From the rings of the workers to the file, until a limit, a signal, or a fault ends it.

use super::Begun;
use super::pcapng::{Direction, Packet, Statistics, Writer};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use tidegate_port::capture::{Kind, Receiver, Record};

/// When to end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of the file.
    pub bytes: u64,
    /// Most frames.
    pub frames: u64,
}

/// Why a capture is over.
#[derive(Debug)]
pub enum Over {
    /// A limit is reached.
    Limit,
    /// The file takes no more.
    Failed(io::Error),
}

/// Writes the file.
pub struct Scribe<W> {
    writer: Writer<W>,
    limits: Limits,
    interfaces: u32,
    /// By interface and queue.
    statistics: Vec<Statistics>,
    /// Workers that said that no more comes.
    ended: Vec<bool>,
    frames: u64,
    latest_ns: u64,
    /// Workers with a record at hand, the earliest first.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<W: Write> Scribe<W> {
    /// Begins the file. `snaplen` is what frames are cut to; 0: to their headers, or not at all.
    pub fn new(out: W, begun: &Begun, snaplen: u32, limits: Limits) -> io::Result<Self> {
        let program = concat!("tidegate ", env!("CARGO_PKG_VERSION"));
        let mut writer = Writer::new(out, program)?;
        for queue in 0..begun.workers {
            for interface in &begun.interfaces {
                writer.interface(&format!("{interface}:{queue}"), snaplen)?;
            }
        }
        let interfaces = begun.interfaces.len() as u32;
        Ok(Self {
            writer,
            limits,
            interfaces,
            statistics: vec![Statistics::default(); (begun.workers * interfaces) as usize],
            ended: vec![false; begun.workers as usize],
            frames: 0,
            latest_ns: 0,
            next: BinaryHeap::with_capacity(begun.workers as usize),
        })
    }

    /// Frames written so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Frames that are missing.
    pub fn lost(&self) -> u64 {
        let lost = self.statistics.iter().map(|s| s.lost_full + s.lost_rate);
        lost.sum()
    }

    /// Whether every worker said that no more comes.
    pub fn is_complete(&self) -> bool {
        self.ended.iter().all(|ended| *ended)
    }

    /// Writes what the workers have copied so far, in the order of time.
    pub fn take(&mut self, rings: &mut [Receiver]) -> ControlFlow<Over> {
        self.next.clear();
        for (worker, ring) in rings.iter_mut().enumerate() {
            ring.look();
            let front = ring.front().map(|record| record.unix_ns);
            self.next.extend(front.map(|time| Reverse((time, worker))));
        }
        let mut over = None;
        while over.is_none()
            && let Some(Reverse((_, worker))) = self.next.pop()
        {
            let ring = &mut rings[worker];
            over = ring
                .front()
                .and_then(|record| self.record(worker, &record).err());
            ring.drop_front();
            let front = ring.front().map(|record| record.unix_ns);
            self.next.extend(front.map(|time| Reverse((time, worker))));
        }
        for ring in rings {
            ring.release();
        }
        over.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }

    fn record(&mut self, worker: usize, record: &Record<'_>) -> Result<(), Over> {
        let port = u32::from(record.port);
        if port >= self.interfaces {
            return Ok(());
        }
        // A worker's rings are one for all its ports: what was lost is told of its first.
        let first = worker * self.interfaces as usize;
        self.statistics[first].lost_full = record.lost_full.into();
        self.statistics[first].lost_rate = record.lost_rate.into();
        self.latest_ns = self.latest_ns.max(record.unix_ns);
        let direction = match record.kind {
            Kind::Received => Direction::Inbound,
            Kind::Sent => Direction::Outbound,
            Kind::End => {
                self.ended[worker] = true;
                return Ok(());
            }
        };
        if self.frames >= self.limits.frames || self.writer.bytes() >= self.limits.bytes {
            return Err(Over::Limit);
        }
        let interface = first + port as usize;
        let packet = Packet {
            interface: interface as u32,
            unix_ns: record.unix_ns,
            original_bytes: record.frame_bytes,
            direction,
            bytes: record.bytes,
        };
        self.writer.packet(&packet).map_err(Over::Failed)?;
        self.statistics[interface].written += 1;
        self.frames += 1;
        Ok(())
    }

    /// Hands on what is buffered, so that the file can be read while it grows.
    pub fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Ends the file.
    pub fn finish(&mut self) -> io::Result<()> {
        for (interface, statistics) in self.statistics.iter().enumerate() {
            self.writer
                .statistics(interface as u32, self.latest_ns, statistics)?;
        }
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use tidegate_port::capture::{self, Sender};

    fn begun() -> Begun {
        Begun {
            instance: "a".into(),
            interfaces: vec!["eth1".into(), "eth2".into()],
            workers: 2,
        }
    }

    fn ring() -> (Sender, Receiver) {
        let ring = capture::create().unwrap();
        (
            Sender::open(ring.as_fd()).unwrap(),
            Receiver::open(ring.as_fd()).unwrap(),
        )
    }

    fn record(port: u8, kind: Kind) -> Record<'static> {
        Record {
            unix_ns: 5,
            frame_bytes: 60,
            lost_full: 2,
            lost_rate: 1,
            port,
            kind,
            bytes: b"frame",
        }
    }

    const PLENTY: Limits = Limits {
        bytes: u64::MAX,
        frames: u64::MAX,
    };

    #[test]
    fn frames_go_to_the_interface_of_their_queue_and_losses_are_told() {
        let (_idle, none) = ring();
        let (mut sender, receiver) = ring();
        let mut rings = [none, receiver];
        let mut file = Vec::new();
        let mut scribe = Scribe::new(&mut file, &begun(), 0, PLENTY).unwrap();
        for kind in [Kind::Received, Kind::Sent, Kind::End] {
            sender.send(&record(1, kind));
        }
        sender.send(&record(9, Kind::Sent));
        sender.publish();
        assert!(scribe.take(&mut rings).is_continue());
        assert!(!scribe.is_complete(), "the other worker has not ended");
        assert_eq!((scribe.frames(), scribe.lost()), (2, 3));
        assert_eq!(scribe.statistics[3].written, 2);
        assert_eq!(scribe.statistics[2].lost_full, 2);
        scribe.finish().unwrap();
        assert!(file.len() > 100);
    }

    #[test]
    fn frames_of_several_workers_are_in_the_order_of_time() {
        let (mut senders, mut rings): (Vec<_>, Vec<_>) = (0..2).map(|_| ring()).unzip();
        for (worker, times) in [[5, 7, 30], [1, 6, 20]].iter().enumerate() {
            for time in times {
                let at = Record {
                    unix_ns: *time,
                    ..record(0, Kind::Sent)
                };
                senders[worker].send(&at);
            }
            senders[worker].publish();
        }
        let mut file = Vec::new();
        let mut scribe = Scribe::new(&mut file, &begun(), 0, PLENTY).unwrap();
        assert!(scribe.take(&mut rings).is_continue());
        let (mut rest, mut times) = (&file[..], Vec::new());
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            if word(0) == 6 {
                times.push(word(16));
            }
            rest = &rest[word(4) as usize..];
        }
        assert_eq!(times, [1, 5, 6, 7, 20, 30]);
    }

    #[test]
    fn limits_and_full_disks_end_it() {
        let (mut sender, receiver) = ring();
        let mut rings = [receiver];
        for _ in 0..5 {
            sender.send(&record(0, Kind::Received));
        }
        sender.publish();
        let limits = Limits {
            frames: 2,
            ..PLENTY
        };
        let mut scribe = Scribe::new(Vec::new(), &begun(), 0, limits).unwrap();
        assert!(matches!(
            scribe.take(&mut rings),
            ControlFlow::Break(Over::Limit)
        ));
        assert_eq!(scribe.frames(), 2);
        let mut disk = [0; 400];
        let mut scribe = Scribe::new(&mut disk[..], &begun(), 0, PLENTY).unwrap();
        for _ in 0..10 {
            sender.send(&record(0, Kind::Received));
        }
        sender.publish();
        assert!(matches!(
            scribe.take(&mut rings),
            ControlFlow::Break(Over::Failed(_))
        ));
    }
}
