//! The hand-over rings of one worker: to and from every other.

use tidegate_port::handover::{Receiver, Sender};

/// The sending ends, by worker; none for the worker itself.
#[derive(Debug, Default)]
pub struct HandOverSenders {
    senders: Vec<Option<Sender>>,
    used: bool,
}

impl HandOverSenders {
    /// One entry per worker, `None` for the worker itself.
    pub fn new(senders: Vec<Option<Sender>>) -> Self {
        Self {
            senders,
            used: false,
        }
    }

    /// Copies a frame towards the worker that owns it; `false`: the ring is full, or there is no such worker.
    pub fn send(&mut self, worker: u32, port: u8, frame: &[u8]) -> bool {
        let sender = self
            .senders
            .get_mut(worker as usize)
            .and_then(Option::as_mut);
        let sent = sender.is_some_and(|sender| sender.send(port, frame));
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

/// The receiving ends.
#[derive(Debug, Default)]
pub struct HandOverReceivers {
    receivers: Vec<Receiver>,
}

impl HandOverReceivers {
    /// One per other worker.
    pub fn new(receivers: Vec<Receiver>) -> Self {
        Self { receivers }
    }

    /// Frames that wait in all rings.
    pub fn waiting(&mut self) -> usize {
        self.receivers.iter_mut().map(Receiver::waiting).sum()
    }

    /// Gives up to `max` frames of each ring to `take`; returns how many slots were emptied. The port is another process's
    /// word: check it before it becomes an index.
    pub fn receive(&mut self, max: usize, mut take: impl FnMut(u8, &[u8])) -> usize {
        self.receivers
            .iter_mut()
            .map(|receiver| receiver.receive(max, &mut take))
            .sum()
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
            one.receive(64, |port, frame| seen.push((port, frame.to_vec()))),
            1
        );
        assert_eq!(seen, [(7, b"frame".to_vec())]);
        assert_eq!(two.receive(64, |_, _| panic!("not for worker 2")), 0);
    }

    #[test]
    fn nobody_hands_over_to_himself_or_to_nobody() {
        let mut senders = HandOverSenders::new(vec![None]);
        assert!(!senders.send(0, 0, b"frame"));
        assert!(!senders.send(9, 0, b"frame"));
    }
}
