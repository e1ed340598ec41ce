//! The hand-over rings of one worker: to and from every other. And what becomes of frames that are not for TCP, where the kernel does not
//! see them: they are the first worker's.

use crate::limits::{OTHERS_BYTES_MAX, OTHERS_MAX};
use tidegate_port::ETHERNET_HEADER_BYTES;
use tidegate_port::handover::{Receiver, Sender};
use tidegate_stack::HandOver;

/// Frames that are not for TCP.
#[derive(Debug, Default)]
enum Others {
    /// The kernel has them, or nobody.
    #[default]
    Nobody,
    /// They go to the first worker.
    OfFirst,
    /// This is the first worker: they wait here for the end of the burst.
    Here(Inbox),
}

/// Frames with the ports that they came by, in memory that is reserved at start.
#[derive(Debug)]
pub struct Inbox {
    bytes: Box<[u8]>,
    frames: Vec<(u8, usize)>,
    used: usize,
}

impl Inbox {
    fn new() -> Self {
        Self {
            bytes: vec![0; OTHERS_BYTES_MAX].into_boxed_slice(),
            frames: Vec::with_capacity(OTHERS_MAX),
            used: 0,
        }
    }

    fn put(&mut self, port: u8, frame: &[u8]) -> bool {
        let end = self.used + frame.len();
        let Some(place) = self.bytes.get_mut(self.used..end) else {
            return false;
        };
        if self.frames.len() == OTHERS_MAX {
            return false;
        }
        place.copy_from_slice(frame);
        self.frames.push((port, end));
        self.used = end;
        true
    }

    /// Gives every frame to `take`, in the order in which they came.
    pub fn empty(&mut self, mut take: impl FnMut(u8, &[u8])) {
        let mut start = 0;
        for (port, end) in self.frames.drain(..) {
            take(port, &self.bytes[start..end]);
            start = end;
        }
        self.used = 0;
    }
}

/// The sending ends, by worker; none for the worker itself.
#[derive(Debug, Default)]
pub struct HandOverSenders {
    senders: Vec<Option<Sender>>,
    used: bool,
    others: Others,
}

impl HandOverSenders {
    /// One entry per worker, `None` for the worker itself.
    pub fn new(senders: Vec<Option<Sender>>) -> Self {
        Self {
            senders,
            used: false,
            others: Others::Nobody,
        }
    }

    /// Frames that are not for TCP go to the first worker, which this one may be itself.
    #[must_use]
    pub fn with_others(mut self, is_first: bool) -> Self {
        self.others = if is_first {
            Others::Here(Inbox::new())
        } else {
            Others::OfFirst
        };
        self
    }

    /// Frames that are not for TCP and wait for the first worker's attention.
    #[inline]
    pub fn inbox(&mut self) -> Option<&mut Inbox> {
        match &mut self.others {
            Others::Here(inbox) if inbox.used > 0 => Some(inbox),
            _ => None,
        }
    }

    /// Copies a frame towards the worker that owns it, with a tag that says how it arrived; `false`: the ring is full, or there is no
    /// such worker.
    pub fn send(&mut self, worker: u32, tag: u8, frame: &[u8]) -> bool {
        let sender = self
            .senders
            .get_mut(worker as usize)
            .and_then(Option::as_mut);
        let sent = sender.is_some_and(|sender| sender.send(tag, frame));
        self.used |= sent;
        sent
    }

    /// Makes what was handed over in this turn visible, and wakes those who sleep.
    pub fn publish(&mut self) {
        if std::mem::take(&mut self.used) {
            self.senders.iter_mut().flatten().for_each(Sender::publish);
        }
    }
}

impl HandOver for HandOverSenders {
    #[inline]
    fn hand_over(&mut self, worker: u32, tag: u8, frame: &[u8]) -> bool {
        self.send(worker, tag, frame)
    }

    /// A flood of anything else does not reach the first worker.
    fn not_for_tcp(&mut self, port: u8, frame: &[u8]) -> bool {
        if !is_for_link_layer(frame) {
            return false;
        }
        match &mut self.others {
            Others::Nobody => false,
            Others::OfFirst => self.send(0, port, frame),
            Others::Here(inbox) => inbox.put(port, frame),
        }
    }
}

/// ARP, ICMP, and ICMPv6 right behind the header.
fn is_for_link_layer(frame: &[u8]) -> bool {
    const ETHERNET: usize = ETHERNET_HEADER_BYTES;
    match frame.get(12..ETHERNET) {
        Some([0x08, 0x06]) => true,
        Some([0x08, 0x00]) => frame.get(ETHERNET + 9) == Some(&1),
        Some([0x86, 0xdd]) => frame.get(ETHERNET + 6) == Some(&58),
        _ => false,
    }
}

/// The receiving ends.
#[derive(Debug, Default)]
pub struct HandOverReceivers {
    receivers: Vec<Receiver>,
    /// Frames that nobody took.
    strays: u64,
}

impl HandOverReceivers {
    /// One per other worker.
    pub fn new(receivers: Vec<Receiver>) -> Self {
        Self {
            receivers,
            strays: 0,
        }
    }

    /// Frames that wait in all rings.
    pub fn waiting(&mut self) -> usize {
        self.receivers.iter_mut().map(Receiver::waiting).sum()
    }

    /// Gives up to `max` frames of each ring to `take`, with their tags; returns how many slots were emptied. The port in a tag is
    /// another process's word: `take` checks it before it becomes an index, and returns whether there is such a port.
    pub fn receive(&mut self, max: usize, mut take: impl FnMut(u8, &[u8]) -> bool) -> usize {
        let Self { receivers, strays } = self;
        let mut take = |tag, frame: &[u8]| *strays += u64::from(!take(tag, frame));
        receivers
            .iter_mut()
            .map(|receiver| receiver.receive(max, &mut take))
            .sum()
    }

    /// Frames and places in the rings that no worker writes; they were dropped.
    pub fn faults(&self) -> u64 {
        let in_rings = self.receivers.iter().map(Receiver::faults);
        self.strays + in_rings.sum::<u64>()
    }

    /// Asks every sender to ring. `false`: frames wait already.
    pub fn prepare_to_wait(&mut self) -> bool {
        self.receivers.iter_mut().all(Receiver::prepare_to_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_port::handover::in_process;

    #[test]
    fn a_frame_reaches_the_worker_it_is_for_after_publish() {
        let (to_one, from_zero) = in_process(4).unwrap();
        let (to_two, also_from_zero) = in_process(4).unwrap();
        let mut senders = HandOverSenders::new(vec![None, Some(to_one), Some(to_two)]);
        let mut one = HandOverReceivers::new(vec![from_zero]);
        let mut two = HandOverReceivers::new(vec![also_from_zero]);
        assert!(one.prepare_to_wait());
        assert!(senders.send(1, 7, b"frame"));
        assert_eq!(one.waiting(), 0, "not published");
        senders.publish();
        assert!(!one.prepare_to_wait());
        let mut seen = Vec::new();
        assert_eq!(
            one.receive(64, |port, frame| {
                seen.push((port, frame.to_vec()));
                true
            }),
            1
        );
        assert_eq!(one.faults(), 0);
        assert_eq!(seen, [(7, b"frame".to_vec())]);
        assert_eq!(two.receive(64, |_, _| panic!("not for worker 2")), 0);
    }

    fn frame(kind: [u8; 2], protocol_at: usize, protocol: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&kind);
        frame[protocol_at] = protocol;
        frame
    }

    fn arp() -> Vec<u8> {
        frame([0x08, 0x06], 59, 0)
    }

    #[test]
    fn a_frame_from_a_port_that_is_not_there_is_counted() {
        let (mut sender, receiver) = in_process(4).unwrap();
        assert!(sender.send(9, b"frame") && sender.send(0, b"frame"));
        sender.publish();
        let mut receivers = HandOverReceivers::new(vec![receiver]);
        assert_eq!(receivers.receive(64, |port, _| port == 0), 2);
        assert_eq!(receivers.faults(), 1);
    }

    #[test]
    fn what_is_for_the_link_layer_is_the_first_workers() {
        let (echo, echo6) = (frame([0x08, 0x00], 23, 1), frame([0x86, 0xdd], 20, 58));
        let (to_first, mut from_second) = in_process(4).unwrap();
        let mut second = HandOverSenders::new(vec![Some(to_first), None]).with_others(false);
        assert!(second.not_for_tcp(3, &arp()));
        let udp = frame([0x08, 0x00], 23, 17);
        let (udp6, tagged) = (frame([0x86, 0xdd], 20, 17), frame([0x81, 0x00], 23, 1));
        for other in [
            &udp,
            &udp6,
            &tagged,
            &arp()[..13].to_vec(),
            &udp[..20].to_vec(),
        ] {
            assert!(!second.not_for_tcp(3, other));
        }
        second.publish();
        let mut first = HandOverSenders::new(vec![None]).with_others(true);
        assert!(first.inbox().is_none());
        from_second.receive(8, |port, frame| assert!(first.not_for_tcp(port, frame)));
        assert!(first.not_for_tcp(1, &echo) && first.not_for_tcp(2, &echo6));
        let mut seen = Vec::new();
        let inbox = first.inbox().unwrap();
        inbox.empty(|port, frame| seen.push((port, frame.to_vec())));
        assert_eq!(seen, [(3, arp()), (1, echo), (2, echo6)]);
        assert!(first.inbox().is_none());
        assert!(!HandOverSenders::new(vec![None]).not_for_tcp(0, &arp()));
    }

    #[test]
    fn a_flood_for_the_link_layer_takes_no_more_memory() {
        let mut first = HandOverSenders::new(vec![None]).with_others(true);
        let taken = (0..10_000).filter(|_| first.not_for_tcp(0, &arp())).count();
        assert_eq!(taken, OTHERS_MAX);
        let inbox = first.inbox().unwrap();
        inbox.empty(|_, _| {});
        let mut long = arp();
        long.resize(2_000, 0);
        let taken = (0..10_000).filter(|_| first.not_for_tcp(0, &long)).count();
        assert_eq!(taken, OTHERS_BYTES_MAX / 2_000);
    }

    #[test]
    fn nobody_hands_over_to_himself_or_to_nobody() {
        let mut senders = HandOverSenders::new(vec![None]);
        assert!(!senders.send(0, 0, b"frame"));
        assert!(!senders.send(9, 0, b"frame"));
    }
}
