//! Connections beyond the death of a worker.
//!
//! Each open connection stands in a table that the manager holds when the worker is gone ([`tidegate_channel::flows`]). The successor gets
//! what stood there, asks each end where it stands, and answers what comes as it answers every segment of a connection that it does not
//! know: with RST. It goes on asking until the end says that it has no such connection, for a RST may be lost. RFC 9293, section 3.5.1, calls such connections half-open: they "will automatically become reset if an attempt is made
//! to send data in either direction." Here nobody has data to send, so the end that forgot makes the other one speak.

use crate::bare_ack::BareAck;
use crate::doubt::is_synchronized;
use crate::flow_table::{FlowKey, FlowTable};
use crate::ingress::Local;
use crate::limits::{ORPHAN_ANSWER_US, ORPHAN_PROBES_US, ORPHANS_PER_PASS};
use crate::stack::{Stack, link_header};
use smoltcp::socket::tcp::State;
use tidegate_channel::counters::StackCounters;
use tidegate_channel::flows::{FlowRecord, FlowsWriter};
use tidegate_port::{Port, TxQueue};
use tidegate_proxy::mutants::{self, Mutant};

/// Half of all sequence numbers: as far from any window as there is.
const FAR: u32 = 1 << 31;

/// How far the end of one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has not answered.
    Silent,
    /// It was sent a RST, which may have been lost: it is asked again until it says that it has no such connection.
    Told,
    /// Nothing is to be said to it any more.
    Gone,
}

/// What a predecessor left open.
pub(crate) struct Orphans {
    flows: Box<[FlowRecord]>,
    /// By position in `flows`; those whose end is gone are not in it.
    table: FlowTable,
    /// By position.
    ends: Box<[End]>,
    /// Ends that are silent.
    silent: usize,
    /// Where the pass through all of them is.
    next: usize,
    round: usize,
    began_us: u64,
    due_us: u64,
}

impl Default for Orphans {
    fn default() -> Self {
        Self::new(Box::default(), 0, FlowTable::new(0, [0; 2]))
    }
}

impl Orphans {
    /// `table` is empty and has room for all.
    fn new(flows: Box<[FlowRecord]>, now_us: u64, mut table: FlowTable) -> Self {
        let mut ends = vec![End::Gone; flows.len()].into_boxed_slice();
        for (position, flow) in flows.iter().enumerate() {
            let key = FlowKey::new(flow.local, flow.remote);
            // Who left them may have written anything, and the same one twice.
            if table.get(&key).is_none() {
                table.insert(key, position as u32);
                ends[position] = End::Silent;
            }
        }
        Self {
            due_us: if flows.is_empty() { u64::MAX } else { now_us },
            flows,
            silent: table.len(),
            table,
            ends,
            next: 0,
            round: 0,
            began_us: now_us,
        }
    }

    /// Those whose end has not answered yet.
    pub(crate) fn silent(&self) -> usize {
        self.silent
    }

    /// When there is something to do; `u64::MAX`: never.
    #[inline]
    pub(crate) fn due_us(&self) -> u64 {
        self.due_us
    }

    /// Whether its other end may still have it.
    pub(crate) fn has(&self, key: &FlowKey) -> bool {
        self.table.get(key).is_some()
    }

    /// The other end has said something. `is_gone`: that it has no such connection, or begins another. Otherwise it was sent a RST.
    pub(crate) fn hear(&mut self, key: &FlowKey, is_gone: bool, counters: &mut StackCounters) {
        if self.table.is_empty() {
            return;
        }
        let Some(position) = self.table.get(key) else {
            return;
        };
        let position = position as usize;
        if self.ends[position] == End::Silent {
            self.silent -= 1;
            self.ends[position] = End::Told;
            counters.orphans_ended += 1;
        }
        if is_gone {
            self.forget(position);
        }
    }

    fn forget(&mut self, position: usize) {
        self.table.remove(position as u32);
        self.ends[position] = End::Gone;
        if self.table.is_empty() {
            self.due_us = u64::MAX;
        }
    }
}

impl Stack {
    /// Writes down what is open in `record` from here on.
    pub fn keep_record(&mut self, record: FlowsWriter) {
        self.record = record;
    }

    /// The clock of TCP timestamps begins at `at_us` microseconds. Where it goes on over the death of a worker, probes are no older than what
    /// the dead one sent: whoever protects himself against old segments (RFC 7323, section 5) would drop them.
    pub fn begin_timestamps(&mut self, at_us: u64) {
        self.timestamps_us = at_us;
    }

    /// Ends what a predecessor left open. Allocates; called before the first turn.
    pub fn inherit(&mut self, orphans: &[FlowRecord]) {
        if mutants::has(Mutant::LeavesOrphans) {
            return;
        }
        let orphans = orphans.iter().filter(|flow| !self.is_anothers(flow));
        let orphans: Box<[FlowRecord]> = orphans.copied().collect();
        let table = self.table.another(orphans.len());
        self.orphans = Orphans::new(orphans, self.now_us, table);
    }

    /// Whether `flow` is another worker's to end. Workers that are threads of one process are told of all that each of them left, since
    /// their device may spread connections in another way after each start.
    fn is_anothers(&self, flow: &FlowRecord) -> bool {
        let key = FlowKey::new(flow.local, flow.remote);
        // The path that makes an address of ours a source may become known later.
        let source = || self.partition.contains(key.local_port());
        let local = self
            .local(&key)
            .or_else(|| source().then_some(Local::Source));
        local.is_some_and(|local| self.owner(&key, &local, usize::from(flow.port)) != self.worker)
    }

    /// Notes where an open connection goes.
    #[cold]
    pub(crate) fn note_open(&self, slot: u32) {
        let flow = &self.flows[slot as usize];
        let state = flow.state();
        if !flow.attached || !is_synchronized(state) || state == State::TimeWait {
            return;
        }
        let key = self.table.key(slot);
        let [m0, m1, m2, m3, m4, m5, ..] = flow.link;
        let record = FlowRecord {
            local: key.local(),
            remote: key.remote(),
            port: flow.port,
            mac: [m0, m1, m2, m3, m4, m5],
            timestamps: flow.socket().timestamp_enabled(),
            sent_end: flow.track.sent_end,
            received_end: flow.track.received_end,
        };
        self.record.note(slot as usize, &record);
    }

    /// Notes how far a connection has come.
    #[inline]
    pub(crate) fn note_numbers(&self, slot: u32) {
        let track = &self.flows[slot as usize].track;
        self.record
            .note_numbers(slot as usize, track.sent_end, track.received_end);
    }

    /// Probes the next of those that are due.
    #[cold]
    pub(crate) fn probe_orphans<P: Port>(&mut self, ports: &mut [P]) {
        if self.orphans.round == ORPHAN_PROBES_US.len() {
            self.give_up_orphans();
            return;
        }
        for _ in 0..ORPHANS_PER_PASS {
            let position = self.orphans.next;
            let Some(&flow) = self.orphans.flows.get(position) else {
                self.end_round();
                return;
            };
            if self.orphans.ends[position] != End::Gone && !self.probe(&flow, ports) {
                // The ring is full: the next pass begins with this one.
                return;
            }
            self.orphans.next += 1;
        }
    }

    fn end_round(&mut self) {
        let orphans = &mut self.orphans;
        orphans.next = 0;
        orphans.round += 1;
        let due_us = match ORPHAN_PROBES_US.get(orphans.round) {
            // After a ring that was full for long, an end that answers only now and then would hear them all at once.
            Some(after_us) => (orphans.began_us + after_us).max(self.now_us + ORPHAN_PROBES_US[1]),
            None => self.now_us + ORPHAN_ANSWER_US,
        };
        orphans.due_us = if orphans.table.is_empty() {
            u64::MAX
        } else {
            due_us
        };
    }

    /// Whoever is left cannot be reached.
    fn give_up_orphans(&mut self) {
        let orphans = &mut self.orphans;
        for _ in 0..ORPHANS_PER_PASS {
            match orphans.ends.get(orphans.next) {
                Some(End::Silent) => {
                    orphans.silent -= 1;
                    self.counters.orphans_silent += 1;
                    orphans.forget(orphans.next);
                }
                Some(End::Told) => orphans.forget(orphans.next),
                Some(End::Gone) => {}
                None => break,
            }
            orphans.next += 1;
        }
    }

    /// Makes the other end of `flow` say where it stands; `false`: there was no room for the frame.
    ///
    /// RFC 9293, section 3.10.7.4: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply". One number
    /// before what it expects is not, is what a keep-alive looks like (section 3.8.4), and passes a firewall that knows the connection.
    /// Where bytes were lost on their way, that number is inside its window; then one that is far away is not.
    fn probe<P: Port>(&mut self, flow: &FlowRecord, ports: &mut [P]) -> bool {
        let key = FlowKey::new(flow.local, flow.remote);
        let position = usize::from(flow.port);
        // The record is a dead worker's word. Ours are only connections to addresses that are ours now, and to our queue.
        let is_ours = self
            .local(&key)
            .is_some_and(|local| self.owner(&key, &local, position) == self.worker);
        let (Some(state), Some(port)) = (self.ports.get(position), ports.get_mut(position)) else {
            return true;
        };
        // A new connection may have the same ends: its peer knows that the one before is over.
        if !is_ours || self.table.get(&key).is_some() {
            return true;
        }
        let (_, tx) = port.halves();
        if tx.room() == 0 {
            return false;
        }
        let is_far = self.orphans.round % 2 == 1;
        let before = flow.sent_end.wrapping_sub(1);
        let link = link_header(flow.mac, state.mac, key.is_ipv6());
        let ack = BareAck {
            sequence: before.wrapping_add(if is_far { FAR } else { 0 }),
            acknowledgement: flow.received_end,
            // A firewall that counts lets the answer through, whatever its number.
            window: u16::MAX,
            timestamp_echo: flow.timestamps.then_some(0),
        };
        ack.push(&key, &link, tx, &mut self.counters);
        self.counters.orphan_probes += 1;
        true
    }
}
