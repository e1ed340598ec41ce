//! Clients that cannot go on until something else moves: who waits for what, and who is woken.
//!
//! Whoever waits for room on a shared connection does so in order. Its first is called when there may be room, keeps its place
//! until it has sent something, and calls the next. Who comes later goes behind them, even if there is room: else clients with
//! deep pipelines, which refill whatever a reply sets free, would keep the others out for ever. For the entries of tables clients wait
//! without such order; the table of requests has some that deep pipelines cannot take.

use crate::limits::{LINK_TURN_REQUESTS, WAKE_BATCH};
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::streams::{StreamId, Streams};

/// The list of clients that wait for the same thing; linked through [`Client::wait`](crate::state::Client::wait).
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitList {
    pub first: u32,
    pub last: u32,
}

impl WaitList {
    pub const EMPTY: Self = Self {
        first: NIL,
        last: NIL,
    };
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    Nothing,
    /// A connection of this server.
    Server(u16),
    /// Room on this connection, behind those who came before.
    Link(u32),
    /// An entry of a table of the worker.
    Table,
    /// The others: it has had its share of this turn of the loop.
    Turn,
}

/// A client's place in a wait list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub what: WaitFor,
    /// It is the first of those that wait for a connection, and has been told to try.
    pub called: bool,
    pub before: u32,
    pub after: u32,
}

impl Wait {
    pub const NONE: Self = Self {
        what: WaitFor::Nothing,
        called: false,
        before: NIL,
        after: NIL,
    };
}

impl Proxy {
    /// The list of those who wait for something; `pool` is theirs.
    fn wait_list(&mut self, what: WaitFor, pool: u16) -> &mut WaitList {
        match what {
            WaitFor::Server(server) => &mut self.servers[server as usize].waiting,
            WaitFor::Link(link) => &mut self.links[link as usize].waiting,
            WaitFor::Turn => &mut self.pools[pool as usize].turn_waiting,
            WaitFor::Table | WaitFor::Nothing => &mut self.table_waiting,
        }
    }

    /// Puts a client at the end of a list. It is not read until it is woken.
    pub(crate) fn wait(&mut self, client: u32, what: WaitFor) {
        if let Wait {
            what: WaitFor::Link(link),
            called: true,
            ..
        } = self.clients[client as usize].wait
        {
            self.left_link = link;
        }
        self.unwait(client);
        let state = &mut self.clients[client as usize];
        state.waiting_since_us = state.waiting_since_us.min(self.now_us);
        let pool = state.pool;
        self.waiting += usize::from(is_for_server(what));
        self.waiting_for_turn += usize::from(what == WaitFor::Turn);
        let list = self.wait_list(what, pool);
        let last = list.last;
        list.last = client;
        if last == NIL {
            list.first = client;
        } else {
            self.clients[last as usize].wait.after = client;
        }
        self.clients[client as usize].wait = Wait {
            what,
            called: false,
            before: last,
            after: NIL,
        };
    }

    /// Takes a client off its list, if it is on one.
    pub(crate) fn unwait(&mut self, client: u32) {
        let Wait {
            what,
            before,
            after,
            ..
        } = self.clients[client as usize].wait;
        if what == WaitFor::Nothing {
            return;
        }
        self.waiting -= usize::from(is_for_server(what));
        self.waiting_for_turn -= usize::from(what == WaitFor::Turn);
        let state = &mut self.clients[client as usize];
        state.wait = Wait::NONE;
        let pool = state.pool;
        if before == NIL {
            self.wait_list(what, pool).first = after;
        } else {
            self.clients[before as usize].wait.after = after;
        }
        if after == NIL {
            self.wait_list(what, pool).last = before;
        } else {
            self.clients[after as usize].wait.before = before;
        }
    }

    fn wake(&mut self, streams: &mut impl Streams, what: WaitFor, most: usize) {
        for _ in 0..most {
            let client = self.wait_list(what, 0).first;
            if client == NIL {
                return;
            }
            self.unwait(client);
            streams.mark_ready(StreamId(client));
        }
    }

    /// Wakes clients that wait for a server.
    pub(crate) fn wake_server(&mut self, streams: &mut impl Streams, server: u16) {
        self.wake(streams, WaitFor::Server(server), WAKE_BATCH);
    }

    /// Wakes clients that wait for a table entry, if there are entries. True when somebody was woken.
    pub(crate) fn wake_tables(&mut self, streams: &mut impl Streams) -> bool {
        let waiting = self.table_waiting.first != NIL;
        if waiting && self.freed {
            self.freed = false;
            self.wake(streams, WaitFor::Table, WAKE_BATCH);
            return true;
        }
        false
    }

    /// Has the client wait for room on a shared connection. One that was called and found too little keeps its place.
    pub(crate) fn wait_for_link(&mut self, client: u32, link: u32) -> bool {
        self.pool_of(client).counters.paused_servers += 1;
        let state = &mut self.clients[client as usize];
        if state.wait.what == WaitFor::Link(link) {
            state.wait.called = false;
        } else {
            // A request in parts that was called elsewhere has done its waiting there.
            state.credit = if state.wait.called {
                LINK_TURN_REQUESTS
            } else {
                0
            };
            self.wait(client, WaitFor::Link(link));
        }
        false
    }

    /// Calls the first of those that wait for room on a connection, if there may be some.
    #[inline]
    pub(crate) fn call_first(&mut self, streams: &mut impl Streams, link: u32) {
        let client = self.links[link as usize].waiting.first;
        if client != NIL && self.link_has_room(link) {
            self.clients[client as usize].wait.called = true;
            streams.mark_ready(StreamId(client));
        }
    }

    /// Whether a client may send on a connection for which clients wait: it was called, or has something left of when it was.
    #[cold]
    pub(crate) fn has_turn(&mut self, client: u32, link: u32) -> bool {
        let state = &mut self.clients[client as usize];
        if state.wait.what == WaitFor::Link(link) {
            return true;
        }
        let may = state.credit > 0;
        state.credit = state.credit.saturating_sub(1);
        may
    }

    /// A client that was called sends: the next is called.
    #[cold]
    pub(crate) fn take_turn(&mut self, streams: &mut impl Streams, client: u32) {
        self.pass_turn(streams, client);
        self.clients[client as usize].credit = LINK_TURN_REQUESTS - 1;
    }

    /// A client that was called has nothing to send, or may not: those behind it must not wait for that.
    #[cold]
    pub(crate) fn pass_turn(&mut self, streams: &mut impl Streams, client: u32) {
        if let WaitFor::Link(link) = self.clients[client as usize].wait.what {
            self.unwait(client);
            self.call_first(streams, link);
        }
    }

    /// A client that was called waits still: for something else, or it has nothing to send. Those behind it must not wait for that.
    #[cold]
    pub(crate) fn leave_place(&mut self, streams: &mut impl Streams, client: u32) {
        if self.clients[client as usize].wait.called {
            self.pass_turn(streams, client);
        }
        let left = std::mem::replace(&mut self.left_link, NIL);
        if left != NIL {
            self.call_first(streams, left);
        }
    }

    /// A connection takes no more requests: all that wait for it look for another.
    pub(crate) fn wake_all_of(&mut self, streams: &mut impl Streams, link: u32) {
        self.wake(streams, WaitFor::Link(link), usize::MAX);
    }
}

/// Room that comes without an event is looked for by the clock.
fn is_for_server(what: WaitFor) -> bool {
    matches!(what, WaitFor::Server(_) | WaitFor::Link(_))
}
