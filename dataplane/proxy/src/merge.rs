//! The replies to the parts of a split request, and the one reply made of them.
//!
//! A part is taken apart as it arrives: each key's piece is noted with its length and kept in the fragment's chain. When all
//! parts are there, the pieces are sent in the order of the request's keys, from the chains, without another copy.

use crate::fault::Fault;
use crate::hold::Chain;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::replies::drops_replies;
use crate::slab::NIL;
use crate::state::{Join, Phase};
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{
    ArrayHeader, LineReply, ReplyShape, Split as SplitKind, ValueHeader, parse_array_header,
    parse_integer_reply, parse_status_reply, parse_value_header,
};

/// What MGET has in the place of a key that is missing.
const NULL: &str = "$-1\r\n";

/// How a look at the bytes of a fragment's reply ended.
pub(crate) enum Step {
    /// More bytes have to come.
    More,
    /// Look again.
    Again,
    /// The reply is complete.
    Done,
}

impl Proxy {
    /// Reads the reply of a fragment. True when it is complete.
    pub(crate) fn read_fragment<S: Streams>(
        &mut self,
        streams: &mut S,
        link: u32,
        fragment: u32,
    ) -> Result<bool, Fault> {
        let stream = self.links[link as usize].stream;
        loop {
            let received = streams.received(stream);
            if received == 0 {
                return Ok(false);
            }
            self.links[link as usize].scanning = true;
            self.links[link as usize].progress_us = self.now_us;
            let contiguous = streams.peek(stream).len();
            let mut scratch = std::mem::take(&mut self.scratch);
            let mut step = {
                let bytes = streams.peek(stream);
                self.fragment_step(link, fragment, bytes)
            };
            if contiguous < received && matches!(step, Ok((Step::More, 0))) {
                let n = streams.copy(stream, &mut scratch);
                step = self.fragment_step(link, fragment, &scratch[..n]);
            }
            self.scratch = scratch;
            let (step, bytes) = step?;
            streams.consume(stream, bytes);
            let server = self.links[link as usize].server;
            self.servers[server as usize].counters.reply_bytes += bytes as u64;
            match step {
                Step::Done => return Ok(true),
                Step::More if bytes == 0 => {
                    let full = received == streams.receive_capacity(stream);
                    return if full { Err(Fault::Garbage) } else { Ok(false) };
                }
                Step::More | Step::Again => {}
            }
        }
    }

    /// One look at the front of the reply: what to do next, and how many bytes are dealt with.
    fn fragment_step(
        &mut self,
        link: u32,
        fragment: u32,
        bytes: &[u8],
    ) -> Result<(Step, usize), Fault> {
        let Join::Keys(kind) = self.splits[self.fragments[fragment].split].join else {
            return self.broadcast_step(link, fragment, bytes);
        };
        match self.fragments[fragment].phase {
            Phase::Start => match kind {
                SplitKind::Sum => self.integer_step(fragment, bytes),
                SplitKind::Mset => self.status_step(fragment, bytes),
                SplitKind::Mget => self.array_step(fragment, bytes),
                SplitKind::MemcachedGet => self.values_step(link, fragment, bytes),
            },
            Phase::Elements { left: 0, .. } => Ok((Step::Done, 0)),
            Phase::Elements { left, begun } => {
                self.element_step(link, fragment, left, begun, bytes)
            }
            Phase::Values => self.values_step(link, fragment, bytes),
            // The other phases are of replies without keys.
            Phase::Rest | Phase::Content { .. } | Phase::Integers { .. } => Err(Fault::Garbage),
            Phase::Block { left } => {
                let n = left.min(bytes.len());
                self.keep(fragment, &bytes[..n]);
                let left = left - n;
                self.fragments[fragment].phase = if left == 0 {
                    Phase::Values
                } else {
                    Phase::Block { left }
                };
                Ok((Step::Again, n))
            }
        }
    }

    fn integer_step(&mut self, fragment: u32, bytes: &[u8]) -> Result<(Step, usize), Fault> {
        match parse_integer_reply(bytes) {
            LineReply::Incomplete => Ok((Step::More, 0)),
            LineReply::Value { value, bytes } => {
                let split = &mut self.splits[self.fragments[fragment].split];
                split.sum = split.sum.saturating_add(value);
                Ok((Step::Done, bytes))
            }
            LineReply::Error { bytes: n } => self.error_line(fragment, &bytes[..n]),
            LineReply::Malformed => Err(Fault::Garbage),
        }
    }

    fn status_step(&mut self, fragment: u32, bytes: &[u8]) -> Result<(Step, usize), Fault> {
        match parse_status_reply(bytes) {
            LineReply::Incomplete => Ok((Step::More, 0)),
            LineReply::Value { bytes, .. } => Ok((Step::Done, bytes)),
            LineReply::Error { bytes: n } => self.error_line(fragment, &bytes[..n]),
            LineReply::Malformed => Err(Fault::Garbage),
        }
    }

    fn array_step(&mut self, fragment: u32, bytes: &[u8]) -> Result<(Step, usize), Fault> {
        match parse_array_header(bytes) {
            ArrayHeader::Incomplete => Ok((Step::More, 0)),
            ArrayHeader::Array { elements, bytes } => {
                let part = &mut self.fragments[fragment];
                if elements != u64::from(part.keys) {
                    return Err(Fault::Garbage);
                }
                part.phase = Phase::Elements {
                    left: part.keys,
                    begun: false,
                };
                Ok((Step::Again, bytes))
            }
            ArrayHeader::Error { bytes: n } => self.error_line(fragment, &bytes[..n]),
            ArrayHeader::Malformed => Err(Fault::Garbage),
        }
    }

    fn element_step(
        &mut self,
        link: u32,
        fragment: u32,
        left: u32,
        begun: bool,
        bytes: &[u8],
    ) -> Result<(Step, usize), Fault> {
        if !begun {
            self.begin_reply(link, ReplyShape::Resp);
        }
        let scan = self.links[link as usize]
            .scanner
            .scan(bytes)
            .map_err(|_| Fault::Garbage)?;
        self.keep(fragment, &bytes[..scan.bytes]);
        if !scan.done {
            self.fragments[fragment].phase = Phase::Elements {
                left,
                begun: begun || scan.bytes > 0,
            };
            return Ok((Step::More, scan.bytes));
        }
        let part = &mut self.fragments[fragment];
        part.cursor = self.keys[part.cursor].next_in_fragment;
        part.phase = Phase::Elements {
            left: left - 1,
            begun: false,
        };
        let step = if left == 1 { Step::Done } else { Step::Again };
        Ok((step, scan.bytes))
    }

    fn values_step(
        &mut self,
        link: u32,
        fragment: u32,
        bytes: &[u8],
    ) -> Result<(Step, usize), Fault> {
        match parse_value_header(bytes) {
            ValueHeader::Incomplete => Ok((Step::More, 0)),
            ValueHeader::End { bytes } => Ok((Step::Done, bytes)),
            ValueHeader::Error { bytes: n } => {
                let state = &mut self.links[link as usize];
                state.out_of_step |= drops_replies(Some(ReplyShape::Values), bytes);
                self.error_line(fragment, &bytes[..n])
            }
            ValueHeader::Malformed => Err(Fault::Garbage),
            ValueHeader::Value {
                key,
                header_bytes,
                data_bytes,
            } => {
                let hash = self.key_hash(&bytes[key]);
                // Keys between the last hit and this one were misses. The first block belongs to the key at the cursor or a later one.
                let mut cursor = self.fragments[fragment].cursor;
                if matches!(self.fragments[fragment].phase, Phase::Values) && cursor != NIL {
                    cursor = self.keys[cursor].next_in_fragment;
                }
                while cursor != NIL && self.keys[cursor].hash != hash {
                    cursor = self.keys[cursor].next_in_fragment;
                }
                if cursor == NIL {
                    // A value that was not asked for, or not in this order.
                    return Err(Fault::Garbage);
                }
                let part = &mut self.fragments[fragment];
                part.cursor = cursor;
                // The data block ends with CR LF.
                part.phase = Phase::Block {
                    left: data_bytes + 2,
                };
                self.keep(fragment, &bytes[..header_bytes]);
                Ok((Step::Again, header_bytes))
            }
        }
    }

    /// Keeps bytes of the piece at the cursor, unless the merged reply failed or gets too large.
    fn keep(&mut self, fragment: u32, bytes: &[u8]) {
        if self.hold_part(fragment, bytes) {
            let cursor = self.fragments[fragment].cursor;
            self.keys[cursor].part_bytes += bytes.len() as u32;
        }
    }

    /// Holds bytes of a fragment's reply. False: the merged reply failed, or would get too large.
    pub(crate) fn hold_part(&mut self, fragment: u32, bytes: &[u8]) -> bool {
        let part = &mut self.fragments[fragment];
        let split = &mut self.splits[part.split];
        if split.failed.is_some()
            || !split.error.is_empty()
            || self.pendings[split.pending].client == NIL
        {
            self.hold.clear(&mut part.chain);
            return false;
        }
        split.held_bytes += bytes.len() as u64;
        let fault = if split.held_bytes > self.limits.client_reply_hold_bytes as u64 {
            Fault::OverHold
        } else if !self.hold.append(&mut part.chain, bytes) {
            Fault::HoldFull
        } else {
            return true;
        };
        self.hold.clear(&mut part.chain);
        let (split, client) = (part.split, self.pendings[split.pending].client);
        let text = self.not_held(self.clients[client as usize].pool, fault);
        self.splits[split].failed = Some(text);
        false
    }

    /// The reply of a fragment is complete: its connection goes on with the next.
    pub(crate) fn complete_fragment<S: Streams>(
        &mut self,
        streams: &mut S,
        link: u32,
        fragment: u32,
    ) {
        self.end_entry(link, false);
        self.count_fragment(streams, fragment);
        self.go_on(streams, link);
    }

    pub(crate) fn count_fragment<S: Streams>(&mut self, streams: &mut S, fragment: u32) {
        let split = self.fragments[fragment].split;
        self.splits[split].outstanding -= 1;
        if self.splits[split].outstanding == 0 {
            self.complete_split(streams, split);
        }
    }

    /// Sends the merged reply as far as there is room. True when all of it is sent.
    pub(crate) fn send_merged<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        split: u32,
    ) -> bool {
        let id = StreamId(client);
        let state = &mut self.splits[split];
        if !state.error.is_empty() {
            return send_chain(&mut self.hold, &mut state.error, streams, id);
        }
        if let Some(text) = state.failed {
            let fits = streams.send_room(id) >= text.len();
            if fits {
                streams.send(id, text.as_bytes());
            }
            return fits;
        }
        let Join::Keys(kind) = state.join else {
            return self.send_joined(streams, client, split);
        };
        let keys = state.keys as usize;
        let (before, number) = match kind {
            SplitKind::Sum => ("integer", state.sum.unsigned_abs() as usize),
            SplitKind::Mget => ("array", keys),
            SplitKind::Mset => ("ok", 0),
            SplitKind::MemcachedGet => ("", 0),
        };
        if !state.header_sent {
            if streams.send_room(id) < 24 {
                return false;
            }
            state.header_sent = true;
            state.emit_key = state.first_key;
            match before {
                "integer" => {
                    streams.send(id, if state.sum < 0 { b":-" } else { b":" });
                    streams.send(id, itoa(number).bytes());
                    streams.send(id, b"\r\n");
                }
                "array" => {
                    streams.send(id, b"*");
                    streams.send(id, itoa(number).bytes());
                    streams.send(id, b"\r\n");
                }
                "ok" => {
                    streams.send(id, b"+OK\r\n");
                }
                _ => {}
            }
        }
        match kind {
            SplitKind::Sum | SplitKind::Mset => true,
            SplitKind::Mget => self.send_pieces(streams, id, split, NULL),
            SplitKind::MemcachedGet => {
                self.send_pieces(streams, id, split, "")
                    && streams.send_room(id) >= 5
                    && streams.send(id, b"END\r\n") == 5
            }
        }
    }

    /// Sends the pieces of all keys, and `miss` in place of those that were lost.
    fn send_pieces<S: Streams>(
        &mut self,
        streams: &mut S,
        id: StreamId,
        split: u32,
        miss: &str,
    ) -> bool {
        loop {
            let state = &mut self.splits[split];
            if state.emit_key == NIL {
                return true;
            }
            let record = self.keys[state.emit_key];
            if self.fragments[record.fragment].lost {
                if streams.send_room(id) < miss.len() {
                    return false;
                }
                streams.send(id, miss.as_bytes());
                state.emit_key = record.next;
                continue;
            }
            if !state.emit_started {
                state.emit_started = true;
                state.emit_left = record.part_bytes as usize;
            }
            let chain = &mut self.fragments[record.fragment].chain;
            while state.emit_left > 0 {
                let front = self.hold.front(chain);
                let n = front.len().min(state.emit_left);
                let sent = streams.send(id, &front[..n]);
                if sent == 0 {
                    return false;
                }
                self.hold.advance(chain, sent);
                state.emit_left -= sent;
            }
            state.emit_key = record.next;
            state.emit_started = false;
        }
    }
}

pub(crate) fn send_chain<S: Streams>(
    hold: &mut crate::hold::HoldPool,
    chain: &mut Chain,
    streams: &mut S,
    id: StreamId,
) -> bool {
    while !chain.is_empty() {
        let sent = streams.send(id, hold.front(chain));
        if sent == 0 {
            return false;
        }
        hold.advance(chain, sent);
    }
    true
}
