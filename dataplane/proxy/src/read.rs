//! The client's side of a request: finding it in the receive buffer, whole, larger than the buffer, or refused.

use crate::fault::Fault;
use crate::meter::AtHand;
use crate::notes::{Noting, key_of};
use crate::proxy::Proxy;
use crate::state::{Mode, Pool};
use crate::streams::{StreamId, Streams};
use crate::waits::WaitFor;
use tidegate_channel::meters::Meters;
use tidegate_protocol::{Parsed, Recovery, Refusal, RefusalText, Resume, Route, decode_key};

/// Where the bytes of a request stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// At the front of the client's receive buffer; a copy is in the scratch buffer if they wrap around its end.
    Ring {
        /// The scratch buffer has the copy.
        scratch: bool,
    },
    /// In a hold.
    Hold(u32),
}

impl Proxy {
    #[inline]
    pub(crate) fn read_client<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let pool = self.clients[client as usize].pool;
        let share = self.requests_share(client);
        let taken = self.read_requests(streams, client, share);
        self.use_requests_share(pool, taken);
        if self.clients[client as usize].wait.what != WaitFor::Nothing {
            self.leave_place(streams, client);
        }
    }

    #[inline]
    fn read_requests<S: Streams>(&mut self, streams: &mut S, client: u32, share: u32) -> u32 {
        let mut taken = 0;
        loop {
            let state = &mut self.clients[client as usize];
            let waits = state.wait.what != WaitFor::Nothing && !state.wait.called;
            let idle = state.closing || state.blocked || waits;
            if idle || self.roles[client as usize] != crate::state::Role::Client {
                return taken;
            }
            if state.barrier && !state.mode.is_begun() {
                if state.pending > 0 {
                    return taken;
                }
                state.barrier = false;
            }
            if taken >= share && streams.received(StreamId(client)) > 0 {
                self.wait(client, WaitFor::Turn);
                return taken;
            }
            let is_normal = matches!(state.mode, Mode::Normal);
            let leaves = self.draining || state.leave_by_us != 0;
            if leaves && !self.goes_on_while_draining(client) {
                return taken;
            }
            let go_on = if is_normal {
                self.take_from_ring(streams, client)
            } else {
                self.go_on_reading(streams, client)
            };
            if !go_on {
                return taken;
            }
            taken += 1;
        }
    }

    #[cold]
    fn goes_on_while_draining(&self, client: u32) -> bool {
        self.clients[client as usize].mode.is_begun() || self.in_transaction(client)
    }

    /// Reads in another mode than the usual one.
    #[inline(never)]
    fn go_on_reading<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        match self.clients[client as usize].mode {
            Mode::Normal => true,
            Mode::Greeting => self.take_greeting(streams, client),
            Mode::Hold(hold) => self.take_from_hold(streams, client, hold),
            Mode::Skip(_) => self.skip(streams, client),
            Mode::Upload { .. } => self.upload(streams, client),
            Mode::Chunks(hold) => self.take_chunks(streams, client, hold),
        }
    }

    #[inline]
    fn take_from_ring<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let id = StreamId(client);
        let received = streams.received(id);
        let state = &mut self.clients[client as usize];
        if received < state.need {
            return false;
        }
        if state.pending >= self.limits.client_requests {
            if !state.full {
                state.full = true;
                self.pools[state.pool as usize]
                    .counters
                    .paused_client_requests += 1;
            }
            return false;
        }
        let pool = &mut self.pools[state.pool as usize];
        let bytes = streams.peek(id);
        let contiguous = bytes.len();
        // A look never gets fewer bytes than the one before it.
        if contiguous >= state.need {
            let parsed = pool.parse(state.dialect, bytes, &mut state.resume);
            if contiguous == received || matches!(parsed, Parsed::Whole(_)) {
                let server = self.at_hand.look(pool, &self.meters, &parsed, bytes);
                let source = Source::Ring { scratch: false };
                return self.take(streams, client, source, &parsed, server);
            }
        }
        self.take_across_the_end(streams, client)
    }

    /// Looks at a copy of the receive buffer's contents, which wrap around its end.
    #[cold]
    fn take_across_the_end<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let n = streams.copy(StreamId(client), &mut self.scratch);
        let state = &mut self.clients[client as usize];
        let pool = &mut self.pools[state.pool as usize];
        let bytes = &self.scratch[..n];
        let parsed = pool.parse(state.dialect, bytes, &mut state.resume);
        let server = self.at_hand.look(pool, &self.meters, &parsed, bytes);
        let source = Source::Ring { scratch: true };
        self.take(streams, client, source, &parsed, server)
    }

    fn take_from_hold<S: Streams>(&mut self, streams: &mut S, client: u32, hold: u32) -> bool {
        let id = StreamId(client);
        let state = &mut self.clients[client as usize];
        let buffer = &mut self.holds[hold as usize];
        while buffer.len() < state.need {
            let bytes = streams.peek(id);
            let n = bytes.len().min(state.need - buffer.len());
            if n == 0 {
                self.watch(client);
                // What is held is an incomplete request: the reply to an earlier one may come late.
                streams.expect_reply(id, false);
                return false;
            }
            buffer.extend_from_slice(&bytes[..n]);
            streams.consume(id, n);
            state.progress_us = self.now_us;
        }
        if state.pending >= self.limits.client_requests {
            state.full = true;
            return false;
        }
        let pool = &mut self.pools[state.pool as usize];
        let parsed = pool.parse(state.dialect, buffer, &mut state.resume);
        let server = self.at_hand.look(pool, &self.meters, &parsed, buffer);
        self.take(streams, client, Source::Hold(hold), &parsed, server)
    }

    /// Acts on what was found. True when there may be more to read.
    #[inline]
    fn take<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        parsed: &Parsed,
        server: Option<usize>,
    ) -> bool {
        match parsed {
            Parsed::Whole(request) => {
                // The parser has put `resume` back to the start.
                self.dispatch(streams, client, request, source, server)
            }
            Parsed::Incomplete { need } => self.need_more(streams, client, source, *need),
            Parsed::Head {
                request,
                rest,
                need,
            } => {
                let need = *need;
                let in_ring = matches!(source, Source::Ring { .. });
                let fits = if in_ring {
                    streams.receive_capacity(StreamId(client))
                } else {
                    self.limits.hold_bytes
                };
                if need <= fits || (need <= self.limits.hold_bytes && !self.free_holds.is_empty()) {
                    return self.need_more(streams, client, source, need);
                }
                if let Source::Hold(hold) = source {
                    let held = self.holds[hold as usize].len();
                    if held > request.bytes {
                        // The hold ends within a bulk header. What leaves it is what was measured, so the header
                        // has to be whole first: holds have room for one more than the limit says.
                        return self.need_in_hold(client, held + 1);
                    }
                }
                self.clients[client as usize].resume = Resume::default();
                self.start_upload(streams, client, request, *rest, source, server)
            }
            Parsed::Inline { bytes, wire_bytes } => {
                self.take_inline(streams, client, source, *bytes, *wire_bytes)
            }
            Parsed::Skip { bytes } => {
                self.drop_request(streams, client, source, *bytes);
                true
            }
            Parsed::Refused(refusal) => self.refuse(streams, client, source, refusal),
        }
    }

    fn need_in_hold(&mut self, client: u32, need: usize) -> bool {
        self.clients[client as usize].need = need;
        true
    }

    fn need_more<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        need: usize,
    ) -> bool {
        if let Source::Hold(_) = source {
            if need > self.limits.hold_bytes {
                return self.refuse_too_large(streams, client, source);
            }
            return self.need_in_hold(client, need);
        }
        if need <= streams.receive_capacity(StreamId(client)) {
            self.clients[client as usize].need = need;
            return false;
        }
        if need > self.limits.hold_bytes {
            return self.refuse_too_large(streams, client, source);
        }
        let Some(hold) = self.free_holds.pop() else {
            self.wait(client, WaitFor::Table);
            return false;
        };
        let state = &mut self.clients[client as usize];
        state.mode = Mode::Hold(hold);
        state.need = need;
        true
    }

    /// The request would have to be held and is too large for that. If it is one that is divided, it is taken in chunks.
    fn refuse_too_large<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
    ) -> bool {
        if let Some(front) = self.clients[client as usize].resume.divided()
            && !self.keeps_requests(client)
        {
            return self.begin_chunks(streams, client, source, &front);
        }
        let text = self.pool_of(client).text(Fault::RequestTooLarge);
        self.refuse_unread(streams, client, source, text)
    }

    /// Refuses a request that was looked at in part. Where its end can be measured the connection goes on behind it; else it
    /// ends after the error.
    pub(crate) fn refuse_unread<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        text: &'static str,
    ) -> bool {
        let skip = self.clients[client as usize].resume.skip();
        if let (Source::Hold(hold), Some((bytes, _))) = (source, skip) {
            let held = self.holds[hold as usize].len();
            if held > bytes {
                // The hold ends within a bulk header, which can only be measured as a whole.
                return self.need_in_hold(client, held + 1);
            }
        }
        let recovery = skip.map_or(Recovery::Close, |(bytes, rest)| Recovery::Skip {
            bytes,
            rest,
        });
        let refusal = Refusal {
            reply: RefusalText::Constant(text),
            recovery,
        };
        self.refuse(streams, client, source, &refusal)
    }

    pub(crate) fn refuse<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        refusal: &Refusal,
    ) -> bool {
        if self.awaits_confirmation(client) || !self.has_pending_room(client) {
            return false;
        }
        let bytes = match refusal.recovery {
            Recovery::Skip { bytes, .. } => bytes,
            Recovery::Close => 0,
        };
        self.hold_unknown(client, bytes);
        self.clients[client as usize].row = self.at_hand.row;
        self.count_request(client).requests_refused += 1;
        if self.clients[client as usize].pin != crate::slab::NIL {
            self.spoil(client);
        }
        self.clients[client as usize].resume = Resume::default();
        match refusal.reply {
            RefusalText::Constant("") => self.meters.failed(self.at_hand.row),
            RefusalText::Constant(text) => self.answer_text(streams, client, text),
            RefusalText::Named {
                before,
                name_start,
                name_bytes,
                after,
            } => {
                let range = name_start as usize..(name_start + name_bytes.min(128)) as usize;
                let mut line = [0u8; 512];
                let n = self.with_bytes(streams, client, source, |bytes| {
                    let name = bytes.get(range).unwrap_or_default();
                    let printable = name
                        .iter()
                        .map(|&b| if (0x20..0x7f).contains(&b) { b } else { b'?' });
                    let text = before.bytes().chain(printable).chain(after.bytes());
                    line.iter_mut()
                        .zip(text)
                        .map(|(to, from)| *to = from)
                        .count()
                });
                self.answer_bytes(streams, client, &line[..n]);
            }
            RefusalText::Binary(head, status) => {
                self.answer_frame(streams, client, head, status, status.text());
            }
        }
        match refusal.recovery {
            Recovery::Close => {
                self.close_for_protocol(client, refusal);
                false
            }
            Recovery::Skip { bytes, mut rest } => {
                if let Source::Hold(hold) = source {
                    // What the hold has of the rest goes with it.
                    let held = self.holds[hold as usize].get(bytes..).unwrap_or_default();
                    if !rest
                        .measure(held)
                        .is_ok_and(|scan| scan.bytes == held.len())
                    {
                        self.pool_of(client).counters.clients_closed_protocol += 1;
                        self.clients[client as usize].closing = true;
                        return false;
                    }
                }
                self.drop_request(streams, client, source, bytes);
                self.clients[client as usize].mode = Mode::Skip(rest);
                true
            }
        }
    }

    /// Drops the bytes of a request that was dealt with.
    pub(crate) fn drop_request<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        source: Source,
        bytes: usize,
    ) {
        match source {
            Source::Ring { .. } => streams.consume(StreamId(client), bytes),
            Source::Hold(hold) => self.give_hold(hold),
        }
        let state = &mut self.clients[client as usize];
        state.mode = Mode::Normal;
        state.need = 1;
    }

    /// Calls `f` with the bytes of the request at the front.
    #[inline]
    pub(crate) fn with_bytes<S: Streams, R>(
        &self,
        streams: &mut S,
        client: u32,
        source: Source,
        f: impl FnOnce(&[u8]) -> R,
    ) -> R {
        match source {
            Source::Ring { scratch: true } => f(&self.scratch),
            Source::Ring { scratch: false } => f(streams.peek(StreamId(client))),
            Source::Hold(hold) => f(&self.holds[hold as usize]),
        }
    }

    fn skip<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let id = StreamId(client);
        let Mode::Skip(mut rest) = self.clients[client as usize].mode else {
            return false;
        };
        if rest.is_done() {
            self.clients[client as usize].mode = Mode::Normal;
            return true;
        }
        let received = streams.received(id);
        if received == 0 {
            streams.expect_reply(id, false);
            return false;
        }
        let bytes = streams.peek(id);
        let contiguous = bytes.len();
        let mut scan = rest.measure(bytes);
        if contiguous < received && scan.as_ref().is_ok_and(|s| s.bytes == 0 && !s.done) {
            let n = streams.copy(id, &mut self.scratch);
            scan = rest.measure(&self.scratch[..n]);
        }
        match scan {
            Ok(scan) => {
                streams.consume(id, scan.bytes);
                self.count_rest(client, scan.bytes);
                self.clients[client as usize].mode = if scan.done {
                    Mode::Normal
                } else {
                    Mode::Skip(rest)
                };
                scan.bytes > 0 || scan.done
            }
            Err(refusal) => {
                let refusal = self.worded(client, refusal);
                self.refuse(streams, client, Source::Ring { scratch: false }, &refusal)
            }
        }
    }
}

impl AtHand {
    /// Notes what was found at the front of `bytes`, if it is a request. Returns the position in the pool of the server that owns its
    /// key, if one does.
    // Called from three places, of which one is the way of nearly all requests.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn look(
        &mut self,
        pool: &mut Pool,
        meters: &Meters,
        parsed: &Parsed,
        bytes: &[u8],
    ) -> Option<usize> {
        let (Parsed::Whole(request) | Parsed::Head { request, .. }) = parsed else {
            return None;
        };
        self.row = pool.commands.row(meters, request.name);
        self.bytes = request.bytes;
        let key = key_of(request, bytes);
        if pool.noting == Noting::Slow {
            self.key.set(key);
        }
        match request.route {
            Route::Key => pool.router.route(key),
            Route::Base64Key => owner_of_decoded(pool, key),
            _ => None,
        }
    }
}

#[cold]
fn owner_of_decoded(pool: &mut Pool, key: &[u8]) -> Option<usize> {
    decode_key(key).and_then(|key| pool.router.route(key.bytes()))
}
