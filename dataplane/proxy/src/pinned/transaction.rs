//! MULTI, and what comes until EXEC.
//!
//! A transaction belongs to one server. WATCH chooses it, or the first key behind MULTI; until then MULTI is answered by the proxy, and
//! requests without a key are kept. From there on the server queues the requests, says so, and executes them: the proxy only
//! keeps away what belongs elsewhere or what the server would answer differently. Such a request gets an error, and EXEC then gets
//! EXECABORT, as in Redis after an error.

use crate::fault::Fault;
use crate::limits::{EARLY_BYTES_MAX, EARLY_REQUESTS_MAX};
use crate::pinned::{CHANNEL_SERVER, Purpose, Room, is_plain};
use crate::proxy::Proxy;
use crate::read::Source;
use crate::slab::NIL;
use crate::state::{Entry, Target};
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{Local, Pin, ReplyShape, Request, Route};

const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const DISCARD: &[u8] = b"*1\r\n$7\r\nDISCARD\r\n";
const UNWATCH: &[u8] = b"*1\r\n$7\r\nUNWATCH\r\n";

const QUEUED: &str = "+QUEUED\r\n";
const NOT_ONE: &str = "-CROSSSLOT Keys of a transaction must belong to one server (a common hash tag sees to that)\r\n";
const NOT_ALL_SERVERS: &str =
    "-ERR a command for all servers cannot be part of a transaction, which belongs to one\r\n";
const NOT_OF_THE_PROXY: &str =
    "-ERR a command that the proxy answers itself cannot be part of a transaction\r\n";
const NOT_SUBSCRIBING: &str = "-ERR subscriptions cannot be part of a transaction\r\n";
const TOO_EARLY: &str = "-ERR too many commands without a key at the front of a transaction\r\n";
pub(super) const LOST: &str = "-ERR the server connection of this transaction was lost\r\n";
const ABORTED: &str = "-EXECABORT Transaction discarded because of previous errors.\r\n";
const ABORTED_LOST: &str =
    "-EXECABORT Transaction discarded because its server connection was lost.\r\n";

impl Proxy {
    /// Whether the client is between MULTI and EXEC.
    pub(crate) fn in_transaction(&self, client: u32) -> bool {
        let pin = self.clients[client as usize].pin;
        pin != NIL && self.pins[pin].multi && !self.pins[pin].ending
    }

    /// A request of the client was refused before it got anywhere. In a transaction that makes EXEC fail.
    #[cold]
    pub(crate) fn spoil(&mut self, client: u32) {
        let pin = self.clients[client as usize].pin;
        self.pins[pin].aborted |= self.pins[pin].multi;
    }

    /// MULTI of a client that watches nothing.
    pub(super) fn begin_transaction<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        if !self.is_alone(client) {
            return false;
        }
        match self.take_pin(client, Purpose::Transaction) {
            Ok(pin) => self.pins[pin].multi = true,
            Err(fault) => return self.fail_request(streams, client, request, source, fault),
        }
        self.say(streams, client, request, source, "+OK\r\n")
    }

    /// Sends the request behind whose reply the connection goes back.
    pub(super) fn send_last<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        if self.own_room(streams, client, link, request.bytes) != Room::Here {
            return false;
        }
        let pin = self.clients[client as usize].pin;
        self.pins[pin].ending = true;
        self.clients[client as usize].barrier = true;
        self.send_own(streams, client, link, request, source, false)
    }

    /// Whether the server that a request wants is that of the connection. `None`: it wants none in particular.
    pub(super) fn is_there(&mut self, client: u32, link: u32, wanted: Option<usize>) -> bool {
        let Some(index) = wanted else {
            return true;
        };
        let there = Some(self.links[link as usize].server) == self.server_at(client, index);
        there || self.is_anywhere(client)
    }

    /// A request between MULTI and EXEC.
    pub(super) fn queue_request<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        match request.route {
            Route::Pinned(Pin::Exec) => return self.execute(streams, client, request, source),
            Route::Pinned(Pin::Discard) => return self.discard(streams, client, request, source),
            Route::Pinned(Pin::Multi) => {
                let text = "-ERR MULTI calls can not be nested\r\n";
                return self.say_no(streams, client, request, source, text);
            }
            Route::Pinned(Pin::Watch) => {
                let text = "-ERR WATCH inside MULTI is not allowed\r\n";
                return self.say_no(streams, client, request, source, text);
            }
            Route::Local(Local::Reset | Local::Quit) => {
                if !self.is_alone(client) {
                    return false;
                }
                self.leave(streams, client);
                return self.dispatch_route(streams, client, request, source, server);
            }
            _ => {}
        }
        let pin = self.clients[client as usize].pin;
        if self.pins[pin].aborted {
            // Redis keeps nothing either once EXEC is bound to fail.
            return self.say(streams, client, request, source, QUEUED);
        }
        let wanted = match self.wanted_server(streams, client, request, source, server) {
            Ok(_) if self.pins[pin].lost => Err(LOST),
            wanted => wanted,
        };
        match wanted {
            Ok(wanted) => self.queue_at(streams, client, request, source, wanted),
            Err(text) => self.refuse_queued(streams, client, request, source, text),
        }
    }

    fn refuse_queued<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        text: &'static str,
    ) -> bool {
        self.spoil(client);
        self.say_no(streams, client, request, source, text)
    }

    /// The server that a request in a transaction has to go to; `None`: any.
    fn wanted_server<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        server: Option<usize>,
    ) -> Result<Option<usize>, &'static str> {
        match request.route {
            Route::Key if self.has_former_keys(client) => {
                self.one_server(streams, client, request, source, NOT_ONE)
            }
            Route::Key if server.is_none() => Err(self.pool_of(client).text(Fault::AllEjected)),
            Route::Key => Ok(server),
            route if is_plain(route) => Ok(None),
            // In a transaction nothing waits, so these are commands like others.
            Route::Together | Route::Split(_) | Route::Pinned(Pin::Blocking) => {
                self.one_server(streams, client, request, source, NOT_ONE)
            }
            Route::Pinned(Pin::Unwatch) => Ok(None),
            Route::Channel => Ok(Some(CHANNEL_SERVER)),
            Route::Broadcast(_) | Route::Scan if self.pool_of(client).servers == 1 => Ok(None),
            Route::Broadcast(_) | Route::Scan => Err(NOT_ALL_SERVERS),
            Route::Pinned(_) => Err(NOT_SUBSCRIBING),
            _ => Err(NOT_OF_THE_PROXY),
        }
    }

    fn queue_at<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        wanted: Option<usize>,
    ) -> bool {
        let pin = self.clients[client as usize].pin;
        if self.pins[pin].link == NIL && wanted.is_none() && self.pool_of(client).servers > 1 {
            return self.queue_early(streams, client, request, source);
        }
        let link = match self.transaction_link(streams, client, wanted) {
            Ok(Some(link)) => link,
            Ok(None) => return false,
            Err(text) => return self.refuse_queued(streams, client, request, source, text),
        };
        let bytes = self.opening_bytes(pin) + request.bytes;
        match self.own_room(streams, client, link, bytes) {
            Room::Here => {}
            Room::Later => return false,
            Room::Never => {
                let text = self.pool_of(client).text(Fault::RequestTooLarge);
                return self.refuse_queued(streams, client, request, source, text);
            }
        }
        self.open_transaction(streams, pin, link);
        self.send_own(streams, client, link, request, source, false)
    }

    /// The connection of the client's transaction, to the server that is wanted. `Ok(None)`: the client waits for it.
    fn transaction_link<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        wanted: Option<usize>,
    ) -> Result<Option<u32>, &'static str> {
        let pin = self.clients[client as usize].pin;
        let link = self.pins[pin].link;
        if link == NIL {
            let opened = self.own_link(streams, pin, wanted.unwrap_or(0));
            return opened.map_err(|fault| self.pool_of(client).text(fault));
        }
        if self.is_there(client, link, wanted) {
            Ok(Some(link))
        } else {
            Err(NOT_ONE)
        }
    }

    /// Keeps a request without a key: the first key decides where all of them go.
    fn queue_early<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let bytes = match source {
            Source::Ring { scratch: false } => streams.peek(StreamId(client)),
            Source::Ring { scratch: true } => &self.scratch[..],
            Source::Hold(hold) => &self.holds[hold as usize],
        };
        let state = &mut self.pins[self.clients[client as usize].pin];
        let fits = state.early_requests < EARLY_REQUESTS_MAX
            && state.early.len() + request.bytes <= EARLY_BYTES_MAX;
        if !fits || !self.hold.append(&mut state.early, &bytes[..request.bytes]) {
            return self.refuse_queued(streams, client, request, source, TOO_EARLY);
        }
        state.early_requests += 1;
        self.say(streams, client, request, source, QUEUED)
    }

    /// What has to be sent in front of the next request.
    fn opening_bytes(&self, pin: u32) -> usize {
        if self.pins[pin].opened {
            0
        } else {
            MULTI.len() + self.pins[pin].early.len()
        }
    }

    /// Tells the server of the transaction, if it does not know yet.
    fn open_transaction<S: Streams>(&mut self, streams: &mut S, pin: u32, link: u32) {
        if self.pins[pin].opened {
            return;
        }
        self.pins[pin].opened = true;
        let pool = self.pins[pin].pool;
        self.pools[pool as usize].counters.transactions += 1;
        self.send_unseen(streams, link, MULTI);
        let stream = self.links[link as usize].stream;
        let state = &mut self.pins[pin];
        let requests = std::mem::take(&mut state.early_requests);
        let mut early = std::mem::replace(&mut state.early, crate::hold::Chain::EMPTY);
        while !early.is_empty() {
            let sent = streams.send(stream, self.hold.front(&early));
            assert!(sent > 0, "there was room for all of it");
            self.hold.advance(&mut early, sent);
        }
        for _ in 0..requests {
            let entry = Entry::new(Target::Own, ReplyShape::Resp);
            self.enqueue(link, entry, 0);
        }
    }

    fn execute<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let pin = self.clients[client as usize].pin;
        let state = &self.pins[pin];
        if state.aborted || state.lost {
            let text = if state.lost { ABORTED_LOST } else { ABORTED };
            return self.abort(streams, client, request, source, text);
        }
        if state.link == NIL && state.early_requests == 0 {
            self.unpin(streams, client);
            return self.say(streams, client, request, source, "*0\r\n");
        }
        let wanted = if state.link == NIL {
            self.server_without_key(client, Route::Any)
        } else {
            None
        };
        let link = match self.transaction_link(streams, client, wanted) {
            Ok(Some(link)) => link,
            Ok(None) => return false,
            Err(_) => return self.abort(streams, client, request, source, ABORTED_LOST),
        };
        let bytes = self.opening_bytes(pin) + request.bytes;
        if self.own_room(streams, client, link, bytes) != Room::Here {
            return false;
        }
        self.open_transaction(streams, pin, link);
        self.send_last(streams, client, link, request, source)
    }

    /// EXEC of a transaction that cannot be executed.
    fn abort<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        text: &'static str,
    ) -> bool {
        if !self.end_unexecuted(streams, client) {
            return false;
        }
        self.pool_of(client).counters.transactions_aborted += 1;
        self.say_no(streams, client, request, source, text)
    }

    fn discard<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let state = &self.pins[self.clients[client as usize].pin];
        let (link, opened) = (state.link, state.opened);
        if link != NIL && opened {
            return self.send_last(streams, client, link, request, source);
        }
        if !self.end_unexecuted(streams, client) {
            return false;
        }
        self.say(streams, client, request, source, "+OK\r\n")
    }

    /// Ends the transaction at its server, if that knows of it, without the client's help. False: there is no room yet.
    fn end_unexecuted<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let pin = self.clients[client as usize].pin;
        let state = &self.pins[pin];
        let (link, opened, watching) = (state.link, state.opened, state.watching);
        if link != NIL && (opened || watching) {
            let bytes = if opened { DISCARD } else { UNWATCH };
            if self.own_room(streams, client, link, bytes.len()) != Room::Here {
                return false;
            }
            self.send_unseen(streams, link, bytes);
        }
        self.pins[pin].ending = true;
        self.unpin(streams, client);
        true
    }

    /// The connection for a request of a transaction that is passed on as it arrives; the server knows of the transaction then.
    /// `Ok(None)`: the client waits for it.
    pub(crate) fn link_for_upload<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        server: Option<usize>,
    ) -> Result<Option<u32>, &'static str> {
        let pin = self.clients[client as usize].pin;
        let state = &self.pins[pin];
        let wanted = match request.route {
            // Its key is not looked up again among the former ones: the request is hardly ever so large.
            _ if self.has_former_keys(client) => Err(NOT_ONE),
            Route::Key if server.is_none() => Err(self.pool_of(client).text(Fault::AllEjected)),
            Route::Channel => Ok(Some(CHANNEL_SERVER)),
            _ if state.lost => Err(LOST),
            _ if state.aborted => Err(QUEUED),
            _ => Ok(server),
        };
        let link = wanted.and_then(|wanted| self.transaction_link(streams, client, wanted));
        let Some(link) = link.inspect_err(|_| self.spoil(client))? else {
            return Ok(None);
        };
        let bytes = self.opening_bytes(pin) + request.bytes;
        let stream = self.links[link as usize].stream;
        if streams.send_room(stream) < bytes {
            // Everything before was answered, so the room is all that there ever is.
            self.spoil(client);
            return Err(self.pool_of(client).text(Fault::RequestTooLarge));
        }
        self.open_transaction(streams, pin, link);
        Ok(Some(link))
    }
}
