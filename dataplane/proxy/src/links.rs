//! Server connections: opening, choosing, losing them, and taking failing servers out.

use crate::compat::Several;
use crate::fault::Fault;
use crate::flavour::Flavour;
use crate::limits::EXCLUSIVE_IDLE_MAX;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Answer, Event, Mode, Role, Target};
use crate::streams::{CloseReason, ConnectError, ServerId, StreamStatus, Streams};
use crate::waits::WaitFor;
use tidegate_protocol::{ReplyScanner, ReplyShape};

impl Proxy {
    /// The shared connection for this client's requests to a server, opened if need be. `Ok(Err(_))`: what the client has
    /// to wait for.
    ///
    /// A client always uses the same one of a server's connections, so that its requests to one server stay in order.
    #[inline]
    pub(crate) fn shared_link<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        server: u16,
    ) -> Result<Result<u32, WaitFor>, Fault> {
        let state = &self.servers[server as usize];
        if state.relieved > 0 {
            let asker = &self.clients[client as usize];
            if asker.pending > 0 && asker.busy_since < state.relieved_at {
                // One of its requests may be on the connection that was replaced: it must not be overtaken.
                return Ok(Err(WaitFor::Server(server)));
            }
        }
        let flavour = self.clients[client as usize].flavour;
        let position = flavour.index() * state.connections as usize
            + client as usize % state.connections as usize;
        let link = state.links[position];
        if link == NIL {
            return self.open_shared_link(streams, server, flavour, position);
        }
        Ok(self.with_room(link))
    }

    /// A connection, or that there is no room on it.
    #[inline]
    fn with_room(&self, link: u32) -> Result<u32, WaitFor> {
        if self.link_has_room(link) {
            Ok(link)
        } else {
            Err(WaitFor::Link(link))
        }
    }

    #[cold]
    fn open_shared_link<S: Streams>(
        &mut self,
        streams: &mut S,
        server: u16,
        flavour: Flavour,
        position: usize,
    ) -> Result<Result<u32, WaitFor>, Fault> {
        match self.open_link(streams, server, flavour) {
            Ok(link) => {
                self.links[link as usize].position = position as u32;
                self.servers[server as usize].links[position] = link;
                Ok(self.with_room(link))
            }
            Err(Fault::NoResource) if self.makes_room() => Ok(Err(WaitFor::Server(server))),
            Err(fault) => Err(fault),
        }
    }

    /// A connection for one client alone. `Ok(None)`: the client has to wait for the server.
    pub(crate) fn exclusive_link<S: Streams>(
        &mut self,
        streams: &mut S,
        server: u16,
        flavour: Flavour,
    ) -> Result<Option<u32>, Fault> {
        let idle = &mut self.servers[server as usize].idle;
        let fits = |&link: &u32| self.links[link as usize].flavour == flavour;
        if let Some(place) = idle.iter().rposition(fits) {
            let is_ready = self.links[idle[place] as usize].greetings == 0;
            return Ok(is_ready.then(|| idle.remove(place)));
        }
        // For each that the server has not answered somebody waits: taken away, it would be opened again at once, in the place of another.
        let is_ready = |&link: &u32| self.links[link as usize].greetings == 0;
        let oldest = idle.iter().position(is_ready);
        let is_full = idle.len() == EXCLUSIVE_IDLE_MAX;
        if is_full && oldest.is_none() && flavour != Flavour::PLAIN {
            return Ok(None);
        }
        let link = match self.open_link(streams, server, flavour) {
            Ok(link) => link,
            Err(Fault::NoResource) if self.makes_room() => return Ok(None),
            Err(fault) => return Err(fault),
        };
        if self.links[link as usize].greetings == 0 {
            return Ok(Some(link));
        }
        // Until the server has answered, it stands where the client will look for it.
        if is_full && let Some(place) = oldest {
            let oldest = self.servers[server as usize].idle.remove(place);
            self.drop_link(streams, oldest);
        }
        self.servers[server as usize].idle.push(link);
        Ok(None)
    }

    pub(crate) fn open_link<S: Streams>(
        &mut self,
        streams: &mut S,
        server: u16,
        flavour: Flavour,
    ) -> Result<u32, Fault> {
        if let Some(fault) = self.refusal(server, flavour) {
            return Err(fault);
        }
        let link = *self.free_links.last().ok_or(Fault::NoResource)?;
        let stream = streams
            .connect(ServerId(server))
            .map_err(|error| match error {
                ConnectError::NoRoute => Fault::NoRoute,
                ConnectError::NoDescriptor => Fault::NoDescriptor,
                ConnectError::NoSlot | ConnectError::NoPort => Fault::NoResource,
            })?;
        self.free_links.pop();
        self.roles[stream.0 as usize] = Role::Link(link);
        let state = &mut self.links[link as usize];
        state.stream = stream;
        state.open = true;
        state.server = server;
        state.flavour = flavour;
        state.position = NIL;
        state.writer = NIL;
        state.greetings = 0;
        state.pin = NIL;
        state.expired = 0;
        state.scanning = false;
        state.measured = 0;
        state.measured_done = false;
        state.out_of_step = false;
        state.progress_us = self.now_us;
        let owner = &mut self.servers[server as usize];
        owner.counters.connections += 1;
        owner.counters.connects += 1;
        self.flavoured += u32::from(flavour != Flavour::PLAIN);
        self.greet(streams, link, flavour);
        Ok(link)
    }

    pub(crate) fn link_ready<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let stream = self.links[link as usize].stream;
        let server = self.links[link as usize].server;
        let status = streams.status(stream);
        match status {
            StreamStatus::Closed(reason) => {
                let fault = match reason {
                    CloseReason::Finished => Fault::Closed,
                    CloseReason::Reset => Fault::Reset,
                    CloseReason::Refused => Fault::Refused,
                    CloseReason::TimedOut => Fault::TimedOut,
                };
                return self.close_link(streams, link, fault);
            }
            StreamStatus::Connecting => return,
            StreamStatus::Open | StreamStatus::HalfClosed => {}
        }
        if self.links[link as usize].pin != NIL {
            self.rest(link);
        }
        let writer = self.links[link as usize].writer;
        if writer != NIL {
            streams.mark_ready(crate::streams::StreamId(writer));
        }
        if !self.links[link as usize].read_later {
            self.read_replies(streams, link);
        }
        let state = &self.links[link as usize];
        let same = state.open && state.stream == stream;
        if same && status == StreamStatus::HalfClosed && !self.reply_can_go_on(streams, link) {
            // What came before FIN was read; a reply that is cut off stays so.
            return self.close_link(streams, link, Fault::Closed);
        }
        self.wake_server(streams, server);
        self.call_first(streams, link);
    }

    /// Whether received bytes wait only for a client to take them, or for their turn.
    fn reply_can_go_on<S: Streams>(&self, streams: &S, link: u32) -> bool {
        let state = &self.links[link as usize];
        state.read_later || state.measured > 0 && streams.received(state.stream) > 0
    }

    /// Ends a server connection; every request on it is answered with the reason.
    pub(crate) fn close_link<S: Streams>(&mut self, streams: &mut S, link: u32, fault: Fault) {
        self.note_refusal(link, fault);
        let state = &self.links[link as usize];
        let idle = state.fifo.is_empty() && state.pin == NIL;
        let subscriber = self.subscriber_on(link);
        let server = self.detach_link(streams, link);
        let counters = &mut self.servers[server as usize].counters;
        match fault {
            Fault::Closed => counters.eof += 1,
            Fault::Garbage => counters.protocol_errors += 1,
            // We end it, by a new configuration.
            Fault::Left | Fault::Moved => {}
            _ => counters.errors += 1,
        }
        // A server may close a connection that owes nothing; that is no failure.
        if !(idle && fault == Fault::Closed) && fault != Fault::Moved {
            self.event(Event::ServerFailed {
                server: ServerId(server),
                fault,
            });
            // What one client asks of its connection must not cost the others the server.
            if fault.is_of_server() {
                self.note_failure(server);
            }
        }
        self.fail_fifo(streams, link, fault);
        self.free_links.push(link);
        self.wake_server(streams, server);
        if subscriber != NIL {
            self.lose_subscriber(streams, subscriber, server, fault);
        }
    }

    /// Takes the connection out of every table but keeps its queue.
    pub(crate) fn detach_link<S: Streams>(&mut self, streams: &mut S, link: u32) -> u16 {
        let state = &mut self.links[link as usize];
        let (server, stream, position, writer) =
            (state.server, state.stream, state.position, state.writer);
        state.open = false;
        state.writer = NIL;
        self.flavoured -= u32::from(state.flavour != Flavour::PLAIN);
        if state.pin != NIL {
            self.unlink_pin(link);
        }
        let owner = &mut self.servers[server as usize];
        owner.counters.connections -= 1;
        if position == NIL {
            owner.idle.retain(|&idle| idle != link);
        } else if let Some(place) = owner.place_of(position, link) {
            *place = NIL;
        } else {
            owner.relieved -= 1;
        }
        self.roles[stream.0 as usize] = Role::Free;
        if !matches!(streams.status(stream), StreamStatus::Closed(_)) {
            streams.abort(stream);
        }
        streams.release(stream);
        self.wake_all_of(streams, link);
        if writer != NIL {
            // The rest of the upload has nowhere to go.
            if let Mode::Upload { rest, .. } = self.clients[writer as usize].mode {
                self.clients[writer as usize].mode = Mode::Skip(rest);
                streams.mark_ready(crate::streams::StreamId(writer));
            }
        }
        server
    }

    fn fail_fifo<S: Streams>(&mut self, streams: &mut S, link: u32, fault: Fault) {
        while let Some(entry) = self.links[link as usize].fifo.pop_front() {
            self.leave_flight(link);
            self.fail_target(streams, entry.target, fault);
        }
    }

    #[inline]
    pub(crate) fn leave_flight(&mut self, link: u32) {
        self.in_flight -= 1;
        let server = self.links[link as usize].server;
        self.servers[server as usize].counters.in_flight -= 1;
    }

    /// Answers a request that will get no reply.
    pub(crate) fn fail_target<S: Streams>(
        &mut self,
        streams: &mut S,
        target: Target,
        fault: Fault,
    ) {
        match target {
            Target::Nobody | Target::Handshake(_) | Target::Own => {}
            Target::Fragment(fragment) => self.fail_fragment(streams, fragment, fault),
            Target::Pending(pending) => {
                self.note_answered(pending, self.now_us);
                let entry = &mut self.pendings[pending];
                let client = entry.client;
                if client == NIL {
                    self.give_pending(pending);
                    return;
                }
                if entry.begun || entry.push {
                    // Forgetting the client leaves this one as nobody's, and nothing else refers to it.
                    self.close_client(streams, client, crate::session::Closing::Broken);
                    self.give_pending(pending);
                    return;
                }
                let mut chain = std::mem::replace(&mut entry.chain, crate::hold::Chain::EMPTY);
                self.hold.clear(&mut chain);
                let pool = self.pool_of(client);
                pool.counters.forward_errors += 1;
                let answer = Answer::Text(pool.text(fault));
                let entry = &mut self.pendings[pending];
                entry.answer = answer;
                entry.closes = entry.several == Several::Read && fault.is_of_server();
                self.release_stalled(streams, client);
                self.flush(streams, client);
            }
        }
    }

    /// Counts a failure, and takes the server out of the distribution at the limit.
    pub(crate) fn note_failure(&mut self, server: u16) {
        let state = &mut self.servers[server as usize];
        let pool = &mut self.pools[state.pool as usize];
        state.failures += 1;
        let stays = state.leave_by_us == 0;
        let limit = state.failures >= pool.failure_limit;
        if pool.eject && stays && state.ejected_until_us == 0 && limit {
            state.failures = 0;
            state.ejected_until_us = self.now_us + pool.retry_us;
            self.next_return_us = self.next_return_us.min(state.ejected_until_us);
            pool.router.set_live(state.index, false);
            pool.counters.ejects += 1;
            self.event(Event::ServerEjected {
                server: ServerId(server),
            });
        }
    }

    /// An exclusive connection has nothing to do any more: keep it, or close it.
    pub(crate) fn park_link<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let server = &mut self.servers[self.links[link as usize].server as usize];
        let leaves = server.leave_by_us != 0;
        let idle = &mut server.idle;
        if idle.contains(&link) {
            return;
        }
        if idle.len() < EXCLUSIVE_IDLE_MAX && !leaves {
            idle.push(link);
            return;
        }
        self.retire_link(streams, link);
    }

    /// Closes a connection that owes nothing, in order.
    pub(crate) fn retire_link<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let stream = self.links[link as usize].stream;
        streams.finish(stream);
        self.links[link as usize].open = false;
        let server = self.detach_finished(streams, link);
        self.free_links.push(link);
        self.wake_server(streams, server);
    }

    fn detach_finished<S: Streams>(&mut self, streams: &mut S, link: u32) -> u16 {
        if self.links[link as usize].pin != NIL {
            self.unlink_pin(link);
        }
        let state = &self.links[link as usize];
        let (server, stream, position) = (state.server, state.stream, state.position);
        self.flavoured -= u32::from(state.flavour != Flavour::PLAIN);
        let owner = &mut self.servers[server as usize];
        owner.counters.connections -= 1;
        if position != NIL && owner.place_of(position, link).is_none() {
            owner.relieved -= 1;
        }
        self.roles[stream.0 as usize] = Role::Free;
        streams.release(stream);
        self.wake_all_of(streams, link);
        server
    }

    /// Starts measuring the reply to the request at the front of the queue.
    #[inline]
    pub(crate) fn begin_reply(&mut self, link: u32, shape: ReplyShape) {
        let state = &mut self.links[link as usize];
        state.scanner = ReplyScanner::new(shape);
        state.scanning = true;
        state.began_us = self.now_us;
        state.unseen = shape.is_changed();
        if state.unseen {
            self.expect_number(link);
        }
    }
}

/// A decimal number without allocation.
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// Its digits.
    pub fn bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// Writes a number in decimal.
pub(crate) fn itoa(mut value: usize) -> Decimal {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return Decimal { digits, start };
        }
    }
}
