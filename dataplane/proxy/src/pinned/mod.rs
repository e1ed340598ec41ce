//! Clients with a server connection of their own: transactions, commands that wait, subscriptions.
//!
//! What such a client tells its server is state of the connection, so nobody else may be on it. It is an exclusive connection
//! ([`Proxy::exclusive_link`]) that is bound to the client by an entry of the table `pins`, and goes back to the idle ones when the
//! server has answered the request that ends the state: EXEC, DISCARD, UNWATCH, the command that waited, the last UNSUBSCRIBE. Wherever
//! that is in doubt it is closed instead.
//!
//! - `watch` and `transaction`: WATCH, MULTI and what follows.
//! - `blocking`: commands that the server answers when it likes.
//! - `subscriber`: what subscribed clients may ask; `pushes`: what their servers send unasked;
//!   `confirmation`: how to tell.
//! - `owner`: which server a request needs; `send`: how it gets there.
//! - `end`: how a connection is given back, or lost, and what becomes of its client.
//!
//! A request on another connection must neither overtake nor be overtaken, so the first request on an own connection waits until the
//! client's earlier ones are answered, and those behind the last one wait for its reply (`Client::barrier`).

mod blocking;
mod confirmation;
mod end;
mod owner;
mod pushes;
mod send;
mod subscriber;
mod transaction;
mod watch;

use crate::fault::Fault;
use crate::hold::Chain;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::routing::Hashed;
use crate::slab::NIL;
use crate::streams::Streams;
use tidegate_protocol::{Pin, Request, RequestRest, Route};

/// Position in its pool of the server that serves all channels and patterns.
pub(crate) const CHANNEL_SERVER: usize = 0;

/// What a client does with its own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// From WATCH or MULTI to EXEC, DISCARD or UNWATCH.
    Transaction,
    /// One command, which may wait.
    Blocking,
    /// From SUBSCRIBE on, for as long as there are subscriptions.
    Subscriber,
}

/// A client and its own connection.
#[derive(Debug)]
pub(crate) struct Pinned {
    pub pool: u16,
    /// [`NIL`]: the client has no more to do with it; the server has not answered everything.
    pub client: u32,
    /// [`NIL`]: no server is chosen, or the connection is lost.
    pub link: u32,
    pub purpose: Purpose,
    /// The request that ends the state was sent: the connection goes back once everything is answered.
    pub ending: bool,
    /// The connection was lost.
    pub lost: bool,
    /// The server refused something that it should not have: nobody else gets the connection.
    pub doubtful: bool,
    /// The value of `Pool::routed` when the server was chosen.
    pub routed: u32,
    /// There may be subscriptions to shard channels, which belong to servers as keys do.
    pub sharded: bool,
    /// Keys are watched.
    pub watching: bool,
    /// The client said MULTI, and was told OK.
    pub multi: bool,
    /// The server was told MULTI as well.
    pub opened: bool,
    /// A request of the transaction was refused: EXEC will be.
    pub aborted: bool,
    /// Requests of the transaction without a key, as long as no server is chosen; they are counted in `early_requests`.
    pub early: Chain,
    pub early_requests: u32,
    /// The server was asked something that is not a message, and has not answered.
    pub asked: bool,
    /// What stands for the answer to the mark that was sent last; [`NIL`]: it has come.
    pub mark: u32,
    /// The client does not want the error that may come in front of it.
    pub muted: bool,
    /// There are subscriptions, as far as we were told.
    pub subscribed: bool,
    /// RESP2: the answer that comes is an array, so there still are.
    pub answers_array: bool,
    /// RESP3: subscriptions that the last confirmations left, those to shard channels apart.
    pub counts: [u64; 2],
    /// The client goes away from its subscriptions: the connection ends behind the message that is under way.
    pub leaving: bool,
    /// A message could not be noted: the table of requests was full.
    pub hungry: bool,
    /// The entry in which messages wait for the client.
    pub push: u32,
    /// Its request may rest for hours, and is counted among those.
    pub resting: bool,
    /// The first key of the command that waits.
    pub key: Option<Hashed>,
    /// Its keys have another server: until when it may wait for what is on its way to this one. 0: they have not.
    pub moved_by_us: u64,
}

/// What an own connection is wanted for: by whom, to which server of the pool, and with room for how many bytes.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    purpose: Purpose,
    index: usize,
    bytes: usize,
}

/// Whether a request can be sent on an own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Here,
    /// The client stands in the list of the server.
    Later,
    Never,
}

impl Proxy {
    /// A request that needs, opens or ends an own connection, of a client that has none.
    #[cold]
    pub(crate) fn pin_request<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        pin: Pin,
    ) -> bool {
        let text = match pin {
            Pin::Multi => return self.begin_transaction(streams, client, request, source),
            Pin::Watch => return self.begin_watching(streams, client, request, source),
            Pin::Blocking => return self.block(streams, client, request, source),
            Pin::Exec => "-ERR EXEC without MULTI\r\n",
            Pin::Discard => "-ERR DISCARD without MULTI\r\n",
            Pin::Unwatch => {
                return self.say(streams, client, request, source, "+OK\r\n");
            }
            Pin::Subscribe
            | Pin::Unsubscribe
            | Pin::Psubscribe
            | Pin::Punsubscribe
            | Pin::Ssubscribe
            | Pin::Sunsubscribe => return self.subscribe(streams, client, request, source, pin),
        };
        self.say_no(streams, client, request, source, text)
    }

    /// Any request of a client that has an own connection, or is about to.
    #[cold]
    pub(crate) fn dispatch_pinned<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        let pin = self.clients[client as usize].pin;
        let state = &self.pins[pin];
        if state.ending {
            // The client was told of the end, perhaps of a timeout. Its requests have nothing more to do with the connection.
            self.unpin(streams, client);
            return self.dispatch_route(streams, client, request, source, server);
        }
        match state.purpose {
            Purpose::Transaction if state.multi => {
                self.queue_request(streams, client, request, source, server)
            }
            Purpose::Transaction => self.while_watching(streams, client, request, source, server),
            Purpose::Subscriber => self.while_subscribed(streams, client, request, source, server),
            // Its client is not read until it is over.
            Purpose::Blocking => false,
        }
    }

    /// Whether requests of the client go nowhere but to its own connection.
    pub(crate) fn keeps_requests(&self, client: u32) -> bool {
        let pin = self.clients[client as usize].pin;
        if pin == NIL || self.pins[pin].ending {
            return false;
        }
        match self.pins[pin].purpose {
            Purpose::Transaction => self.pins[pin].multi,
            Purpose::Subscriber => !self.clients[client as usize].flavour.is_resp3(),
            Purpose::Blocking => true,
        }
    }

    /// Takes a request of such a client that is too large to hold. Everything before it was answered.
    #[cold]
    pub(crate) fn start_own_upload<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        rest: RequestRest,
        source: Source,
        server: Option<usize>,
    ) -> bool {
        let link = if self.in_transaction(client) {
            self.link_for_upload(streams, client, request, server)
        } else {
            self.pool_of(client).counters.requests_refused += 1;
            Err(subscriber::NOT_HERE_LARGE)
        };
        let link = match link {
            Ok(Some(link)) => link,
            Ok(None) => return false,
            Err(text) => return self.skip_upload(streams, client, request, rest, source, text),
        };
        let Some(pending) = self.push_pending(streams, client, false) else {
            return false;
        };
        let server = self.links[link as usize].server;
        self.note(streams, client, request, source, pending, server);
        self.begin_upload(streams, client, link, request, rest, source, pending);
        true
    }

    /// Whether nothing else of the client is under way. If not, the request stays until then.
    fn is_alone(&mut self, client: u32) -> bool {
        let state = &mut self.clients[client as usize];
        state.barrier |= state.pending > 0;
        state.pending == 0
    }

    /// Notes that the client has, or is about to have, an own connection.
    fn take_pin(&mut self, client: u32, purpose: Purpose) -> Result<u32, Fault> {
        let pool = self.clients[client as usize].pool;
        let pinned = Pinned::new(pool, client, purpose);
        // There are as many entries as streams.
        let pin = self.pins.take(pinned).ok_or(Fault::NoResource)?;
        self.clients[client as usize].pin = pin;
        Ok(pin)
    }

    /// Binds a connection to the client. `Ok(None)`: it has to wait for the server.
    fn own_link<S: Streams>(
        &mut self,
        streams: &mut S,
        pin: u32,
        index: usize,
    ) -> Result<Option<u32>, Fault> {
        let pool = self.pins[pin].pool;
        let state = &mut self.pools[pool as usize];
        let refused = if state.counters.pins >= u64::from(state.own_connections_max) {
            Err(Fault::NoOwnConnection)
        } else if self.own_links == self.own_links_max {
            Err(Fault::NoResource)
        } else {
            Ok(())
        };
        if let Err(fault) = refused {
            state.counters.pins_refused += 1;
            return Err(fault);
        }
        let server = self.server_id(pool, index).0;
        let flavour = self.clients[self.pins[pin].client as usize].flavour;
        let Some(link) = self.exclusive_link(streams, server, flavour)? else {
            self.wait_for_server(self.pins[pin].client, server);
            return Ok(None);
        };
        self.links[link as usize].pin = pin;
        self.pins[pin].link = link;
        self.pins[pin].routed = self.pools[pool as usize].routed;
        self.pools[pool as usize].counters.pins += 1;
        self.own_links += 1;
        Ok(Some(link))
    }

    /// Takes an own connection with room for the request, for a client that has none. Else what [`Proxy::dispatch`] is to return.
    fn pin_to<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        wanted: Wanted,
    ) -> Result<u32, bool> {
        let Wanted {
            purpose,
            index,
            bytes,
        } = wanted;
        let linked = self
            .take_pin(client, purpose)
            .and_then(|pin| self.own_link(streams, pin, index));
        let fault = match linked {
            Ok(Some(link)) => match self.own_room(streams, client, link, bytes) {
                Room::Here => return Ok(link),
                Room::Later => None,
                Room::Never => Some(Fault::RequestTooLarge),
            },
            Ok(None) => None,
            Err(fault) => Some(fault),
        };
        if self.clients[client as usize].pin != NIL {
            self.unpin(streams, client);
        }
        Err(fault.is_some_and(|fault| self.fail_request(streams, client, request, source, fault)))
    }
}

impl Pinned {
    fn new(pool: u16, client: u32, purpose: Purpose) -> Self {
        Self {
            pool,
            client,
            link: NIL,
            purpose,
            ending: false,
            lost: false,
            doubtful: false,
            routed: 0,
            sharded: false,
            watching: false,
            multi: false,
            opened: false,
            aborted: false,
            early: Chain::EMPTY,
            early_requests: 0,
            asked: false,
            mark: NIL,
            muted: false,
            subscribed: false,
            answers_array: false,
            counts: [0; 2],
            leaving: false,
            hungry: false,
            push: NIL,
            resting: false,
            key: None,
            moved_by_us: 0,
        }
    }
}

/// Whether a request is one that a server can answer in the proxy's place.
fn is_plain(route: Route) -> bool {
    use tidegate_protocol::Local;
    matches!(
        route,
        Route::Any | Route::First | Route::Local(Local::Ping | Local::Echo | Local::Time)
    )
}
