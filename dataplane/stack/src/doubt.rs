//! Segments that a flow does not believe: they change nothing, and the peer is asked where it stands.

use crate::device::{WINDOW_AT, is_before};
use crate::flow::Flow;
use crate::frame::{ACK, RST, SYN, Segment};
use crate::limits::{CHALLENGE_INTERVAL_US, MTU_BYTES_MAX, TIMESTAMP_VALID_US};
use crate::stack::Stack;
use smoltcp::socket::tcp::State;
use tidegate_port::TxQueue;

/// Offset of the acknowledgement in a TCP header.
const ACKNOWLEDGEMENT_AT: usize = 4 + 4;

/// Whether both ends know each other's numbers (RFC 9293, section 3.5.2).
pub(crate) fn is_synchronized(state: State) -> bool {
    !matches!(
        state,
        State::Closed | State::Listen | State::SynSent | State::SynReceived
    )
}

impl Flow {
    /// SND.UNA, once the connection is open. A FIN of ours is not counted.
    #[inline]
    pub(crate) fn unacknowledged_from(&self) -> u32 {
        let queued = self.socket().send_queue() as u32;
        self.track.queued_end.wrapping_sub(queued)
    }

    /// Whether a segment acknowledges less than was acknowledged before, or more than was sent.
    #[inline]
    pub(crate) fn disagrees(&self, segment: &Segment<'_>) -> bool {
        let from = self.unacknowledged_from();
        let sent = self.track.sent_end.wrapping_sub(from) as i32;
        // A probe of the peer's closed window is not counted as sent, and may be acknowledged all the same.
        let sent = sent.max(0) as u32 + u32::from(self.track.peer_window == 0);
        segment.acknowledgement.wrapping_sub(from) > sent && segment.flags & ACK != 0
    }

    /// A segment came from another station than answers go to, or by another port: a client behind a router that another has taken
    /// over for. Answers follow it if its sender knows the connection. Whoever does not could otherwise take them away with one forged frame.
    ///
    /// RFC 9293, section 3.10.7.4, calls a segment acceptable if "RCV.NXT =< SEG.SEQ < RCV.NXT+RCV.WND". As much before that is
    /// believed here: who does not hear us, because we still answer by the dead router, says nothing new, but repeats what we have.
    /// Servers are where their path says. Returns whether they follow.
    #[cold]
    pub(crate) fn follow(&mut self, segment: &Segment<'_>, port: usize) -> bool {
        if self.is_server() {
            return false;
        }
        let window = self.track.window_left();
        let behind = self.socket().recv_capacity() as u32;
        let first = self.track.received_end.wrapping_sub(behind);
        let knows = segment.sequence.wrapping_sub(first) <= behind + window;
        // A segment with neither flag is dropped in every state.
        let follows = knows && segment.flags & (SYN | ACK) != 0;
        if follows {
            self.link = segment.answer_header();
            self.port = port as u8;
        }
        follows
    }

    /// RFC 7323, section 5.3: "If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, TS.Recent is valid
    /// [...], and if the RST bit is not set, then treat the arriving segment as not acceptable: Send an acknowledgment in reply
    /// [...], and drop the segment." After 4 GiB a sequence number comes again, and an old segment would look like a new one.
    #[inline]
    pub(crate) fn is_outdated_by(&self, segment: &Segment<'_>, now_us: u64) -> bool {
        let track = &self.track;
        let (Some(recent), Some(timestamp)) = (track.timestamp_recent, segment.timestamp()) else {
            return false;
        };
        is_before(timestamp, recent)
            && segment.flags & RST == 0
            && now_us - track.timestamp_at_us < TIMESTAMP_VALID_US
            && self.socket().timestamp_enabled()
    }
}

impl Stack {
    /// RFC 9293, section 3.10.7.4: "If the RST bit is set and the sequence number is outside the current receive window, silently
    /// drop the segment.", if it "exactly matches the next expected sequence number (RCV.NXT), then TCP endpoints MUST reset the
    /// connection", and if it does not but "is within the current receive window, TCP endpoints MUST send an acknowledgment
    /// (challenge ACK)", which an honest peer answers with a RST that matches. Guessing the window is not enough to cut a
    /// connection.
    pub(crate) fn doubts_reset(&mut self, slot: u32, segment: &Segment<'_>) -> bool {
        let flow = &self.flows[slot as usize];
        let track = &flow.track;
        if segment.sequence == track.received_end || flow.state() == State::SynSent {
            return false;
        }
        let inside = segment.sequence.wrapping_sub(track.received_end) < track.window_left();
        self.counters.frames_delivered += 1;
        if inside {
            self.counters.resets_challenged += 1;
            self.challenge(slot);
        } else {
            self.counters.resets_ignored += 1;
        }
        true
    }

    /// A segment farther from what is expected than any window reaches. Returns whether that was all there is to do with it.
    ///
    /// RFC 9293, section 3.10.7.4: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply". Where a FIN
    /// has left less than nothing of the window, smoltcp takes one half of all numbers away for one inside, and panics.
    #[cold]
    pub(crate) fn doubts_sequence(&mut self, slot: u32) -> bool {
        if !is_synchronized(self.flows[slot as usize].state()) {
            return false;
        }
        self.counters.frames_delivered += 1;
        self.counters.segments_doubted += 1;
        self.challenge(slot);
        true
    }

    /// RFC 5961, section 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also
    /// referred to as challenge ACK) to the remote peer". A peer that rebooted answers it with a RST, which closes our side,
    /// and its next SYN opens a new connection.
    pub(crate) fn doubt_opening(&mut self, slot: u32) {
        self.counters.frames_delivered += 1;
        self.counters.syn_on_established += 1;
        self.challenge(slot);
    }

    /// A SYN with an acknowledgement. Returns whether that was all there is to do with it.
    pub(crate) fn answers_again(&mut self, slot: u32) -> bool {
        let doubtful = is_synchronized(self.flows[slot as usize].state());
        if doubtful {
            self.doubt_opening(slot);
        }
        doubtful
    }

    /// A segment whose acknowledgement is not one for bytes on their way. Returns whether that was all there is to do with it.
    ///
    /// RFC 9293, section 3.10.7.4: "If the ACK is a duplicate (SEG.ACK =< SND.UNA), it can be ignored. If the ACK acks something
    /// not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment, and return." smoltcp drops the bytes of the first
    /// together with their acknowledgement, and takes the second for true as far as bytes are queued.
    #[cold]
    pub(crate) fn doubts_acknowledgement(
        &mut self,
        slot: u32,
        segment: &Segment<'_>,
        port: usize,
        tx: &mut impl TxQueue,
    ) -> bool {
        let flow = &mut self.flows[slot as usize];
        if !is_synchronized(flow.state()) {
            return false;
        }
        let from = flow.unacknowledged_from();
        let late = is_before(segment.acknowledgement, from)
            && from.wrapping_sub(segment.acknowledgement) as usize <= flow.socket().send_capacity();
        if late && segment.only_acknowledges() {
            // It says nothing that is not known.
            return false;
        }
        if late {
            return self.take_late(slot, segment, from, port, tx);
        }
        self.counters.frames_delivered += 1;
        self.counters.segments_doubted += 1;
        self.challenge(slot);
        true
    }

    /// A segment whose timestamp is older than that of bytes received before.
    #[cold]
    pub(crate) fn doubt_timestamp(&mut self, slot: u32) {
        self.counters.frames_delivered += 1;
        self.counters.segments_doubted += 1;
        self.challenge(slot);
    }

    /// Takes the bytes of a segment that was overtaken by another: as if it acknowledged, and allowed, what the other did.
    fn take_late(
        &mut self,
        slot: u32,
        segment: &Segment<'_>,
        acknowledgement: u32,
        port: usize,
        tx: &mut impl TxQueue,
    ) -> bool {
        let mut copy = [0; MTU_BYTES_MAX];
        let Some(packet) = copy.get_mut(..segment.packet.len()) else {
            return false;
        };
        packet.copy_from_slice(segment.packet);
        let window = self.flows[slot as usize].track.peer_window;
        let at = segment.tcp_at + ACKNOWLEDGEMENT_AT;
        packet[at..at + 4].copy_from_slice(&acknowledgement.to_be_bytes());
        let at = segment.tcp_at + WINDOW_AT;
        packet[at..at + 2].copy_from_slice(&window.to_be_bytes());
        let amended = Segment {
            packet,
            acknowledgement,
            window,
            ..*segment
        };
        self.take(slot, &amended, port, tx);
        true
    }

    /// Asks the peer where it stands, as often as the throttles allow: that of the connection first, so that one cannot use up what
    /// is for all. The egress pass answers, by the port and to the station of the flow's segments and not where this one came from:
    /// the answer has the numbers of both directions.
    pub(crate) fn challenge(&mut self, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        if self.now_us < flow.unchallenged_until_us || !self.challenges.take() {
            return;
        }
        flow.unchallenged_until_us = self.now_us + CHALLENGE_INTERVAL_US;
        flow.answer_wanted = true;
        self.mark_dirty(slot);
    }
}
