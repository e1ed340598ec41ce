//! The server's side of a request: whose reply it is that arrives, where it ends, and where its bytes go.

use crate::compat::Several;
use crate::fault::Fault;
use crate::handshake::Greeting;
use crate::mutants::{self, Mutant};
use crate::pinned::Purpose;
use crate::proxy::Proxy;
use crate::session::Closing;
use crate::slab::NIL;
use crate::state::{Answer, Event, Link, Mode, Target};
use crate::streams::{ServerId, StreamId, Streams};
use tidegate_protocol::ReplyShape;

/// What to do after some bytes of a reply were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// All that were measured.
    All,
    /// The client takes no more for now.
    Stalled,
}

impl Proxy {
    /// Reads what a server connection has, reply by reply; what is more than its pool's share of a turn waits for another.
    pub(crate) fn read_replies<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let Link { stream, server, .. } = self.links[link as usize];
        let pool = self.servers[server as usize].pool;
        self.begin_replies(pool);
        self.read_each_reply(streams, link, stream);
        self.end_replies(pool);
        let state = &self.links[link as usize];
        if state.open && state.stream == stream {
            // The rest of a reply, or the next one, may be held back until this is acknowledged.
            streams.expect_reply(stream, state.fifo.is_empty());
        }
    }

    fn read_each_reply<S: Streams>(&mut self, streams: &mut S, link: u32, stream: StreamId) {
        loop {
            let state = &self.links[link as usize];
            if !state.open || state.stream != stream {
                return;
            }
            if state.measured == 0 && !state.measured_done {
                if streams.received(stream) == 0 {
                    return;
                }
                // What nobody asked for ends the connection at once.
                if self.replies_left == 0 && (state.pin != NIL || !state.fifo.is_empty()) {
                    return self.read_later(link);
                }
                if state.pin != NIL && !state.scanning && !self.sort_value(streams, link) {
                    return;
                }
                let state = &self.links[link as usize];
                let Some(&entry) = state.fifo.front() else {
                    // A reply nobody asked for: whatever it is, everything after it would be off by one.
                    return self.close_link(streams, link, Fault::Garbage);
                };
                if mutants::has(Mutant::SkipsTombstones) && entry.target == Target::Nobody {
                    self.end_entry(link, false);
                    continue;
                }
                if let Target::Fragment(fragment) = entry.target {
                    match self.read_fragment(streams, link, fragment) {
                        Ok(true) => self.complete_fragment(streams, link, fragment),
                        Ok(false) => return,
                        Err(fault) => return self.close_link(streams, link, fault),
                    }
                    self.replies_left -= 1;
                    continue;
                }
                if !state.scanning {
                    self.begin_reply(link, entry.shape);
                }
                match self.measure(streams, link) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(fault) => return self.close_link(streams, link, fault),
                }
            }
            if self.move_reply(streams, link) == Moved::Stalled {
                return self.note_begun(link);
            }
            let state = &self.links[link as usize];
            if !state.open {
                return;
            }
            if state.measured_done {
                self.replies_left = self.replies_left.saturating_sub(1);
                self.complete_reply(streams, link);
            } else {
                self.note_begun(link);
            }
        }
    }

    /// Finds out how many of the received bytes belong to the reply at the front. False: more have to come.
    #[inline]
    fn measure<S: Streams>(&mut self, streams: &mut S, link: u32) -> Result<bool, Fault> {
        let state = &mut self.links[link as usize];
        let shape = state.fifo.front().map(|entry| entry.shape);
        let bytes = streams.peek(state.stream);
        let contiguous = bytes.len();
        let mut scan = state.scanner.scan(bytes).map_err(|_| Fault::Garbage)?;
        if state.scanner.is_error() {
            state.out_of_step |= drops_replies(shape, bytes);
        }
        if scan.bytes == 0 && !scan.done && contiguous < streams.received(state.stream) {
            let n = streams.copy(state.stream, &mut self.scratch);
            let bytes = &self.scratch[..n];
            scan = state.scanner.scan(bytes).map_err(|_| Fault::Garbage)?;
            if state.scanner.is_error() {
                state.out_of_step |= drops_replies(shape, bytes);
            }
        }
        if state.scanner.redis_server_failure() {
            let pool = self.servers[state.server as usize].pool;
            if self.pools[pool as usize].twemproxy {
                return Err(Fault::Failing);
            }
        }
        if state.scanner.is_push()
            && (state.pin == NIL || self.pins[state.pin].purpose != Purpose::Subscriber)
        {
            // Nobody asked for it, and whoever waits for a reply must not get it for one.
            return Err(Fault::Garbage);
        }
        state.measured = scan.bytes;
        state.measured_done = scan.done;
        if scan.bytes > 0 {
            state.progress_us = self.now_us;
            self.servers[state.server as usize].counters.reply_bytes += scan.bytes as u64;
        } else if streams.received(state.stream) == streams.receive_capacity(state.stream) {
            // A line that does not fit into the receive buffer will never be whole.
            return Err(Fault::Garbage);
        }
        Ok(scan.bytes > 0 || scan.done)
    }

    /// Moves the measured bytes to the client, into its held reply, or nowhere.
    #[inline]
    fn move_reply<S: Streams>(&mut self, streams: &mut S, link: u32) -> Moved {
        let state = &self.links[link as usize];
        let stream = state.stream;
        let pending = match state.fifo.front().map(|entry| entry.target) {
            Some(Target::Pending(pending)) => pending,
            _ => NIL,
        };
        let client = if pending == NIL {
            NIL
        } else {
            self.pendings[pending].client
        };
        if self.links[link as usize].unseen && client != NIL {
            let moved = self.look_at_reply(streams, link, pending, client);
            if moved == Moved::Stalled {
                return moved;
            }
        }
        let drop =
            client == NIL || self.pendings[pending].silent || self.is_replaced(link, pending);
        if drop {
            streams.consume(stream, self.links[link as usize].measured);
            self.links[link as usize].measured = 0;
            return Moved::All;
        }
        if self.clients[client as usize].head == pending && self.pendings[pending].chain.is_empty()
        {
            loop {
                let measured = self.links[link as usize].measured;
                if measured == 0 {
                    return Moved::All;
                }
                let moved = streams.forward(stream, StreamId(client), measured);
                self.links[link as usize].measured -= moved;
                if moved == 0 {
                    break;
                }
                let entry = &mut self.pendings[pending];
                entry.begun = true;
                entry.sent_bytes += moved as u64;
                self.clients[client as usize].progress_us = self.now_us;
            }
        }
        self.hold_reply(streams, link, pending, client)
    }

    /// Whether the reply is dropped because something else is told in its place.
    #[inline]
    fn is_replaced(&mut self, link: u32, pending: u32) -> bool {
        let entry = &mut self.pendings[pending];
        let is_error = self.links[link as usize].scanner.is_error();
        // Behind values that the client has already, an error line has to stay what it is.
        if is_error && entry.several != Several::No && entry.instead.is_none() && !entry.begun {
            self.hold.clear(&mut entry.chain);
            entry.instead = Some(Fault::PartFailed);
        }
        entry.instead.is_some()
    }

    /// Keeps measured bytes for later: they came before their turn, or the client's send buffer is full.
    fn hold_reply<S: Streams>(
        &mut self,
        streams: &mut S,
        link: u32,
        pending: u32,
        client: u32,
    ) -> Moved {
        let is_next = self.clients[client as usize].head == pending;
        while self.links[link as usize].measured > 0 {
            let state = &mut self.links[link as usize];
            let bytes = streams.peek(state.stream);
            let n = bytes.len().min(state.measured);
            let allowed = self.may_hold(client, pending, n);
            let entry = &mut self.pendings[pending];
            if allowed && self.hold.append(&mut entry.chain, &bytes[..n]) {
                if entry.chain.len() == n {
                    let pool = self.clients[client as usize].pool;
                    self.pools[pool as usize].counters.replies_held += 1;
                }
                let state = &mut self.links[link as usize];
                streams.consume(state.stream, n);
                state.measured -= n;
            } else if is_next || self.untaken_before(client, pending).is_some() {
                // Only the client holds it up: the server connection waits with it.
                self.stall_link(streams, link, client);
                return Moved::Stalled;
            } else {
                let fault = if allowed {
                    Fault::HoldFull
                } else {
                    Fault::OverHold
                };
                return self.give_reply_up(streams, link, pending, client, fault);
            }
        }
        if is_next {
            self.flush(streams, client);
        }
        Moved::All
    }

    /// Whether so many bytes more may be held for a client.
    fn may_hold(&self, client: u32, pending: u32, n: usize) -> bool {
        let max = self.limits.client_reply_hold_bytes;
        let held = self.pendings[pending].chain.len() + n;
        if held > max {
            return false;
        }
        // Counted only when it can be too much.
        self.hold.bytes_in_use() + n <= max
            || self
                .untaken_before(client, pending)
                .is_none_or(|before| before + held <= max)
    }

    /// How many bytes of earlier replies a client has yet to take, if it is that alone which a reply waits for. `None`: servers owe
    /// some of them.
    #[cold]
    pub(crate) fn untaken_before(&self, client: u32, pending: u32) -> Option<usize> {
        let state = &self.clients[client as usize];
        if state.pin != NIL {
            // Pushes may come between, from a connection that may have to wait as well; only one can.
            return (state.head == pending).then_some(0);
        }
        let mut bytes = 0;
        let mut next = state.head;
        while next != pending && next != NIL {
            let entry = &self.pendings[next];
            if matches!(entry.answer, Answer::Waiting) {
                return None;
            }
            bytes += entry.chain.len();
            next = entry.next;
        }
        Some(bytes)
    }

    /// The reply cannot wait for its turn. None of it was sent, so an error can stand in its place.
    pub(crate) fn give_reply_up<S: Streams>(
        &mut self,
        streams: &mut S,
        link: u32,
        pending: u32,
        client: u32,
        fault: Fault,
    ) -> Moved {
        if self.pendings[pending].push {
            // Nothing can be told in place of a message, and a client that misses one has to know.
            self.close_client(streams, client, Closing::Stalled);
            return Moved::All;
        }
        let mut chain =
            std::mem::replace(&mut self.pendings[pending].chain, crate::hold::Chain::EMPTY);
        self.hold.clear(&mut chain);
        self.pendings[pending].instead = Some(fault);
        self.not_held(self.clients[client as usize].pool, fault);
        let state = &mut self.links[link as usize];
        streams.consume(state.stream, state.measured);
        state.measured = 0;
        Moved::All
    }

    /// Stops reading a connection until the client has taken what is held for it. New requests get another connection.
    pub(crate) fn stall_link(&mut self, streams: &mut impl Streams, link: u32, client: u32) {
        let state = &mut self.clients[client as usize];
        state.blocked = true;
        state.stalled_link = link;
        self.pools[state.pool as usize].counters.paused_replies += 1;
        self.watch(client);
        let state = &self.links[link as usize];
        let server = &mut self.servers[state.server as usize];
        if let Some(place) = server.place_of(state.position, link) {
            *place = NIL;
            server.relieved += 1;
            self.reliefs += 1;
            server.relieved_at = self.reliefs;
            self.wake_all_of(streams, link);
        }
    }

    /// The reply at the front of the queue has been moved whole.
    #[inline]
    fn complete_reply<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let failed = self.links[link as usize].scanner.is_error();
        let target = self.end_entry(link, failed);
        match target {
            Target::Pending(pending) => {
                if failed {
                    self.pendings[pending].failed = true;
                    self.doubt_end(link);
                }
                self.complete_pending(streams, pending);
            }
            Target::Handshake(greeting) if failed => {
                if !self.is_used_unauthorized(link, greeting) {
                    return self.close_link(streams, link, greeting.refused());
                }
            }
            Target::Nobody => {
                let pool = self.servers[self.links[link as usize].server as usize].pool;
                self.pools[pool as usize].counters.late_replies += 1;
            }
            Target::Handshake(greeting) => self.greeting_taken(link, greeting),
            Target::Own if failed => self.doubt(link),
            Target::Own | Target::Fragment(_) => {}
        }
        self.go_on(streams, link);
    }

    /// The server refused our password. Whether its connection is used all the same; then its own errors tell the clients.
    fn is_used_unauthorized(&mut self, link: u32, greeting: Greeting) -> bool {
        let server = self.links[link as usize].server;
        let pool = self.servers[server as usize].pool;
        let is_used = greeting == Greeting::Auth && self.pools[pool as usize].twemproxy;
        if is_used {
            self.event(Event::ServerFailed {
                server: ServerId(server),
                fault: Fault::Unauthorized,
            });
        }
        is_used
    }

    /// A reply is complete: goes on with the next one, if there can be no doubt whose that is.
    #[inline]
    pub(crate) fn go_on<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let state = &mut self.links[link as usize];
        if !state.open {
            return;
        }
        let doubtful = std::mem::take(&mut state.out_of_step) && !state.fifo.is_empty();
        if doubtful {
            return self.close_link(streams, link, Fault::OutOfStep);
        }
        self.link_idle(streams, link);
    }

    /// Takes the entry at the front of a connection's queue out of it.
    #[inline]
    pub(crate) fn end_entry(&mut self, link: u32, failed: bool) -> Target {
        let state = &mut self.links[link as usize];
        state.scanning = false;
        state.measured = 0;
        state.measured_done = false;
        state.expired = state.expired.saturating_sub(1);
        state.progress_us = self.now_us;
        let server = &mut self.servers[state.server as usize];
        server.counters.replies += 1;
        server.counters.error_replies += u64::from(failed);
        let Some(entry) = state.fifo.pop_front() else {
            debug_assert!(false, "a reply has an entry");
            return Target::Nobody;
        };
        if !(failed && matches!(entry.target, Target::Handshake(_))) {
            // A server that refuses our password fails, whatever it answers.
            server.failures = 0;
        }
        let row = server.row;
        self.leave_flight(link);
        self.count_served(row, entry.sent_us);
        entry.target
    }

    /// A connection that is not among the shared ones and owes nothing goes where it belongs.
    #[inline]
    pub(crate) fn link_idle<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let state = &self.links[link as usize];
        if !state.open || !state.fifo.is_empty() || state.writer != NIL {
            return;
        }
        if state.position == NIL {
            if state.pin == NIL {
                self.park_link(streams, link);
            } else {
                self.own_link_idle(streams, link);
            }
            return;
        }
        let server = &mut self.servers[state.server as usize];
        let Some(place) = server.links.get_mut(state.position as usize) else {
            // It has no place any more.
            return self.retire_link(streams, link);
        };
        if *place == NIL {
            // It was replaced while a client held it up, and nobody needed the replacement.
            *place = link;
            server.relieved -= 1;
        } else if *place != link {
            self.retire_link(streams, link);
        }
    }

    #[inline]
    fn complete_pending<S: Streams>(&mut self, streams: &mut S, pending: u32) {
        let entry = &mut self.pendings[pending];
        let client = entry.client;
        if client == NIL {
            self.give_pending(pending);
            return;
        }
        let is_next = self.clients[client as usize].head == pending;
        if is_next && entry.chain.is_empty() && entry.instead.is_none() {
            self.pop_head(streams, client);
            let next = self.clients[client as usize].head;
            if next == NIL {
                return;
            }
            let next = &self.pendings[next];
            if !matches!(next.answer, Answer::Waiting) || !next.chain.is_empty() {
                self.flush(streams, client);
            }
            return;
        }
        if entry.answered_us == 0 {
            entry.answered_us = self.now_us;
        }
        entry.answer = if let Some(fault) = entry.instead {
            let pool = self.clients[client as usize].pool;
            Answer::Text(self.pools[pool as usize].text(fault))
        } else {
            Answer::Held
        };
        if is_next {
            self.flush(streams, client);
        }
    }

    /// Looks whether a client that was watched has moved; closes it if not. True: keep watching.
    pub(crate) fn check_stalled<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let state = &self.clients[client as usize];
        if self.roles[client as usize] != crate::state::Role::Client {
            return false;
        }
        let begun = match state.mode {
            Mode::Hold(_) | Mode::Upload { .. } => true,
            Mode::Chunks(hold) => self.chunks_want_bytes(hold),
            Mode::Greeting | Mode::Normal | Mode::Skip(_) => false,
        };
        // A whole request in a hold that waits for its server is not the client's fault.
        let waits = state.wait.what != crate::waits::WaitFor::Nothing
            || state.full
            || state.barrier && !matches!(state.mode, Mode::Upload { .. } | Mode::Chunks(_));
        if !(state.blocked || begun && !waits) {
            return false;
        }
        if self.now_us.saturating_sub(state.progress_us) >= self.limits.client_stall_us {
            self.close_client(streams, client, Closing::Stalled);
            return false;
        }
        true
    }
}

/// Whether after this error line the next replies may be missing. memcached that runs out of memory while it answers a retrieval
/// drops every reply it has not sent yet, those to earlier requests of the same connection included, and sends the error in their
/// place. So the error may come in reply to another request than the one that failed.
#[cold]
pub(crate) fn drops_replies(shape: Option<ReplyShape>, line: &[u8]) -> bool {
    match shape {
        // These two blame the request and not the server's memory.
        Some(ReplyShape::Values) => {
            !line.starts_with(b"ERROR") && !line.starts_with(b"CLIENT_ERROR")
        }
        Some(ReplyShape::Line | ReplyShape::Stats | ReplyShape::Meta(_)) => {
            line.starts_with(b"SERVER_ERROR out of memory writing get response")
        }
        Some(ReplyShape::Resp | ReplyShape::Binary(_)) | None => false,
    }
}
