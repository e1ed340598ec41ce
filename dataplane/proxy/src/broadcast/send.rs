//! The one reply on its way to the client, as far as there is room.

use crate::links::itoa;
use crate::merge::send_chain;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::Join;
use crate::streams::{StreamId, Streams};
use tidegate_protocol::Merge;

/// What a string was in the reply of a server, and is to be in the joined one: the value of a fragment.
pub(super) const NULL: i64 = 0;
pub(super) const BULK: i64 = 1;
pub(super) const VERBATIM: i64 = 2;
pub(super) const NULL_RESP3: i64 = 3;

/// Room that is there before anything is sent: the front of a reply is never sent in half.
const FRONT_BYTES_MAX: usize = 48;

/// What stands in front of a verbatim string's content, and counts as part of it.
const FORMAT: &[u8] = b"txt:";

impl Proxy {
    /// Sends a joined reply. True when all of it is sent.
    pub(crate) fn send_joined<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        split: u32,
    ) -> bool {
        let id = StreamId(client);
        if !self.splits[split].header_sent {
            if streams.send_room(id) < FRONT_BYTES_MAX {
                return false;
            }
            self.send_joined_front(streams, id, split);
            self.splits[split].header_sent = true;
        }
        let state = &self.splits[split];
        let fragment = state.emit_fragment;
        let end: &[u8] = match state.join {
            Join::Servers(Merge::Keys) => return self.send_all(streams, id, split),
            Join::Servers(Merge::AllOf) => return self.send_least(streams, id, split),
            Join::Servers(Merge::Random) if self.fragments[fragment].value != BULK => b"",
            Join::Servers(Merge::Info | Merge::Random) => b"\r\n",
            Join::Servers(Merge::Stats) => b"END\r\n",
            Join::Servers(_) | Join::Scan | Join::Keys(_) => b"",
        };
        if fragment != NIL {
            let chain = &mut self.fragments[fragment].chain;
            if !send_chain(&mut self.hold, chain, streams, id) {
                return false;
            }
        }
        streams.send_room(id) >= end.len() && streams.send(id, end) == end.len()
    }

    /// What stands in front of the held bytes.
    fn send_joined_front<S: Streams>(&mut self, streams: &mut S, id: StreamId, split: u32) {
        let state = &self.splits[split];
        let merge = match state.join {
            Join::Servers(merge) => merge,
            Join::Scan => return self.send_scan_front(streams, id, split),
            Join::Keys(_) => return,
        };
        match merge {
            Merge::Ok => {
                streams.send(id, b"+OK\r\n");
            }
            Merge::Sum => {
                let sum = self.sum(split);
                send_line(streams, id, if sum < 0 { b":-" } else { b":" }, sum);
            }
            Merge::Keys => {
                let sum = self.sum(split);
                send_line(streams, id, b"*", sum);
            }
            Merge::AllOf => {
                send_line(streams, id, b"*", i64::from(state.keys));
                self.splits[split].emit_left = state.keys as usize;
            }
            Merge::Random | Merge::Info => {
                let part = &self.fragments[state.emit_fragment];
                let bytes = part.chain.len() as i64;
                match part.value {
                    NULL => {
                        streams.send(id, b"$-1\r\n");
                    }
                    NULL_RESP3 => {
                        streams.send(id, b"_\r\n");
                    }
                    VERBATIM => {
                        send_line(streams, id, b"=", bytes + FORMAT.len() as i64);
                        streams.send(id, FORMAT);
                    }
                    _ => send_line(streams, id, b"$", bytes),
                }
            }
            _ => {}
        }
    }

    /// The numbers of all servers that answered, together.
    fn sum(&self, split: u32) -> i64 {
        let mut sum = 0i64;
        let mut fragment = self.first_answered(self.splits[split].first_fragment);
        while fragment != NIL {
            sum = sum.saturating_add(self.fragments[fragment].value);
            fragment = self.first_answered(self.fragments[fragment].next);
        }
        sum
    }

    /// The elements of all servers, one server after the other.
    fn send_all<S: Streams>(&mut self, streams: &mut S, id: StreamId, split: u32) -> bool {
        loop {
            let fragment = self.splits[split].emit_fragment;
            if fragment == NIL {
                return true;
            }
            let chain = &mut self.fragments[fragment].chain;
            if !send_chain(&mut self.hold, chain, streams, id) {
                return false;
            }
            let next = self.fragments[fragment].next;
            self.splits[split].emit_fragment = self.first_answered(next);
        }
    }

    /// The least of the servers' numbers in each place; each is held as a byte.
    fn send_least<S: Streams>(&mut self, streams: &mut S, id: StreamId, split: u32) -> bool {
        // `:255`, CR LF.
        const ELEMENT_BYTES_MAX: usize = 6;
        while self.splits[split].emit_left > 0 {
            if streams.send_room(id) < ELEMENT_BYTES_MAX {
                return false;
            }
            let mut least = u8::MAX;
            let mut fragment = self.splits[split].emit_fragment;
            while fragment != NIL {
                let chain = &mut self.fragments[fragment].chain;
                if let Some(&value) = self.hold.front(chain).first() {
                    least = least.min(value);
                    self.hold.advance(chain, 1);
                }
                fragment = self.first_answered(self.fragments[fragment].next);
            }
            send_line(streams, id, b":", i64::from(least));
            self.splits[split].emit_left -= 1;
        }
        true
    }
}

/// A line of a mark and a number, whose sign is part of the mark.
pub(super) fn send_line<S: Streams>(streams: &mut S, id: StreamId, mark: &[u8], number: i64) {
    streams.send(id, mark);
    streams.send(id, itoa(number.unsigned_abs() as usize).bytes());
    streams.send(id, b"\r\n");
}
