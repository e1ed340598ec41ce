//! From the flows to the transmit rings: one pass over the flows that something happened to.

use crate::bare_ack::write_ack;
use crate::device::FlowDevice;
use crate::flow::{Flow, HANDLE};
use crate::flow_table::FlowKey;
use crate::limits::{
    HOLD_US, HOLDS_MAX, PROBE_INTERVAL_US, PROBES_DOUBTFUL, PROBES_MAX, RETRANSMISSION_US,
    SEGMENTS_PER_PASS, UNANSWERED_US,
};
use crate::stack::{Hold, Stack, instant};
use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::{Socket, State};
use tidegate_channel::counters::StackCounters;
use tidegate_config::AckMode;
use tidegate_port::{Port, TxQueue};
use tidegate_proxy::streams::CloseReason;

/// Headers of a full segment at most: IPv6, TCP and timestamps. What the MTU leaves is the smallest value of the MSS.
const SEGMENT_HEADER_BYTES: usize = 72;

/// When to look again at a flow that has something to send and does not.
const STUCK_US: u64 = 5_000;

impl Stack {
    /// Sends what the flows have to say: data, acknowledgements, SYN, FIN and RST. Flows that find a ring full stay for
    /// the next pass.
    pub fn egress<P: Port>(&mut self, ports: &mut [P]) {
        let mut pass = std::mem::replace(&mut self.dirty, std::mem::take(&mut self.dirty_pass));
        for &slot in &pass {
            self.flows[slot as usize].dirty = false;
            self.egress_flow(slot, ports);
            self.note_numbers(slot);
        }
        pass.clear();
        self.dirty_pass = pass;
        self.forget_ended_holds();
        if self.orphans.due_us() <= self.now_us {
            self.probe_orphans(ports);
        }
    }

    /// Drops holds that ended before their deadline from the front of the queue: a deadline that means nothing any more would
    /// wake the worker, or break up the burst that it waits for.
    #[inline]
    fn forget_ended_holds(&mut self) {
        while let Some(hold) = self.holds.front()
            && self.flows[hold.slot as usize].hold_until_us != hold.until_us
        {
            self.holds.pop_front();
        }
    }

    #[inline]
    fn egress_flow<P: Port>(&mut self, slot: u32, ports: &mut [P]) {
        let flow = &self.flows[slot as usize];
        if !flow.attached {
            return;
        }
        let position = usize::from(flow.port);
        let (Some(port), Some(state)) = (ports.get_mut(position), self.ports.get_mut(position))
        else {
            return;
        };
        if state.ack == AckMode::WithReply && self.holds_ack(slot) {
            return;
        }
        let now = instant(self.now_us);
        let state = &mut self.ports[position];
        let flow = &mut self.flows[slot as usize];
        let (_, tx) = port.halves();
        if tx.room() == 0 {
            // smoltcp decides what to send before it learns that there is no room, and forgets a fast retransmission over it.
            self.mark_dirty(slot);
            return;
        }
        flow.hold_until_us = 0;
        let answers = std::mem::take(&mut flow.answer_wanted);
        let sent_before = self.counters.segments_sent;
        if std::mem::take(&mut flow.probe_wanted) {
            // RFC 9293, section 3.8.4: a keep-alive is a segment with SEG.SEQ = SND.NXT - 1, which asks for an
            // acknowledgement. Where bytes are on their way, only a number before them does.
            let before = flow.unacknowledged_from().wrapping_sub(1);
            write_ack(
                &self.table.key(slot),
                flow,
                &flow.link,
                before,
                tx,
                &mut self.counters,
            );
        }
        if flow.owes_bare_ack() && tx.room() > 0 {
            acknowledge(&self.table.key(slot), flow, tx, &mut self.counters);
            self.rest(slot);
            return;
        }
        let (set, track, link) = flow.parts();
        let mut full = false;
        let mut device = FlowDevice {
            received: None,
            tx,
            link,
            track,
            counters: &mut self.counters,
            mtu_bytes: state.mtu_bytes,
            is_astray: false,
            overflowed: &mut full,
        };
        let mut wake = None;
        for _ in 0..SEGMENTS_PER_PASS {
            if device.tx.room() == 0 {
                wake = Some(now);
                break;
            }
            let sent = state.interface.poll_egress(now, &mut device, set);
            if sent != PollResult::None
                && device.track.rests()
                && set.get::<Socket<'static>>(HANDLE()).state() == State::Established
            {
                self.rest(slot);
                return;
            }
            wake = state.interface.poll_at(now, set);
            let more = wake.is_some_and(|at| at <= now);
            if !more {
                break;
            }
            if sent == PollResult::None {
                // smoltcp announces work that it then does not find. Looking again at once would spin.
                wake = Some(instant(self.now_us + STUCK_US));
                break;
            }
        }
        if answers && self.counters.segments_sent == sent_before {
            self.answer(slot, tx);
        }
        self.after_pass(slot, wake.map(|at| at.total_micros().max(0) as u64));
    }

    /// Says where both ends stand, where smoltcp had nothing to say. Before both have sent their SYN nobody does.
    #[cold]
    fn answer(&mut self, slot: u32, tx: &mut impl TxQueue) {
        let flow = &self.flows[slot as usize];
        let knows = !matches!(flow.state(), State::Closed | State::Listen | State::SynSent);
        if knows && flow.track.started {
            let key = self.table.key(slot);
            let sequence = flow.track.sent_end;
            write_ack(&key, flow, &flow.link, sequence, tx, &mut self.counters);
        }
    }

    /// An open connection has sent all it had to. Asking smoltcp when to look again costs as much as half a segment, and its
    /// answer is known: the retransmission timer, at least [`RETRANSMISSION_US`] from now, or nothing. Coming up early, the
    /// timer asks.
    #[inline]
    fn rest(&mut self, slot: u32) {
        let flow = &self.flows[slot as usize];
        let outstanding = flow.socket().send_queue() > 0;
        let at_us = outstanding.then_some(self.now_us + RETRANSMISSION_US);
        // An earlier timer stays: it may be that of an earlier segment.
        if flow.timer_us == u64::MAX || at_us.is_some_and(|at_us| at_us < flow.timer_us) {
            self.arm(slot, at_us);
        }
    }

    fn after_pass(&mut self, slot: u32, wake_us: Option<u64>) {
        let flow = &mut self.flows[slot as usize];
        if flow.is_silent() {
            // The RST has left, or TIME-WAIT is over.
            self.is_over(slot, CloseReason::Finished);
            return;
        }
        if std::mem::take(&mut flow.track.repeated) {
            flow.slow_down();
            if flow.repeated_us == 0 {
                flow.repeated_us = self.now_us;
            } else if self.now_us - flow.repeated_us >= UNANSWERED_US {
                self.counters.flows_timed_out += 1;
                self.reset(slot, CloseReason::TimedOut);
                return;
            } else {
                self.falls_silent(slot);
            }
        }
        match wake_us {
            Some(at) if at <= self.now_us => self.mark_dirty(slot),
            None if self.flows[slot as usize].socket().send_queue() > 0 => self.note_stall(slot),
            at => self.arm(slot, at),
        }
    }

    /// Bytes wait for the peer and no timer does. RFC 9293, section 3.8.6.1: the sender "must regularly transmit at least one octet
    /// of new data (if available), or retransmit to the receiving TCP peer even if the send window is zero, in order to "probe" the
    /// window." Where the window was closed behind bytes that were lost, which an acknowledgement that was overtaken by another does,
    /// smoltcp's retransmission timer comes up once, finds no room to send in, and is not set again. The answer to a probe tells
    /// it how the window is.
    #[cold]
    fn note_stall(&mut self, slot: u32) {
        let flow = &mut self.flows[slot as usize];
        if flow.stalled_us < flow.heard_us {
            flow.stalled_us = self.now_us;
        }
        self.arm(slot, None);
    }

    /// Sets the timer of a flow to `at_us` or the end of its keep-alive interval.
    fn arm(&mut self, slot: u32, at_us: Option<u64>) {
        let flow = &mut self.flows[slot as usize];
        let at = at_us.unwrap_or(u64::MAX).min(probe_at(flow));
        flow.timer_us = at;
        // Later is no reason to move it: the bucket comes up and finds the timer moved on.
        if at < flow.armed_us {
            flow.armed_us = at;
            self.wheel.arm(slot, at);
        }
    }

    /// Starts the keep-alive timer of a connection that was just established.
    pub(crate) fn arm_keepalive(&mut self, slot: u32) {
        self.arm(slot, None);
    }

    /// The timer of a flow is due: smoltcp's, which the egress pass serves, or the keep-alive's.
    pub(crate) fn expire_flow(&mut self, slot: u32) {
        let now_us = self.now_us;
        let flow = &mut self.flows[slot as usize];
        if probe_at(flow) <= now_us {
            if flow.probes < PROBES_MAX {
                flow.probes += 1;
                flow.probed_us = now_us;
                flow.probe_wanted = true;
                if flow.probes == PROBES_DOUBTFUL {
                    self.falls_silent(slot);
                }
            } else {
                self.counters.flows_timed_out += 1;
                self.reset(slot, CloseReason::TimedOut);
                return;
            }
        }
        self.mark_dirty(slot);
    }

    /// Whether the acknowledgement of a flow waits for a segment that will carry it.
    ///
    /// RFC 9293, section 3.8.6.3: "an ACK SHOULD be generated for at least every second full-sized segment [...] (SHLD-19)"
    /// and the delay "MUST be less than 0.5 seconds (MUST-40)". A hold is shorter than a millisecond, ends at two segments,
    /// and never covers an incomplete request: whoever waits for an acknowledgement to send the rest of it (Nagle) gets it
    /// at once.
    fn holds_ack(&mut self, slot: u32) -> bool {
        let now_us = self.now_us;
        let flow = &self.flows[slot as usize];
        let mss = self.ports[usize::from(flow.port)].mtu_bytes - SEGMENT_HEADER_BYTES;
        let socket = flow.socket();
        let unacknowledged = flow
            .track
            .received_end
            .wrapping_sub(flow.track.acknowledged);
        let holds = socket.state() == State::Established
            && socket.send_queue() == 0
            && socket.recv_queue() == 0
            && (flow.reply_expected || flow.is_server())
            && !flow.probe_wanted
            && !flow.answer_wanted
            && (1..=2 * mss as u32).contains(&unacknowledged);
        if !holds {
            return false;
        }
        if flow.hold_until_us != 0 {
            return now_us < flow.hold_until_us;
        }
        if self.holds.len() == HOLDS_MAX {
            return false;
        }
        let until_us = now_us + HOLD_US;
        self.flows[slot as usize].hold_until_us = until_us;
        self.holds.push_back(Hold { slot, until_us });
        self.counters.acks_held += 1;
        true
    }
}

/// Acknowledges what was received of a request that is on its way to a server, which is most of what is acknowledged without
/// data. Through smoltcp such a segment costs as much as one with a reply. The reply that follows moves the window on.
fn acknowledge(
    key: &FlowKey,
    flow: &mut Flow,
    tx: &mut impl TxQueue,
    counters: &mut StackCounters,
) {
    let track = &mut flow.track;
    track.window = track.window_left() as u16;
    track.acknowledged = track.received_end;
    if let Some(timestamp) = track.timestamp_recent {
        track.timestamp_echo = timestamp;
    }
    let sequence = track.sent_end;
    write_ack(key, flow, &flow.link, sequence, tx, counters);
}

/// When a probe of the peer is due; `u64::MAX`: never.
fn probe_at(flow: &mut Flow) -> u64 {
    let established = matches!(flow.state(), State::Established | State::CloseWait);
    // RFC 9293, section 3.8.4: "Keep-alive packets MUST only be sent when no sent data is outstanding". Data that is finds out
    // by itself whether the peer is there.
    let outstanding = flow.socket().send_queue() > 0;
    let silent_from = if outstanding && flow.stalled_us >= flow.heard_us {
        // Each answer to a probe is a word of the peer's, behind which the stall begins anew.
        return flow.stalled_us.max(flow.probed_us + PROBE_INTERVAL_US);
    } else if !established || outstanding || flow.keepalive_us == u64::MAX {
        return u64::MAX;
    } else {
        flow.heard_us.saturating_add(flow.keepalive_us)
    };
    silent_from + u64::from(flow.probes) * PROBE_INTERVAL_US
}
