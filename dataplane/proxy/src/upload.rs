//! Requests too large to hold: passed on as they arrive, on a server connection of their own.
//!
//! On a shared connection a slow uploader would make everybody else wait behind its half request. The price of an own
//! connection is that requests could overtake each other, so the client's earlier requests are answered first and its
//! later ones are read only after the upload was answered.

use crate::fault::Fault;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::session::Closing;
use crate::slab::NIL;
use crate::state::{Answer, Entry, Mode, Target};
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{Refusal, RefusalText, Request, RequestRest, Route};

impl Proxy {
    /// Takes a request of which the front is there. False: it stays where it is for now.
    pub(crate) fn start_upload<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        rest: RequestRest,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        if self.clients[client as usize].pending > 0 {
            self.clients[client as usize].barrier = true;
            return false;
        }
        if !self.has_pending_room(client) {
            return false;
        }
        if self.must_authenticate(client, request) {
            let pool = self.pool_of(client);
            pool.counters.requests_refused += 1;
            let text = pool.no_auth();
            return self.skip_upload(streams, client, request, rest, source, text);
        }
        let pool = self.clients[client as usize].pool;
        if self.keeps_requests(client) {
            return self.start_own_upload(streams, client, request, rest, source, server);
        }
        let server = match request.route {
            Route::Key => server,
            Route::Channel => Some(crate::pinned::CHANNEL_SERVER),
            route => self.server_without_key(client, route),
        };
        let server = server
            .map(|index| self.server_id(pool, index).0)
            .ok_or(Fault::AllEjected);
        let flavour = self.clients[client as usize].flavour;
        let link = match server.and_then(|server| {
            let link = self.exclusive_link(streams, server, flavour)?;
            Ok(link.ok_or(server))
        }) {
            Ok(Ok(link)) => link,
            Ok(Err(server)) => return self.wait_for_server(client, server),
            Err(fault) => {
                let pool = self.pool_of(client);
                pool.counters.forward_errors += 1;
                let text = pool.text(fault);
                return self.skip_upload(streams, client, request, rest, source, text);
            }
        };
        let stream = self.links[link as usize].stream;
        if streams.send_room(stream) < request.bytes {
            // The configuration keeps holds smaller than server buffers; only an AUTH of unusual length gets here.
            self.park_link(streams, link);
            let text = self.pool_of(client).text(Fault::NoResource);
            return self.skip_upload(streams, client, request, rest, source, text);
        }
        let Some(pending) = self.push_pending(streams, client, request.is_silent()) else {
            self.park_link(streams, link);
            return false;
        };
        let server = self.links[link as usize].server;
        self.note(streams, client, request, source, pending, server);
        self.begin_upload(streams, client, link, request, rest, source, pending);
        true
    }

    /// Sends the front of a streamed request; the rest goes the same way as it comes.
    #[allow(clippy::too_many_arguments)] // The request, where it stands, and where it goes.
    pub(crate) fn begin_upload<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        request: &Request,
        rest: RequestRest,
        source: Source,
        pending: u32,
    ) {
        self.send_front(streams, client, link, request, source, pending);
        self.count_request(client).requests_streamed += 1;
        let entry = Entry::untimed(Target::Pending(pending), request.reply);
        self.enqueue(link, entry, request.bytes);
        self.links[link as usize].writer = client;
        let state = &mut self.clients[client as usize];
        state.mode = Mode::Upload { link, rest };
        state.barrier = true;
        state.row = self.at_hand.row;
        state.progress_us = self.now_us;
        // What has arrived is an incomplete request: it is acknowledged at once, or the client may never send the rest.
        streams.expect_reply(StreamId(client), false);
    }

    fn send_front<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        request: &Request,
        source: Source,
        pending: u32,
    ) {
        let stream = self.links[link as usize].stream;
        let cut = request
            .noreply
            .clone()
            .unwrap_or(request.bytes..request.bytes);
        let start = if request.reply.is_changed() {
            self.begin_changed(streams, client, request, source, link, pending)
        } else {
            0
        };
        match source {
            Source::Ring { .. } => {
                let id = StreamId(client);
                crate::dispatch::move_all(streams, id, stream, cut.start - start);
                streams.consume(id, cut.len());
                crate::dispatch::move_all(streams, id, stream, request.bytes - cut.end);
            }
            Source::Hold(hold) => {
                let bytes = &self.holds[hold as usize];
                streams.send(stream, &bytes[start..cut.start]);
                streams.send(stream, &bytes[cut.end..request.bytes]);
                self.give_hold(hold);
            }
        }
        self.clients[client as usize].need = 1;
    }

    pub(crate) fn skip_upload<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        rest: RequestRest,
        source: Source,
        text: &'static str,
    ) -> bool {
        self.count_request(client);
        self.clients[client as usize].row = self.at_hand.row;
        self.drop_request(streams, client, source, request.bytes);
        self.clients[client as usize].mode = Mode::Skip(rest);
        self.answer_fault(streams, client, request, text);
        true
    }

    /// Passes on what has arrived. True when the upload is complete.
    pub(crate) fn upload<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let id = StreamId(client);
        loop {
            let Mode::Upload { link, mut rest } = self.clients[client as usize].mode else {
                return true;
            };
            if rest.is_done() {
                self.finish_upload(streams, client, link);
                return true;
            }
            let stream = self.links[link as usize].stream;
            let (room, received) = (streams.send_room(stream), streams.received(id));
            if room == 0 || received == 0 {
                self.watch(client);
                return false;
            }
            let bytes = streams.peek(id);
            let limit = bytes.len().min(room);
            let mut scan = rest.measure(&bytes[..limit]);
            if scan.as_ref().is_ok_and(|s| s.bytes == 0 && !s.done) && limit < received {
                let n = streams.copy(id, &mut self.scratch).min(room);
                scan = rest.measure(&self.scratch[..n]);
            }
            match scan {
                Ok(scan) if scan.bytes == 0 && !scan.done => {
                    self.watch(client);
                    return false;
                }
                Ok(scan) => {
                    crate::dispatch::move_all(streams, id, stream, scan.bytes);
                    let server = self.links[link as usize].server;
                    self.servers[server as usize].counters.request_bytes += scan.bytes as u64;
                    self.note_streamed(link, scan.bytes);
                    self.count_rest(client, scan.bytes);
                    let state = &mut self.clients[client as usize];
                    state.mode = Mode::Upload { link, rest };
                    state.progress_us = self.now_us;
                }
                Err(refusal) => {
                    self.refuse_upload(streams, client, link, &refusal);
                    return true;
                }
            }
        }
    }

    fn finish_upload<S: Streams>(&mut self, streams: &mut S, client: u32, link: u32) {
        self.clients[client as usize].mode = Mode::Normal;
        if self.end_writing(link) {
            let pending = self.clients[client as usize].tail;
            let answered = pending != NIL && !self.pendings[pending].silent;
            streams.expect_reply(StreamId(client), answered);
        } else {
            // The server had answered before it had everything. What it makes of the bytes that came after its reply is not
            // certain, so nobody else gets this connection.
            self.retire_link(streams, link);
        }
    }

    /// The server has all of a streamed request, and from now on its time runs. False: it has answered already.
    pub(crate) fn end_writing(&mut self, link: u32) -> bool {
        self.note_sent(link);
        let state = &mut self.links[link as usize];
        state.writer = NIL;
        state.progress_us = self.now_us;
        match state.fifo.back_mut() {
            Some(entry) => {
                entry.sent_us = self.now_us;
                true
            }
            None => false,
        }
    }

    /// The rest of an upload turned out malformed: the server has a half request, so its connection ends.
    fn refuse_upload<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        refusal: &Refusal,
    ) {
        // The last that its connection was asked; a message to the client may stand behind it in the client's queue.
        let last = self.links[link as usize].fifo.back();
        let pending = match last.map(|entry| entry.target) {
            Some(Target::Pending(pending)) => pending,
            _ => NIL,
        };
        self.clients[client as usize].mode = Mode::Normal;
        self.drop_link(streams, link);
        self.pool_of(client).counters.requests_refused += 1;
        // After a broken body the next request cannot be found reliably.
        let refusal = self.worded(client, *refusal);
        self.close_for_protocol(client, &refusal);
        if pending == NIL || !matches!(self.pendings[pending].answer, Answer::Waiting) {
            return;
        }
        let entry = &mut self.pendings[pending];
        if entry.begun || !entry.chain.is_empty() {
            // The server had begun to answer: an error behind half a reply would pass for the rest of it.
            self.close_client(streams, client, Closing::Broken);
            self.give_pending(pending);
            return;
        }
        entry.silent = refusal == Refusal::SILENT;
        entry.answer = Answer::Text(match refusal.reply {
            RefusalText::Constant(text) => text,
            RefusalText::Named { .. } | RefusalText::Binary(..) => {
                self.pools[self.clients[client as usize].pool as usize].text(Fault::Unfinished)
            }
        });
        self.flush(streams, client);
    }

    /// The client is gone in the middle of its upload.
    pub(crate) fn abandon_upload<S: Streams>(&mut self, streams: &mut S, link: u32) {
        if self.links[link as usize].open {
            self.links[link as usize].writer = NIL;
            self.drop_link(streams, link);
        }
    }

    /// Ends a connection because of its client, which is no failure of the server. Nobody gets an answer from it; a divided
    /// request of which a part was on it fails.
    pub(crate) fn drop_link<S: Streams>(&mut self, streams: &mut S, link: u32) {
        self.links[link as usize].writer = NIL;
        let server = self.detach_link(streams, link);
        while let Some(entry) = self.links[link as usize].fifo.pop_front() {
            self.leave_flight(link);
            match entry.target {
                Target::Pending(pending) if self.pendings[pending].client == NIL => {
                    self.give_pending(pending);
                }
                Target::Fragment(fragment) => self.abandon_fragment(streams, fragment),
                Target::Pending(_) | Target::Nobody | Target::Handshake(_) | Target::Own => {}
            }
        }
        self.free_links.push(link);
        self.wake_server(streams, server);
    }
}
