//! Divided Redis requests that are too large to be held: taken in chunks of whole keys, one after the other.
//!
//! A chunk is as many keys of the request as fit into a hold, for MSET with their values. It is divided and sent like a request of
//! its own, and the next one is begun when its outcome is known, so that the keys are worked on in the order in which they came and
//! the memory is that of one chunk. A pair of MSET that alone does not fit is passed on as a SET while it arrives, on a connection
//! of its own. As with uploads, the client's earlier requests are answered first and its later ones are read after this one.
//!
//! The outcome: MSET is `+OK` once every chunk is stored, the integers of DEL, UNLINK, TOUCH and EXISTS are added, and the elements
//! of MGET go to the client chunk by chunk, the first behind the header for all of them. When a chunk fails, its error is the
//! answer to the whole, and the rest of the request is read but not sent. What earlier chunks stored or deleted stays so, as it does
//! where one part of a smaller request fails.
//!
//! MGET differs once elements have been sent: an error in the place of an element would be the *value* of a key to a client
//! that does not look for it there, and missing elements would be made up. So the connection ends with RST, which
//! no client can take for a reply. A server that is down shows in the first chunk in all likelihood, which has keys of every
//! server; and then there is nothing sent yet and the answer is an error.

mod fail;
mod value;

use crate::fault::Fault;
use crate::limits::{CHUNK_KEYS_MAX, CHUNK_KEYS_SHARE, CHUNK_VALUES_MAX};
use crate::proxy::Proxy;
use crate::read::Source;
use crate::session::Closing;
use crate::slab::NIL;
use crate::split::Obstacle;
use crate::state::{Answer, Mode};
use crate::streams::{StreamId, Streams};
use crate::waits::WaitFor;
use tidegate_protocol::{
    DividedFront, NextKey, Refusal, ReplyShape, Request, RequestRest, Route, Split as SplitKind,
    ValueFront, arguments_per_key, key_bytes_min, next_key,
};

/// How far a request in chunks is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Keys are gathered in the hold.
    Gather,
    /// Servers have the chunk, and its outcome is not known.
    Asked,
    /// The elements of the chunk are sent to the client.
    Elements,
    /// A value goes to this connection as it arrives.
    Value { link: u32, rest: RequestRest },
    /// The request has its answer, an error. What is left of it is dropped.
    Drop(RequestRest),
}

/// A divided request that is taken in chunks. It belongs to a hold, in which the request's name stands before the keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunked {
    pending: u32,
    kind: SplitKind,
    /// Keys of the request, and those that no server was asked for.
    keys_all: u32,
    keys_left: u32,
    /// Bytes of the name, whole keys behind it, and their bytes.
    name_bytes: usize,
    keys: u32,
    bytes: usize,
    /// Of the integers of earlier chunks.
    sum: i64,
    step: Step,
}

/// Why the search for whole keys ended.
enum Found {
    /// The chunk has as many as it may have, or all that are left.
    Enough,
    /// The next key is not whole. It has `need` bytes at least.
    Short {
        need: usize,
        value: Option<ValueFront>,
    },
    Refused(Refusal),
}

impl Chunked {
    /// No request.
    pub const NONE: Self = Self {
        pending: NIL,
        kind: SplitKind::Sum,
        keys_all: 0,
        keys_left: 0,
        name_bytes: 0,
        keys: 0,
        bytes: 0,
        sum: 0,
        step: Step::Gather,
    };

    /// Moves over the keys that are whole in `hold`.
    fn find_keys(&mut self, hold: &[u8], keys_max: u32) -> Found {
        let keys_max = keys_max.min(self.keys_left);
        if self.keys > keys_max {
            // The limit was lowered meanwhile.
            (self.keys, self.bytes) = (0, 0);
        }
        loop {
            if self.keys == keys_max {
                return Found::Enough;
            }
            let at = self.name_bytes + self.bytes;
            match next_key(self.kind, hold.get(at..).unwrap_or_default()) {
                NextKey::Whole { bytes } => {
                    self.keys += 1;
                    self.bytes += bytes;
                }
                NextKey::Partial { need, value } => return Found::Short { need, value },
                NextKey::Refused(refusal) => return Found::Refused(refusal),
            }
        }
    }

    /// The keys at the front of the hold as a request.
    fn request(&self) -> Request {
        Request {
            name: "",
            route: Route::Split(self.kind),
            argc: 1 + self.keys * arguments_per_key(self.kind),
            key: 0..0,
            prefix: 0..self.name_bytes,
            bytes: self.name_bytes + self.bytes,
            noreply: None,
            reply: ReplyShape::Resp,
        }
    }

    /// What is left of the request from the front of the hold on.
    fn rest(&self) -> RequestRest {
        let keys = RequestRest::keys(self.kind, self.keys_left);
        match self.step {
            Step::Value { rest, .. } => rest.followed_by(keys),
            _ => keys,
        }
    }
}

impl Proxy {
    /// Takes a divided request of which at least the name is there. False: it stays where it is for now.
    pub(crate) fn begin_chunks<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        front: &DividedFront,
    ) -> bool {
        if self.clients[client as usize].pending > 0 {
            self.clients[client as usize].barrier = true;
            return false;
        }
        if !self.has_pending_room(client) {
            return false;
        }
        if self.is_locked_out(client) {
            let text = self.pool_of(client).no_auth();
            return self.refuse_unread(streams, client, source, text);
        }
        let bytes = match source {
            Source::Ring { .. } => front.prefix.end,
            Source::Hold(hold) => self.holds[hold as usize].len(),
        };
        self.hold_named(client, front.name, bytes);
        let Some(hold) = self.hold_of_chunks(streams, client, source, front) else {
            self.wait(client, WaitFor::Table);
            return false;
        };
        let Some(pending) = self.push_pending(streams, client, false) else {
            self.give_hold(hold);
            return false;
        };
        self.note_chunks(client, front.name, pending);
        self.count_request(client).requests_split += 1;
        self.chunked[hold as usize] = Chunked {
            pending,
            kind: front.split,
            keys_all: front.keys,
            keys_left: front.keys,
            name_bytes: front.prefix.len(),
            ..Chunked::NONE
        };
        self.pendings[pending].several =
            self.several(client, &self.chunked[hold as usize].request());
        let state = &mut self.clients[client as usize];
        state.mode = Mode::Chunks(hold);
        state.need = 1;
        state.resume = tidegate_protocol::Resume::default();
        state.barrier = true;
        state.row = self.at_hand.row;
        state.progress_us = self.now_us;
        // What has arrived is an incomplete request: it is acknowledged at once, or the client may never send the rest.
        streams.expect_reply(StreamId(client), false);
        true
    }

    /// A hold with the request's name and, if it is held already, what follows. `None`: no hold is free.
    fn hold_of_chunks<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        front: &DividedFront,
    ) -> Option<u32> {
        if let Source::Hold(hold) = source {
            self.holds[hold as usize].drain(..front.prefix.start);
            return Some(hold);
        }
        let hold = self.free_holds.pop()?;
        let mut buffer = std::mem::take(&mut self.holds[hold as usize]);
        self.with_bytes(streams, client, source, |bytes| {
            buffer.extend_from_slice(&bytes[front.prefix.clone()]);
        });
        self.holds[hold as usize] = buffer;
        streams.consume(StreamId(client), front.prefix.end);
        Some(hold)
    }

    /// Goes on with a request in chunks. True when there may be more to read.
    pub(crate) fn take_chunks<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
    ) -> bool {
        match self.chunked[hold as usize].step {
            Step::Gather => self.gather(streams, client, hold),
            Step::Asked | Step::Elements => false,
            Step::Value { .. } => self.pass_value(streams, client, hold),
            Step::Drop(_) => self.drop_rest(streams, client, hold),
        }
    }

    fn gather<S: Streams>(&mut self, streams: &mut S, client: u32, hold: u32) -> bool {
        let keys_max = self.chunk_keys_max(self.chunked[hold as usize].kind);
        let limit = self.limits.hold_bytes;
        loop {
            let chunk = &mut self.chunked[hold as usize];
            let (need, value) = match chunk.find_keys(&self.holds[hold as usize], keys_max) {
                Found::Enough => return self.ask_chunk(streams, client, hold),
                Found::Short { need, value } => (chunk.bytes + need, value),
                Found::Refused(refusal) => {
                    return self.refuse_chunks(streams, client, hold, &refusal);
                }
            };
            if need > limit {
                return match value {
                    _ if chunk.keys > 0 => self.ask_chunk(streams, client, hold),
                    Some(value) => self.begin_value(streams, client, hold, &value),
                    None => self.fail_chunks(streams, client, hold, Fault::RequestTooLarge),
                };
            }
            // The keys behind the next one have some bytes as well. What is taken must not be more than the request has.
            let behind = (chunk.keys_left - chunk.keys - 1) as usize * key_bytes_min(chunk.kind);
            let need = chunk.name_bytes + (need + behind).min(limit);
            if self.fill(streams, client, hold, need) == 0 {
                self.want_bytes(streams, client);
                return false;
            }
        }
    }

    fn chunk_keys_max(&self, kind: SplitKind) -> u32 {
        let most = if kind == SplitKind::Mget {
            CHUNK_VALUES_MAX
        } else {
            CHUNK_KEYS_MAX
        };
        let share = (self.keys.limit() / CHUNK_KEYS_SHARE).max(1);
        // Each key may need a fragment of its own.
        most.min(share).min(self.fragments.limit()) as u32
    }

    /// Moves received bytes into the hold until it has `bytes`. Returns how many came.
    fn fill<S: Streams>(&mut self, streams: &mut S, client: u32, hold: u32, bytes: usize) -> usize {
        let id = StreamId(client);
        let buffer = &mut self.holds[hold as usize];
        debug_assert!(bytes <= buffer.capacity(), "a hold never grows");
        let before = buffer.len();
        while buffer.len() < bytes {
            let received = streams.peek(id);
            let n = received.len().min(bytes - buffer.len());
            if n == 0 {
                break;
            }
            buffer.extend_from_slice(&received[..n]);
            streams.consume(id, n);
        }
        let came = buffer.len() - before;
        if came > 0 {
            self.clients[client as usize].progress_us = self.now_us;
            self.count_rest(client, came);
        }
        came
    }

    /// The client has sent too little. If it will not send more, its request can never be answered.
    fn want_bytes<S: Streams>(&mut self, streams: &mut S, client: u32) {
        if self.clients[client as usize].half_closed {
            self.close_client(streams, client, Closing::Broken);
        } else {
            self.watch(client);
        }
    }

    /// Sends the whole keys in the hold to their servers.
    fn ask_chunk<S: Streams>(&mut self, streams: &mut S, client: u32, hold: u32) -> bool {
        let chunk = self.chunked[hold as usize];
        let request = chunk.request();
        // No other request of the client is under way, so none can be overtaken.
        self.clients[client as usize].busy_since = self.reliefs;
        let buffer = std::mem::take(&mut self.holds[hold as usize]);
        let bytes = &buffer[..request.bytes];
        let outcome = self.split_chunk(streams, client, &request, bytes, chunk.kind, chunk.pending);
        self.holds[hold as usize] = buffer;
        match outcome {
            Ok(Some(split)) => {
                let go_on = self.chunk_asked(streams, client, hold, split);
                self.complete_if_answered(streams, Some(split));
                go_on
            }
            Ok(None) => self.fail_chunks(streams, client, hold, Fault::NoResource),
            Err(Obstacle::Wait) => false,
            Err(Obstacle::Fault(fault)) => self.fail_chunks(streams, client, hold, fault),
        }
    }

    fn chunk_asked<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
        split: u32,
    ) -> bool {
        let chunk = &mut self.chunked[hold as usize];
        let state = &mut self.splits[split];
        state.sum = chunk.sum;
        if self.pendings[chunk.pending].begun {
            state.header_sent = true;
            state.emit_key = state.first_key;
        } else {
            state.keys = chunk.keys_all;
        }
        self.holds[hold as usize].drain(chunk.name_bytes..chunk.name_bytes + chunk.bytes);
        chunk.keys_left -= chunk.keys;
        chunk.keys = 0;
        chunk.bytes = 0;
        self.all_sent(streams, client, hold)
    }

    /// What was read has been sent. After the last key the request is one like any other that waits for its reply.
    fn all_sent<S: Streams>(&mut self, streams: &mut S, client: u32, hold: u32) -> bool {
        if self.chunked[hold as usize].keys_left > 0 {
            self.chunked[hold as usize].step = Step::Asked;
            return false;
        }
        self.end_chunks(client, hold);
        streams.expect_reply(StreamId(client), true);
        true
    }

    fn end_chunks(&mut self, client: u32, hold: u32) {
        self.clients[client as usize].mode = Mode::Normal;
        self.give_hold(hold);
    }

    /// The hold of the client's request in chunks, if that is the given one and not all of it was sent.
    pub(crate) fn chunks_under_way(&self, client: u32, pending: u32) -> Option<u32> {
        match self.clients[client as usize].mode {
            Mode::Chunks(hold) if self.chunked[hold as usize].pending == pending => Some(hold),
            _ => None,
        }
    }

    /// All parts of a chunk have their replies.
    pub(crate) fn complete_chunk<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
        split: u32,
    ) {
        let Chunked {
            pending,
            kind,
            step,
            ..
        } = self.chunked[hold as usize];
        if let Step::Value { link, .. } = step {
            self.fail_value(streams, client, hold, split, link);
        } else if !self.splits[split].has_failed() {
            if kind != SplitKind::Mget {
                self.chunked[hold as usize].sum = self.splits[split].sum;
                self.give_split(split);
                return self.gather_next(streams, client, hold);
            }
            self.chunked[hold as usize].step = Step::Elements;
        } else if self.pendings[pending].begun {
            return self.break_off(streams, client, split, pending);
        } else {
            self.begin_drop(streams, client, hold);
        }
        self.pendings[pending].answer = Answer::Merged(split);
        self.flush(streams, client);
    }

    fn gather_next<S: Streams>(&mut self, streams: &mut S, client: u32, hold: u32) {
        self.chunked[hold as usize].step = Step::Gather;
        self.clients[client as usize].progress_us = self.now_us;
        streams.mark_ready(StreamId(client));
    }

    /// A merged reply was sent. True if it was a chunk of elements and more are to come.
    pub(crate) fn go_on_after_elements<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        pending: u32,
    ) -> bool {
        let Some(hold) = self.chunks_under_way(client, pending) else {
            return false;
        };
        if !matches!(self.chunked[hold as usize].step, Step::Elements) {
            return false;
        }
        let entry = &mut self.pendings[pending];
        entry.answer = Answer::Waiting;
        entry.begun = true;
        self.gather_next(streams, client, hold);
        true
    }

    /// Whether a request in chunks goes on only when its client sends more, or when a value gets room.
    pub(crate) fn chunks_want_bytes(&self, hold: u32) -> bool {
        !matches!(
            self.chunked[hold as usize].step,
            Step::Asked | Step::Elements
        )
    }
}
