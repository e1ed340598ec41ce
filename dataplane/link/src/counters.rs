//! What is counted.

/// What became of every frame that was given to the link layer, and what it sent unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames given to the link layer: the sum of the other `frames_*`.
    pub frames_in: u64,
    /// ARP requests and neighbour solicitations for our addresses, answered.
    pub frames_answered: u64,
    /// Echo requests, answered.
    pub frames_echoed: u64,
    /// Frames by which a wanted next hop told its link address, and that asked for nothing.
    pub frames_learned: u64,
    /// Frames of somebody else who claims one of our addresses.
    pub frames_conflicting: u64,
    /// Dropped: lengths, checksums, hop limits or addresses that no such frame can have, our own frames come back included.
    pub frames_malformed: u64,
    /// Dropped: about other addresses than ours and those of our next hops, or sent to another station.
    pub frames_not_ours: u64,
    /// Ignored: router advertisements, redirects, other ICMP, other protocols, fragments, IP options, VLAN tags.
    pub frames_ignored: u64,
    /// Dropped: echo requests beyond what is answered per second.
    pub frames_limited: u64,
    /// Dropped: the answer they deserved found no room in the TX ring.
    pub frames_tx_full: u64,
    /// Solicitations and announcements sent.
    pub asks_sent: u64,
    /// Times a solicitation or an announcement found no room in the TX ring; it is tried again.
    pub asks_tx_full: u64,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Echoed,
    Learned,
    Conflicting,
    Malformed,
    NotOurs,
    Ignored,
    Limited,
    TxFull,
}

impl LinkCounters {
    /// Counts a frame.
    pub(crate) fn count(&mut self, outcome: Outcome) {
        self.frames_in += 1;
        *match outcome {
            Outcome::Answered => &mut self.frames_answered,
            Outcome::Echoed => &mut self.frames_echoed,
            Outcome::Learned => &mut self.frames_learned,
            Outcome::Conflicting => &mut self.frames_conflicting,
            Outcome::Malformed => &mut self.frames_malformed,
            Outcome::NotOurs => &mut self.frames_not_ours,
            Outcome::Ignored => &mut self.frames_ignored,
            Outcome::Limited => &mut self.frames_limited,
            Outcome::TxFull => &mut self.frames_tx_full,
        } += 1;
    }
}
