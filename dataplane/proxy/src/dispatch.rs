//! From a whole request to its server.

use crate::compat::Several;
use crate::fault::Fault;
use crate::limits::LINK_REQUESTS_MAX;
use crate::meter::is_error_line;
use crate::notes::Noting;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::slab::NIL;
use crate::state::{Answer, Entry, Mute, Pending, Target};
use crate::streams::{StreamId, Streams};
use crate::waits::WaitFor;
use tidegate_channel::meters::Row;
use tidegate_protocol::{Local, Request, Route};

impl Proxy {
    /// Takes one whole request. False: it stays where it is, because something it needs is not there yet.
    #[inline]
    pub(crate) fn dispatch<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        if !self.has_pending_room(client) {
            return false;
        }
        if self.must_authenticate(client, request) {
            return self.refuse_unauthenticated(streams, client, request, source);
        }
        if self.clients[client as usize].pin != NIL {
            return self.dispatch_pinned(streams, client, request, source, server);
        }
        match (request.route, server) {
            // Nearly all requests.
            (Route::Key, Some(index)) => self.send_request(streams, client, request, source, index),
            _ => self.dispatch_route(streams, client, request, source, server),
        }
    }

    /// Sends a request where it belongs that does not belong to an own connection.
    pub(crate) fn dispatch_route<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        match request.route {
            Route::Key | Route::Base64Key => match server {
                Some(index) => self.send_request(streams, client, request, source, index),
                None => self.fail_request(streams, client, request, source, Fault::AllEjected),
            },
            Route::Any | Route::First | Route::Local(Local::Version) => {
                match self.server_without_key(client, request.route) {
                    Some(index) => self.send_request(streams, client, request, source, index),
                    None => self.fail_request(streams, client, request, source, Fault::AllEjected),
                }
            }
            Route::Local(
                local @ (Local::MetaNoop
                | Local::BinaryNoop
                | Local::BinaryQuit
                | Local::SaslMechanisms
                | Local::SaslAuth
                | Local::SaslStep),
            ) => self.answer_memcached(streams, client, request, source, local),
            Route::Local(local) => self.answer_locally(streams, client, request, source, local),
            Route::Channel => {
                let index = crate::pinned::CHANNEL_SERVER;
                self.send_request(streams, client, request, source, index)
            }
            Route::Pinned(pin) => self.pin_request(streams, client, request, source, pin),
            Route::Split(kind) => self.split(streams, client, request, source, kind),
            Route::Together => self.send_together(streams, client, request, source),
            Route::Broadcast(merge) => self.broadcast(streams, client, request, source, merge),
            Route::Scan => self.scan(streams, client, request, source),
        }
    }

    #[inline]
    pub(crate) fn must_authenticate(&mut self, client: u32, request: &Request) -> bool {
        self.is_locked_out(client) && !comes_before_login(request.route)
    }

    /// Sends a whole request to one server of the client's pool.
    #[inline]
    pub(crate) fn send_request<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        index: usize,
    ) -> bool {
        let server = self.server_id(self.clients[client as usize].pool, index).0;
        let link = match self.shared_link(streams, client, server) {
            Ok(Ok(link)) => link,
            Ok(Err(what)) => return self.wait_for_shared(client, what),
            Err(fault) => return self.fail_request(streams, client, request, source, fault),
        };
        let state = &self.links[link as usize];
        let stream = state.stream;
        if state.waiting.first != NIL && !self.has_turn(client, link) {
            return self.wait_for_link(client, link);
        }
        if streams.send_room(stream) < request.bytes {
            if request.bytes > streams.send_capacity(stream) {
                return self.fail_request(streams, client, request, source, Fault::RequestTooLarge);
            }
            return self.wait_for_link(client, link);
        }
        let Some(pending) = self.push_pending(streams, client, request.is_silent()) else {
            return false;
        };
        let state = &mut self.clients[client as usize];
        state.need = 1;
        let pool = &mut self.pools[state.pool as usize];
        pool.counters.requests += 1;
        let entry = &mut self.pendings[pending];
        if pool.twemproxy {
            entry.several = pool.several(request);
        }
        match pool.noting {
            Noting::Nothing => {}
            Noting::Slow => {
                entry.noted = true;
                self.notes
                    .begin(pending, request, server, &self.at_hand.key);
            }
            Noting::Keys => self.note(streams, client, request, source, pending, server),
        }
        let is_whole = request.noreply.is_none() && !request.reply.is_changed();
        if source == (Source::Ring { scratch: false }) && is_whole {
            let moved = streams.forward(StreamId(client), stream, request.bytes);
            assert!(moved == request.bytes, "room and bytes were there");
        } else {
            self.send_parts_of(streams, client, request, source, link, pending);
        }
        let entry = Entry::new(Target::Pending(pending), request.reply);
        self.enqueue(link, entry, request.bytes);
        self.count_taken();
        true
    }

    /// Moves a request to a server connection that has room for it, without what the server is not to see.
    fn send_parts_of<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        link: u32,
        pending: u32,
    ) {
        let stream = self.links[link as usize].stream;
        let mut cuts = [0..request.bytes, 0..0];
        if let Some(noreply) = &request.noreply {
            // Replies stay in step only if every request has one, so the server is not told that nobody wants it.
            cuts = [0..noreply.start, noreply.end..request.bytes];
        }
        if request.reply.is_changed() {
            cuts[0].start = self.begin_changed(streams, client, request, source, link, pending);
        }
        match source {
            Source::Ring { .. } => {
                let id = StreamId(client);
                move_all(streams, id, stream, cuts[0].len());
                if !cuts[1].is_empty() {
                    streams.consume(id, cuts[1].start - cuts[0].end);
                    move_all(streams, id, stream, cuts[1].len());
                }
            }
            Source::Hold(hold) => {
                for cut in cuts {
                    streams.send(stream, &self.holds[hold as usize][cut]);
                }
                self.drop_request(streams, client, source, request.bytes);
            }
        }
    }

    /// Notes a request that was sent on a connection.
    #[inline]
    pub(crate) fn enqueue(&mut self, link: u32, entry: Entry, bytes: usize) {
        let state = &mut self.links[link as usize];
        let server = &mut self.servers[state.server as usize];
        server.counters.requests += 1;
        server.counters.request_bytes += bytes as u64;
        server.counters.in_flight += 1;
        self.in_flight += 1;
        self.asked += 1;
        if state.fifo.is_empty() {
            state.progress_us = self.now_us;
        }
        state.fifo.push_back(Entry {
            sent_us: entry.sent_us.max(self.now_us),
            ..entry
        });
    }

    /// Whether a connection's queue can take another request.
    #[inline]
    pub(crate) fn link_has_room(&self, link: u32) -> bool {
        let link = &self.links[link as usize];
        link.fifo.len() < LINK_REQUESTS_MAX && link.writer == NIL && link.greetings == 0
    }

    /// What [`Proxy::shared_link`] could not give.
    #[cold]
    pub(crate) fn wait_for_shared(&mut self, client: u32, what: WaitFor) -> bool {
        match what {
            WaitFor::Link(link) => self.wait_for_link(client, link),
            what => {
                self.pool_of(client).counters.paused_servers += 1;
                self.wait(client, what);
                false
            }
        }
    }

    pub(crate) fn wait_for_server(&mut self, client: u32, server: u16) -> bool {
        self.pool_of(client).counters.paused_servers += 1;
        self.wait(client, WaitFor::Server(server));
        false
    }

    /// Answers a request with the reason why no server can have it.
    pub(crate) fn fail_request<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        fault: Fault,
    ) -> bool {
        self.count_request(client).forward_errors += 1;
        let pool = self.pool_of(client);
        let text = pool.text(fault);
        self.note_refused(streams, client, request, source);
        self.drop_request(streams, client, source, request.bytes);
        self.answer_fault(streams, client, request, text);
        if self.several(client, request) == Several::Read && fault.is_of_server() {
            self.close_as_twemproxy(client);
        }
        true
    }

    /// The server for a request without a key: the first live one, or the next live one in turn, and rather one whose last request did not
    /// fail.
    #[cold]
    pub(crate) fn server_without_key(&mut self, client: u32, route: Route) -> Option<usize> {
        let pool = self.clients[client as usize].pool;
        let state = &self.pools[pool as usize];
        let (first, count) = (state.first_server, state.servers);
        let from = if route == Route::First {
            0
        } else {
            state.any + 1
        };
        let mut live = (from..from + count).map(|turn| turn % count).filter(|at| {
            let server = &self.servers[(first + at) as usize];
            server.ejected_until_us == 0
        });
        let next = live.clone().next()?;
        let live = live
            .find(|at| self.servers[(first + at) as usize].failures == 0)
            .filter(|_| route != Route::First)
            .unwrap_or(next);
        if route != Route::First {
            self.pools[pool as usize].any = live;
        }
        Some(live as usize)
    }

    /// Whether another request can be noted for the client; if not, it waits.
    #[inline]
    pub(crate) fn has_pending_room(&mut self, client: u32) -> bool {
        self.pendings.room() > self.limits.reserved_requests || self.has_reserved_room(client)
    }

    /// The last entries are for those who have none.
    #[cold]
    fn has_reserved_room(&mut self, client: u32) -> bool {
        if self.pendings.room() > 0 && self.clients[client as usize].pending == 0 {
            return true;
        }
        self.pool_of(client).counters.paused_requests += 1;
        self.wait(client, WaitFor::Table);
        false
    }

    /// Notes a request at the end of the client's queue.
    #[inline]
    pub(crate) fn push_pending<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        silent: bool,
    ) -> Option<u32> {
        let silent = silent || self.is_muted(client);
        let state = &mut self.clients[client as usize];
        let entry = new_pending(client, silent, self.now_us, self.at_hand.row);
        let pending = self.pendings.take(entry)?;
        if state.waiting_since_us != u64::MAX {
            let since_us = std::mem::replace(&mut state.waiting_since_us, u64::MAX);
            let entry = &mut self.pendings[pending];
            entry.taken_us = since_us;
            entry.queue_us = self.now_us - since_us;
            if self.clients[client as usize].wait.called {
                self.take_turn(streams, client);
            }
        }
        let state = &mut self.clients[client as usize];
        let last = state.tail;
        state.tail = pending;
        state.pending += 1;
        if last == NIL {
            state.head = pending;
            state.busy_since = self.reliefs;
        } else {
            self.pendings[last].next = pending;
        }
        // A request that nobody answers is acknowledged by no reply: its client may wait for that before it sends more.
        streams.expect_reply(StreamId(client), !silent);
        Some(pending)
    }

    /// Whether the client wants no reply to the request at hand.
    #[inline]
    fn is_muted(&mut self, client: u32) -> bool {
        let mute = &mut self.clients[client as usize].mute;
        if *mute == Mute::Next {
            *mute = Mute::No;
            return true;
        }
        *mute == Mute::All
    }

    /// Answers with a constant, in its turn. The caller has checked [`Proxy::has_pending_room`].
    pub(crate) fn answer_text<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        text: &'static str,
    ) {
        if let Some(pending) = self.push_pending(streams, client, false) {
            self.pendings[pending].answer = Answer::Text(text);
            self.flush(streams, client);
        }
    }

    /// Answers with bytes, in their turn. The caller has checked [`Proxy::has_pending_room`].
    pub(crate) fn answer_bytes<S: Streams>(&mut self, streams: &mut S, client: u32, bytes: &[u8]) {
        let Some(pending) = self.push_pending(streams, client, false) else {
            return;
        };
        let mut chain = crate::hold::Chain::EMPTY;
        self.pendings[pending].failed = is_error_line(bytes);
        self.pendings[pending].answer = if self.hold.append(&mut chain, bytes) {
            Answer::Held
        } else {
            self.no_room(client)
        };
        self.pendings[pending].chain = chain;
        self.flush(streams, client);
    }
}

/// Whether a client may ask this that has not told who it is.
#[cold]
fn comes_before_login(route: Route) -> bool {
    matches!(
        route,
        Route::Local(
            Local::Auth
                | Local::Quit
                | Local::Hello
                | Local::Reset
                | Local::BinaryQuit
                | Local::SaslMechanisms
                | Local::SaslAuth
                | Local::SaslStep
        )
    )
}

/// A request of which nothing is answered.
#[inline]
pub(crate) fn new_pending(client: u32, silent: bool, taken_us: u64, row: Row) -> Pending {
    Pending {
        client,
        taken_us,
        next: NIL,
        answer: Answer::Waiting,
        silent,
        push: false,
        begun: false,
        instead: None,
        several: Several::No,
        binary: None,
        closes: false,
        noted: false,
        watched: false,
        failed: false,
        untimed: false,
        row,
        queue_us: 0,
        sent_bytes: 0,
        answered_us: 0,
        chain: crate::hold::Chain::EMPTY,
    }
}

/// Moves exactly `bytes`, for which there is room: a ring's end can make it two steps.
#[inline]
pub(crate) fn move_all<S: Streams>(
    streams: &mut S,
    from: StreamId,
    to: StreamId,
    mut bytes: usize,
) {
    while bytes > 0 {
        let n = streams.forward(from, to, bytes);
        assert!(n > 0, "room and bytes were there");
        bytes -= n;
    }
}
