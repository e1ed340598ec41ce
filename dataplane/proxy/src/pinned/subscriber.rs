//! SUBSCRIBE and its family: what subscribed clients may ask.
//!
//! All channels and patterns of a pool are served by its first server, in the order of the file, whatever becomes of the others: so
//! every proxy with the same file publishes where subscribers listen. Shard channels are keys, and belong to the server that owns them.
//!
//! A request here has as many replies as it names channels, or as there are subscriptions, and messages come in between. So each is
//! followed by a PING of the proxy's own: its answer, which nobody sees, tells that the ones before it are complete. And it tells
//! whether there are subscriptions: with RESP2 a server answers a subscriber's PING with an array. The client is read again after that.
//!
//! With RESP3 other requests of the client go where they always go, and messages come between their replies. Only what changes the
//! subscriptions waits for those replies: its confirmations are pushes, and would overtake them. And a PING follows the
//! subscriptions, as with RESP2: clients ask one to have all messages that were published before.

use crate::fault::Fault;
use crate::limits::NAME_LINE_BYTES_MAX;
use crate::pinned::{CHANNEL_SERVER, Purpose, Room, Wanted};
use crate::proxy::Proxy;
use crate::read::Source;
use crate::slab::NIL;
use crate::state::{Entry, Target};
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{Local, Pin, ReplyShape, Request, Route};

const MARK: &[u8] = b"*2\r\n$4\r\nPING\r\n$8\r\ntidegate\r\n";

const NOT_ONE: &str = "-CROSSSLOT Subscriptions of a connection must belong to one server: all shard channels to one (a common hash tag sees to that), and with other channels to the first server of the pool\r\n";

const NOT_BOTH: &str =
    "-ERR a connection with subscriptions can neither wait nor transact; use another one\r\n";
const NO_OTHER_DIALECT: &str =
    "-ERR a connection with subscriptions cannot change its protocol; unsubscribe first\r\n";

/// What a subscriber may not ask, in the words of Redis around the name of the command.
const NOT_HERE: (&str, &str) = (
    "-ERR Can't execute '",
    "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n",
);

/// The same, of a request that is too large to look up its name again.
pub(crate) const NOT_HERE_LARGE: &str = "-ERR Can't execute this command: only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n";

impl Proxy {
    /// The first such request of a client. UNSUBSCRIBE may be the first as well: the server knows best what to say to it.
    pub(super) fn subscribe<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        pin: Pin,
    ) -> bool {
        if !self.is_alone(client) {
            return false;
        }
        let index = match self.channel_server(streams, client, request, source, pin) {
            Ok(index) => index.unwrap_or(CHANNEL_SERVER),
            Err(text) => return self.say_no(streams, client, request, source, text),
        };
        let wanted = Wanted {
            purpose: Purpose::Subscriber,
            index,
            bytes: request.bytes + MARK.len(),
        };
        match self.pin_to(streams, client, request, source, wanted) {
            Ok(link) => {
                self.note_shards(client, pin);
                self.send_marked(streams, client, link, request, source)
            }
            Err(taken) => taken,
        }
    }

    /// Notes that the client subscribes to shard channels, if it does.
    fn note_shards(&mut self, client: u32, pin: Pin) {
        let state = &mut self.pins[self.clients[client as usize].pin];
        state.sharded |= pin == Pin::Ssubscribe;
    }

    /// The server of the channels; `None`: it may be any.
    fn channel_server<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        pin: Pin,
    ) -> Result<Option<usize>, &'static str> {
        match pin {
            Pin::Ssubscribe => self.one_server(streams, client, request, source, NOT_ONE),
            Pin::Subscribe | Pin::Psubscribe => Ok(Some(CHANNEL_SERVER)),
            // Whoever has the subscriptions, if there are any.
            _ => Ok(None),
        }
    }

    /// A request of a client with subscriptions.
    pub(super) fn while_subscribed<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        let link = self.pins[self.clients[client as usize].pin].link;
        if link == NIL || self.awaits_confirmation(client) {
            return false;
        }
        match request.route {
            Route::Pinned(
                pin @ (Pin::Subscribe
                | Pin::Unsubscribe
                | Pin::Psubscribe
                | Pin::Punsubscribe
                | Pin::Ssubscribe
                | Pin::Sunsubscribe),
            ) => {
                let wanted = self.channel_server(streams, client, request, source, pin);
                let text = match wanted {
                    Ok(index) if self.is_at(client, link, index) => {
                        if self.awaits_reply(client) {
                            // Until the next is sent.
                            self.clients[client as usize].full = true;
                            return false;
                        }
                        self.note_shards(client, pin);
                        return self.subscribe_more(streams, client, link, request, source);
                    }
                    Ok(_) => NOT_ONE,
                    Err(text) => text,
                };
                self.say_no(streams, client, request, source, text)
            }
            // Its server answers: what was published before comes before the answer.
            Route::Local(Local::Ping) => {
                if self.own_room(streams, client, link, request.bytes) != Room::Here {
                    return false;
                }
                self.pins[self.clients[client as usize].pin].asked = true;
                self.send_own(streams, client, link, request, source, false)
            }
            Route::Local(Local::Quit | Local::Reset) => {
                self.leave(streams, client);
                if self.clients[client as usize].pin != NIL {
                    return false;
                }
                self.dispatch_route(streams, client, request, source, None)
            }
            _ if !self.links[link as usize].flavour.is_resp3() => {
                self.refuse_here(streams, client, request, source)
            }
            Route::Pinned(_) => self.say_no(streams, client, request, source, NOT_BOTH),
            Route::Local(Local::Hello) => {
                self.say_no(streams, client, request, source, NO_OTHER_DIALECT)
            }
            _ => self.dispatch_route(streams, client, request, source, server),
        }
    }

    /// Whether the client is owed anything but messages.
    fn awaits_reply(&self, client: u32) -> bool {
        let mut next = self.clients[client as usize].head;
        while next != NIL && self.pendings[next].push {
            next = self.pendings[next].next;
        }
        next != NIL
    }

    /// Whether the connection is one to this server.
    fn is_at(&self, client: u32, link: u32, wanted: Option<usize>) -> bool {
        let pool = self.clients[client as usize].pool;
        wanted.is_none_or(|index| self.links[link as usize].server == self.server_id(pool, index).0)
    }

    fn subscribe_more<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        if !self.has_replies_so_far(client) {
            return false;
        }
        match self.own_room(streams, client, link, request.bytes + MARK.len()) {
            Room::Here => self.send_marked(streams, client, link, request, source),
            Room::Later => false,
            Room::Never => {
                let fault = Fault::RequestTooLarge;
                self.fail_request(streams, client, request, source, fault)
            }
        }
    }

    /// Whether the client asked its server for something, and has not heard all of it. Nothing behind that request is taken, not even to
    /// be refused: entries of the table would wait for confirmations which need such an entry themselves.
    pub(crate) fn awaits_confirmation(&self, client: u32) -> bool {
        let pin = self.clients[client as usize].pin;
        pin != NIL && self.pins[pin].asked
    }

    /// Whether the client's earlier requests are answered, whatever messages wait for it. Confirmations come as messages do, and would
    /// overtake those replies. If not, the request stays until the next one is sent.
    fn has_replies_so_far(&mut self, client: u32) -> bool {
        let waiting = self.pins[self.clients[client as usize].pin].push;
        let state = &mut self.clients[client as usize];
        let are_sent = state.pending == u32::from(waiting != NIL);
        state.full |= !are_sent;
        are_sent
    }

    fn send_marked<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        link: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        // It stands for the answer to the mark, of which the client gets nothing.
        let Some(pending) = self.push_pending(streams, client, false) else {
            return false;
        };
        let is_muted = std::mem::replace(&mut self.pendings[pending].silent, true);
        self.pass_on(streams, client, link, request, source);
        streams.send(self.links[link as usize].stream, MARK);
        let entry = Entry::new(Target::Pending(pending), ReplyShape::Resp);
        self.enqueue(link, entry, request.bytes + MARK.len());
        let state = &mut self.pins[self.clients[client as usize].pin];
        state.asked = true;
        state.mark = pending;
        state.muted = is_muted;
        streams.expect_reply(StreamId(client), true);
        true
    }

    fn refuse_here<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let counters = self.count_request(client);
        counters.requests_refused += 1;
        self.drop_request(streams, client, source, request.bytes);
        let mut line = [0; NAME_LINE_BYTES_MAX];
        let mut at = 0;
        for part in [NOT_HERE.0, request.name, NOT_HERE.1] {
            line[at..at + part.len()].copy_from_slice(part.as_bytes());
            at += part.len();
        }
        self.answer_bytes(streams, client, &line[..at]);
        true
    }
}
