//! WATCH, and what comes until MULTI.
//!
//! Requests go where they always go, one at a time: a reply to one of them must not be older than the watching.

use crate::fault::Fault;
use crate::pinned::transaction::LOST;
use crate::pinned::{Purpose, Room, Wanted};
use crate::proxy::Proxy;
use crate::read::Source;
use crate::slab::NIL;
use crate::streams::Streams;
use tidegate_protocol::{Local, Pin, Request, Route};

const NOT_ONE_WATCHED: &str =
    "-CROSSSLOT Watched keys must belong to one server (a common hash tag sees to that)\r\n";
const NOT_WHILE_WATCHING: &str =
    "-ERR not between WATCH and EXEC: the watched keys would be those of another session\r\n";
const NOT_BOTH: &str =
    "-ERR a connection that watches keys can neither wait nor subscribe; use another one\r\n";

impl Proxy {
    /// WATCH of a client that watches nothing.
    pub(super) fn begin_watching<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        if !self.is_alone(client) {
            return false;
        }
        let owner = self.one_server(streams, client, request, source, NOT_ONE_WATCHED);
        let index = match owner {
            Ok(index) => index.unwrap_or(0),
            Err(text) => return self.say_no(streams, client, request, source, text),
        };
        let wanted = Wanted {
            purpose: Purpose::Transaction,
            index,
            bytes: request.bytes,
        };
        let link = match self.pin_to(streams, client, request, source, wanted) {
            Ok(link) => link,
            Err(taken) => return taken,
        };
        let pin = self.clients[client as usize].pin;
        self.pins[pin].watching = true;
        self.clients[client as usize].barrier = true;
        self.send_own(streams, client, link, request, source, false)
    }

    /// A request between WATCH and MULTI.
    pub(super) fn while_watching<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        if !self.is_alone(client) {
            return false;
        }
        let pin = self.clients[client as usize].pin;
        match request.route {
            Route::Pinned(Pin::Multi) => {
                self.pins[pin].multi = true;
                self.say(streams, client, request, source, "+OK\r\n")
            }
            Route::Pinned(Pin::Watch) => self.watch_more(streams, client, request, source),
            Route::Pinned(Pin::Unwatch) => self.unwatch(streams, client, request, source),
            Route::Pinned(Pin::Exec) => self.say_no(
                streams,
                client,
                request,
                source,
                "-ERR EXEC without MULTI\r\n",
            ),
            Route::Pinned(Pin::Discard) => self.say_no(
                streams,
                client,
                request,
                source,
                "-ERR DISCARD without MULTI\r\n",
            ),
            Route::Pinned(_) => self.say_no(streams, client, request, source, NOT_BOTH),
            Route::Local(Local::Select | Local::Hello) => {
                self.say_no(streams, client, request, source, NOT_WHILE_WATCHING)
            }
            Route::Local(Local::Reset | Local::Quit) => {
                self.leave(streams, client);
                self.dispatch_route(streams, client, request, source, server)
            }
            _ => {
                self.clients[client as usize].barrier = true;
                self.dispatch_route(streams, client, request, source, server)
            }
        }
    }

    fn watch_more<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let pin = self.clients[client as usize].pin;
        let link = self.pins[pin].link;
        if self.pins[pin].lost {
            return self.say_no(streams, client, request, source, LOST);
        }
        let owner = self.one_server(streams, client, request, source, NOT_ONE_WATCHED);
        match owner {
            Ok(index) if self.is_there(client, link, index) => {}
            Ok(_) => return self.say_no(streams, client, request, source, NOT_ONE_WATCHED),
            Err(text) => return self.say_no(streams, client, request, source, text),
        }
        match self.own_room(streams, client, link, request.bytes) {
            Room::Here => {
                self.clients[client as usize].barrier = true;
                self.send_own(streams, client, link, request, source, false)
            }
            Room::Later => false,
            Room::Never => {
                let fault = Fault::RequestTooLarge;
                self.fail_request(streams, client, request, source, fault)
            }
        }
    }

    fn unwatch<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let pin = self.clients[client as usize].pin;
        let link = self.pins[pin].link;
        if link == NIL {
            self.unpin(streams, client);
            return self.say(streams, client, request, source, "+OK\r\n");
        }
        self.send_last(streams, client, link, request, source)
    }
}
