//! From a received frame to its flow.

use crate::arrival::Arrival;
use crate::device::{FlowDevice, Track, is_before};
use crate::flow::{Owner, Role};
use crate::flow_table::FlowKey;
use crate::frame::{FIN, Fault, RST, Segment, wire_address};
use crate::limits::{CLOSE_US, HALF_OPEN_SPARED_US, HALF_OPEN_US};
use crate::slot_lists::List;
use crate::stack::{HandOver, Stack, instant};
use smoltcp::socket::tcp::State;
use tidegate_port::TxQueue;
use tidegate_proxy::mutants::{self, Mutant};
use tidegate_proxy::streams::CloseReason;

/// Whether the peer's FIN has been received.
fn has_finished(state: State) -> bool {
    matches!(
        state,
        State::CloseWait | State::LastAck | State::Closing | State::TimeWait
    )
}

/// What our end of an unknown flow is.
pub(crate) enum Local {
    Listener(u16),
    Source,
}

impl Stack {
    /// Takes one frame; `arrival` is the position of the port that it came by, or an [`Arrival`] that says more. Answers that cannot wait for the egress pass, a RST or
    /// the acknowledgement of a segment out of order, go into `tx`.
    pub fn ingress(
        &mut self,
        frame: &[u8],
        arrival: impl Into<Arrival>,
        tx: &mut impl TxQueue,
        hand_over: &mut impl HandOver,
    ) {
        let arrival = arrival.into();
        let port = arrival.port;
        self.counters.frames_in += 1;
        let Some(state) = self.ports.get(port) else {
            self.counters.frames_not_ours += 1;
            return;
        };
        let segment = match Segment::parse(frame, state.mac) {
            Ok(segment) => segment,
            Err(fault) => return self.turn_away(fault, frame, port, hand_over),
        };
        match self.table.get(&segment.key) {
            Some(slot) => {
                if segment.checksums_hold(arrival) {
                    self.deliver(slot, &segment, port, tx);
                } else if !mutants::has(Mutant::ForgetsCounter) {
                    self.counters.frames_bad_checksum += 1;
                }
            }
            None => self.unknown(frame, &segment, arrival, tx, hand_over),
        }
    }

    #[cold]
    fn turn_away(
        &mut self,
        fault: Fault,
        frame: &[u8],
        port: usize,
        hand_over: &mut impl HandOver,
    ) {
        let counters = &mut self.counters;
        match fault {
            Fault::Runt => counters.frames_runt += 1,
            Fault::NotTcp => {
                counters.frames_not_tcp += 1;
                hand_over.not_for_tcp(port as u8, frame);
            }
            Fault::Malformed => counters.frames_malformed += 1,
            Fault::NotOurs => {
                counters.frames_not_ours += 1;
                hand_over.not_for_tcp(port as u8, frame);
            }
            Fault::OtherStation => counters.frames_other_station += 1,
        }
    }

    /// A verified segment of a flow in the table.
    #[inline]
    fn deliver(&mut self, slot: u32, segment: &Segment<'_>, port: usize, tx: &mut impl TxQueue) {
        if segment.opens_or_answers() && self.reopens(slot, segment, port, tx) {
            return;
        }
        if segment.flags & RST != 0 && self.doubts_reset(slot, segment) {
            return;
        }
        let flow = &mut self.flows[slot as usize];
        if flow.track.is_far(segment.sequence) && self.doubts_sequence(slot) {
            return;
        }
        let flow = &mut self.flows[slot as usize];
        // smoltcp cuts a segment at the end of the window, but takes its FIN as if the rest had been there. It also scales
        // the window of its own SYN, which RFC 7323, section 2.2, forbids: "The window field in a segment where the SYN bit
        // is set [...] MUST NOT be scaled." Both matter only for a peer that sends more than it may.
        if (segment.flags & FIN != 0 || !flow.track.scaled)
            && segment.payload_bytes > 0
            && is_before(flow.track.window_end(), segment.end())
        {
            self.counters.frames_beyond_window += 1;
            self.challenge(slot);
            return;
        }
        if flow.is_outdated_by(segment, self.now_us) {
            self.doubt_timestamp(slot);
            return;
        }
        if flow.disagrees(segment) && self.doubts_acknowledgement(slot, segment, port, tx) {
            return;
        }
        self.take(slot, segment, port, tx);
    }

    /// A segment that smoltcp may see.
    #[inline]
    pub(crate) fn take(
        &mut self,
        slot: u32,
        segment: &Segment<'_>,
        port: usize,
        tx: &mut impl TxQueue,
    ) {
        self.counters.frames_delivered += 1;
        let flow = &mut self.flows[slot as usize];
        let moved = segment.ethernet[6..12] != flow.link[..6] || port != usize::from(flow.port);
        if moved && flow.follow(segment, port) {
            self.note_open(slot);
        }
        let flow = &mut self.flows[slot as usize];
        let socket = flow.socket();
        let before = socket.state();
        let (received_before, queued_before) = (socket.recv_queue(), socket.send_queue());
        let came_before = segment.payload_bytes > 0 && segment.end() == flow.track.received_end;
        if mutants::has(Mutant::TakesDuplicates) && came_before {
            let (packet, bytes) = segment.again_at(segment.end());
            let packet = &packet[..bytes];
            self.feed(slot, &Segment { packet, ..*segment }, port, tx);
        } else {
            self.feed(slot, segment, port, tx);
        }

        let flow = &mut self.flows[slot as usize];
        flow.heard_us = self.now_us;
        flow.repeated_us = 0;
        flow.probes = 0;
        flow.track.peer_window = segment.window;
        let socket = flow.socket();
        let after = socket.state();
        let (received_after, queued_after) = (socket.recv_queue(), socket.send_queue());
        let taken = received_after.saturating_sub(received_before);
        if taken > 0 {
            flow.track.received_end = flow.track.received_end.wrapping_add(taken as u32);
            flow.track.timestamp_recent = segment.timestamp();
            flow.track.timestamp_at_us = self.now_us;
        }
        if after != before {
            self.state_changed(slot, before, after, segment);
        } else if taken > 0 || queued_after < queued_before {
            self.progressed(slot, queued_after < queued_before);
        }
        // A bare acknowledgement asks for nothing, and with an empty queue there is nothing it lets go.
        let rests = segment.only_acknowledges()
            && after == State::Established
            && before == after
            && queued_after == 0;
        if !rests {
            self.mark_dirty(slot);
        }
    }

    /// Bytes arrived or were acknowledged, in an unchanged state.
    #[inline]
    fn progressed(&mut self, slot: u32, acknowledged: bool) {
        let flow = &mut self.flows[slot as usize];
        if flow.owner == Owner::Proxy {
            if self.lists.is_in(slot, List::Closing) {
                self.wait_in(List::Closing, slot, CLOSE_US);
            }
            self.mark_ready_slot(slot);
        } else {
            flow.discard_received();
            // A peer that takes what we still send may go on; one that only sends to a closed connection may not.
            if acknowledged && self.lists.is_in(slot, List::Closing) {
                self.wait_in(List::Closing, slot, CLOSE_US);
            }
        }
    }

    fn feed(&mut self, slot: u32, segment: &Segment<'_>, port: usize, tx: &mut impl TxQueue) {
        let Some(state) = self.ports.get_mut(port) else {
            return;
        };
        let mut overflowed = false;
        let flow = &mut self.flows[slot as usize];
        let is_astray = port != usize::from(flow.port);
        let (set, track, link) = flow.parts();
        let mut device = FlowDevice {
            received: Some(segment.packet),
            tx,
            link,
            track,
            counters: &mut self.counters,
            mtu_bytes: state.mtu_bytes,
            is_astray,
            overflowed: &mut overflowed,
        };
        state
            .interface
            .poll_ingress_single(instant(self.now_us), &mut device, set);
        if is_astray && overflowed {
            self.flows[slot as usize].answer_wanted = true;
            self.mark_dirty(slot);
        } else {
            self.counters.answers_tx_full += u64::from(overflowed);
        }
    }

    fn state_changed(&mut self, slot: u32, before: State, after: State, segment: &Segment<'_>) {
        if has_finished(after) && !has_finished(before) {
            let received_end = &mut self.flows[slot as usize].track.received_end;
            *received_end = received_end.wrapping_add(1);
        }
        match after {
            State::Closed => {
                let reset = segment.flags & RST != 0;
                let connecting = matches!(before, State::SynSent | State::SynReceived);
                let reason = match (reset, connecting) {
                    (true, true) => CloseReason::Refused,
                    (true, false) => CloseReason::Reset,
                    (false, _) => CloseReason::Finished,
                };
                self.counters.connects_failed += u64::from(reason == CloseReason::Refused);
                self.counters.resets_received += u64::from(reason == CloseReason::Reset);
                self.is_over(slot, reason);
            }
            // A client reset its handshake, or its SYN had options that smoltcp cannot read.
            State::Listen => self.free(slot),
            // RFC 9293, section 3.5: both ends opened at once.
            State::SynReceived => self.note_opening(slot, segment),
            State::Established | State::CloseWait
                if matches!(before, State::SynSent | State::SynReceived) =>
            {
                self.established(slot, segment);
            }
            _ => {
                let flow = &mut self.flows[slot as usize];
                if flow.owner == Owner::Stack {
                    flow.discard_received();
                }
                self.wait_for_end(slot);
                self.mark_ready_slot(slot);
            }
        }
    }

    fn established(&mut self, slot: u32, segment: &Segment<'_>) {
        self.lists.remove(slot);
        let flow = &mut self.flows[slot as usize];
        flow.track.queued_end = flow.track.sent_end;
        if flow.is_server() {
            self.counters.connected += 1;
            if segment.opens_or_answers() {
                self.note_opening(slot, segment);
            }
            self.send_staged(slot);
        } else {
            self.counters.accepted += 1;
            self.flows[slot as usize].owner = Owner::Proxy;
        }
        self.note_open(slot);
        self.arm_keepalive(slot);
        self.mark_ready_slot(slot);
    }

    /// Notes what a peer's SYN says: where its sequence numbers start and whether windows are scaled.
    pub(crate) fn note_opening(&mut self, slot: u32, segment: &Segment<'_>) {
        let flow = &mut self.flows[slot as usize];
        let first = segment.sequence.wrapping_add(1);
        flow.opening_sequence = segment.sequence;
        flow.track.received_end = first;
        flow.track.acknowledged = first;
        if !segment.scales_window() {
            flow.track.window_shift = 0;
        }
    }

    /// A SYN, or the answer to one, for a flow that exists. Returns whether that was all there is to do with it.
    fn reopens(
        &mut self,
        slot: u32,
        segment: &Segment<'_>,
        port: usize,
        tx: &mut impl TxQueue,
    ) -> bool {
        if !segment.opens() {
            return self.answers_again(slot);
        }
        let flow = &self.flows[slot as usize];
        let Role::Client(listener) = flow.role else {
            // RFC 9293, section 3.5: simultaneous open is between SYN-SENT and a SYN.
            if flow.state() == State::SynSent {
                return false;
            }
            self.doubt_opening(slot);
            return true;
        };
        match flow.state() {
            // RFC 9293, section 3.10.7.4 (and RFC 1122, section 4.2.2.13): in TIME-WAIT, TCP "MAY accept a new SYN from the
            // remote TCP endpoint to reopen the connection directly". RFC 6191 asks for a greater timestamp or sequence
            // number than the old connection's. That is not checked here: an old duplicate costs a half-open entry, which
            // its own timer ends, whereas refusing costs a rebooted client its connection for 10 s.
            State::TimeWait => {
                self.counters.time_wait_reused += 1;
                self.replace(slot, listener, segment, port, tx);
                true
            }
            // Our RST has not left yet, and now need not.
            State::Closed | State::Listen => {
                self.replace(slot, listener, segment, port, tx);
                true
            }
            // The client gave this handshake up and began another.
            State::SynReceived if segment.sequence != flow.opening_sequence => {
                self.replace(slot, listener, segment, port, tx);
                true
            }
            // A repeated SYN: smoltcp repeats the SYN-ACK on its own timer.
            State::SynReceived => false,
            _ => {
                self.doubt_opening(slot);
                true
            }
        }
    }

    fn replace(
        &mut self,
        slot: u32,
        listener: u16,
        segment: &Segment<'_>,
        port: usize,
        tx: &mut impl TxQueue,
    ) {
        self.flows[slot as usize].silence();
        self.is_over(slot, CloseReason::Finished);
        self.knock(listener, segment, port, tx);
    }

    /// A SYN to a listener that belongs to no flow.
    fn knock(&mut self, listener: u16, segment: &Segment<'_>, port: usize, tx: &mut impl TxQueue) {
        // The flow that had this address may have come through a listener that is no more.
        let is_there = usize::from(listener) < self.listeners.len();
        if self.accepting && is_there {
            self.open_client(listener, segment, port, tx);
        } else if self.refuse(segment, port, tx) {
            self.counters.frames_refused += 1;
        } else {
            self.counters.frames_tx_full += 1;
        }
    }

    #[cold]
    fn unknown(
        &mut self,
        frame: &[u8],
        segment: &Segment<'_>,
        arrival: Arrival,
        tx: &mut impl TxQueue,
        hand_over: &mut impl HandOver,
    ) {
        let port = arrival.port;
        let Some(local) = self.local(&segment.key) else {
            self.counters.frames_not_ours += 1;
            return;
        };
        let owner = self.owner(&segment.key, &local, port);
        if owner != self.worker {
            // Who disagrees about the owner would send it back and forth for ever.
            if arrival.is_handed_over {
                self.counters.frames_not_ours += 1;
                return;
            }
            self.counters.wrong_queue += 1;
            // A mismatch is never answered with RST: the flow may be alive with its owner.
            if hand_over.hand_over(owner, arrival.tag(), frame) {
                self.counters.frames_handed_over += 1;
            } else {
                self.counters.frames_hand_over_full += 1;
            }
            return;
        }
        if !segment.checksums_hold(arrival) {
            self.counters.frames_bad_checksum += 1;
            return;
        }
        match local {
            Local::Listener(listener) if segment.opens() => {
                self.orphans.hear(&segment.key, true, &mut self.counters);
                self.knock(listener, segment, port, tx);
            }
            _ => {
                let sent = self.refuse(segment, port, tx);
                if sent {
                    let is_gone = segment.flags & RST != 0;
                    self.orphans.hear(&segment.key, is_gone, &mut self.counters);
                }
                *if sent {
                    &mut self.counters.frames_unknown_flow
                } else {
                    &mut self.counters.frames_tx_full
                } += 1;
            }
        }
    }

    pub(crate) fn local(&self, key: &FlowKey) -> Option<Local> {
        let port = key.local_port();
        let address = key.local();
        let listener = self
            .listeners
            .iter()
            .position(|listener| listener.address.port() == port && listener.address == address);
        if let Some(listener) = listener {
            return Some(Local::Listener(listener as u16));
        }
        let source = self.partition.contains(port) && self.sources.contains(&address.ip());
        source.then_some(Local::Source)
    }

    pub(crate) fn owner(&self, key: &FlowKey, local: &Local, port: usize) -> u32 {
        let Some(state) = self.ports.get(port) else {
            return self.worker;
        };
        match local {
            Local::Source if state.oracle.partitions_ports() => {
                self.partition.owner(key.local_port())
            }
            _ => state
                .oracle
                .owner(key.local(), key.remote())
                .unwrap_or(self.worker),
        }
    }

    /// Answers with RST, unless the segment is one itself; returns whether there was room for it.
    fn refuse(&mut self, segment: &Segment<'_>, port: usize, tx: &mut impl TxQueue) -> bool {
        let Some(state) = self.ports.get_mut(port) else {
            return true;
        };
        let mut overflowed = false;
        let link = segment.answer_header();
        let mut device = FlowDevice {
            received: Some(segment.packet),
            tx,
            link: &link,
            track: &mut Track::default(),
            counters: &mut self.counters,
            mtu_bytes: state.mtu_bytes,
            is_astray: false,
            overflowed: &mut overflowed,
        };
        state
            .interface
            .poll_ingress_single(instant(self.now_us), &mut device, &mut self.nobody);
        !overflowed
    }

    /// A SYN to a listener, from a client that has no flow.
    fn open_client(
        &mut self,
        listener: u16,
        segment: &Segment<'_>,
        port: usize,
        tx: &mut impl TxQueue,
    ) {
        if self.lists.len(List::HalfOpen) >= self.half_open_max
            && let Some(oldest) = self.lists.first(List::HalfOpen)
        {
            let since_us = self.flows[oldest as usize].deadline_us - HALF_OPEN_US;
            let is_full = self.lists.len(List::FreeClients) == 0
                && self.lists.len(List::TimeWaitClients) == 0;
            // Who comes when every slot is taken waits. Its SYN comes again, but a client whose handshake was given up would be reset.
            if is_full && self.now_us - since_us < HALF_OPEN_SPARED_US {
                self.counters.frames_no_slot += 1;
                return;
            }
            self.counters.half_open_evicted += 1;
            self.free(oldest);
        }
        let Some(slot) = self.free_slot(List::FreeClients, List::TimeWaitClients) else {
            self.counters.frames_no_slot += 1;
            return;
        };
        self.lists.remove(slot);
        let flow = &mut self.flows[slot as usize];
        flow.open(
            Role::Client(listener),
            port as u8,
            segment.answer_header(),
            self.now_us,
        );
        flow.keepalive_us = self.listeners[usize::from(listener)].keepalive_us;
        let local = segment.key.local();
        let listening = flow
            .socket_mut()
            .listen((wire_address(local.ip()), local.port()))
            .is_ok();
        if listening {
            flow.attached = true;
            self.table.insert(segment.key, slot);
            self.choose_initial_number(&segment.key, port);
            self.feed(slot, segment, port, tx);
        }
        self.counters.frames_delivered += 1;
        if self.flows[slot as usize].state() != State::SynReceived {
            self.free(slot);
            return;
        }
        self.note_opening(slot, segment);
        self.wait_in(List::HalfOpen, slot, HALF_OPEN_US);
        self.mark_dirty(slot);
    }

    /// A free slot, if need be the one that has been in TIME-WAIT longest.
    pub(crate) fn free_slot(&mut self, free: List, time_wait: List) -> Option<u32> {
        if self.lists.first(free).is_none() {
            let oldest = self.lists.first(time_wait)?;
            self.counters.time_wait_recycled += 1;
            self.free(oldest);
        }
        self.lists.first(free)
    }
}
