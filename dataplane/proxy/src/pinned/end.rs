//! How an own connection is given back or lost, and what becomes of its client.

use crate::fault::Fault;
use crate::mutants::{self, Mutant};
use crate::pinned::Purpose;
use crate::proxy::Proxy;
use crate::session::Closing;
use crate::slab::NIL;
use crate::streams::{StreamId, StreamStatus, Streams};

impl Proxy {
    /// The server has answered everything on an own connection.
    #[cold]
    pub(crate) fn own_link_idle<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let pin = self.links[link as usize].pin;
        let state = &mut self.pins[pin];
        if state.ending {
            return self.release(streams, pin);
        }
        if state.purpose != Purpose::Subscriber {
            return;
        }
        let client = state.client;
        if state.leaving {
            return self.end_leaving(streams, client);
        }
        if state.doubtful {
            // Whether there are subscriptions is not known, and so neither is to whom the connection belongs.
            return self.close_link(streams, link, Fault::Garbage);
        }
        if std::mem::take(&mut state.asked) {
            state.subscribed = if self.links[link as usize].flavour.is_resp3() {
                state.counts != [0; 2]
            } else {
                state.answers_array
            };
            if !state.subscribed {
                self.release(streams, pin);
            }
            streams.mark_ready(StreamId(client));
        }
    }

    /// Gives the connection back, and the entry with it.
    fn release<S: Streams>(&mut self, streams: &mut S, pin: u32) {
        let state = &self.pins[pin];
        let (client, link, doubtful) = (state.client, state.link, state.doubtful);
        if client != NIL {
            self.clients[client as usize].pin = NIL;
        }
        self.count_unpinned(pin);
        self.links[link as usize].pin = NIL;
        self.give_pin(pin);
        if doubtful {
            self.retire_link(streams, link);
        } else {
            self.park_link(streams, link);
        }
    }

    /// The client has no more to do with its own connection, on which nothing is left behind but what the server has not answered.
    pub(super) fn unpin<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let pin = std::mem::replace(&mut self.clients[client as usize].pin, NIL);
        let state = &mut self.pins[pin];
        state.client = NIL;
        state.ending = true;
        let link = state.link;
        if link == NIL {
            self.give_pin(pin);
        } else if self.links[link as usize].fifo.is_empty() {
            self.release(streams, pin);
        }
    }

    pub(super) fn give_pin(&mut self, pin: u32) {
        let state = &mut self.pins[pin];
        self.resting -= usize::from(std::mem::take(&mut state.resting));
        self.hold.clear(&mut state.early);
        self.pins.give(pin);
    }

    fn count_unpinned(&mut self, pin: u32) {
        let pool = self.pins[pin].pool;
        self.pools[pool as usize].counters.pins -= 1;
        self.own_links -= 1;
    }

    /// The client is done with the state on its connection, which ends with it: RESET and QUIT. A message that is under way is
    /// passed on first; then the client is read again.
    pub(super) fn leave<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let pin = self.clients[client as usize].pin;
        let link = self.pins[pin].link;
        if link != NIL {
            let subscriber = self.pins[pin].purpose == Purpose::Subscriber;
            if subscriber && self.links[link as usize].scanning {
                self.pins[pin].leaving = true;
                return;
            }
            self.drop_link(streams, link);
        }
        if self.clients[client as usize].pin != NIL {
            self.unpin(streams, client);
        }
    }

    /// The message was passed on that a client waited for which wants to leave.
    pub(super) fn end_leaving<S: Streams>(&mut self, streams: &mut S, client: u32) {
        self.leave(streams, client);
        streams.mark_ready(StreamId(client));
    }

    /// The connection is about to leave its tables.
    #[cold]
    pub(crate) fn unlink_pin(&mut self, link: u32) {
        let pin = std::mem::replace(&mut self.links[link as usize].pin, NIL);
        self.count_unpinned(pin);
        let state = &mut self.pins[pin];
        state.link = NIL;
        state.lost = true;
        let (client, ending) = (state.client, state.ending);
        if ending || client == NIL {
            if client != NIL {
                self.clients[client as usize].pin = NIL;
            }
            self.give_pin(pin);
        }
    }

    /// The server refused a request of the proxy's own on this connection, or its time was up.
    #[cold]
    pub(crate) fn doubt(&mut self, link: u32) {
        let pin = self.links[link as usize].pin;
        if pin != NIL {
            self.pins[pin].aborted = true;
            self.pins[pin].doubtful = true;
        }
    }

    /// A request was answered with an error. If it was to end a transaction, that may go on: a server that is busy or loads its data
    /// does not look at EXEC, and some leave it at that.
    #[cold]
    pub(crate) fn doubt_end(&mut self, link: u32) {
        let pin = self.links[link as usize].pin;
        if pin != NIL && self.pins[pin].purpose == Purpose::Transaction && self.pins[pin].ending {
            self.pins[pin].doubtful = true;
        }
    }

    /// The client with subscriptions on this connection, or [`NIL`].
    #[inline]
    pub(crate) fn subscriber_on(&self, link: u32) -> u32 {
        let pin = self.links[link as usize].pin;
        if pin != NIL && self.pins[pin].purpose == Purpose::Subscriber {
            self.pins[pin].client
        } else {
            NIL
        }
    }

    /// The server of a subscriber is gone, and messages with it: the client has to know, so that it subscribes again.
    #[cold]
    pub(crate) fn lose_subscriber<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        server: u16,
        fault: Fault,
    ) {
        let pin = self.clients[client as usize].pin;
        let pool = &mut self.pools[self.servers[server as usize].pool as usize];
        if pin != NIL && !self.pins[pin].subscribed && self.pendings.room() > 0 {
            // It has no subscription to lose, and its request is not answered.
            pool.counters.forward_errors += 1;
            let text = pool.text(fault);
            self.unpin(streams, client);
            self.answer_text(streams, client, text);
            streams.mark_ready(StreamId(client));
            return;
        }
        pool.counters.clients_closed_lost += 1;
        // Without an entry it was closed already, in the middle of a message.
        if pin != NIL {
            self.clients[client as usize].closing = true;
            streams.mark_ready(StreamId(client));
        }
    }

    /// The client is gone, and its requests are nobody's.
    #[cold]
    pub(crate) fn forget_pin<S: Streams>(&mut self, streams: &mut S, pin: u32) {
        let state = &mut self.pins[pin];
        state.client = NIL;
        let link = state.link;
        if link == NIL {
            self.give_pin(pin);
        } else if mutants::has(Mutant::ReusesOwing) {
            self.release(streams, pin);
        } else if state.purpose != Purpose::Transaction || !state.ending {
            // What the server keeps for it ends with the connection: a blocked command above all, or it would take an element for nobody.
            self.drop_link(streams, link);
        }
    }

    /// Looks after a client with an own connection after its stream was ready. True: it was closed.
    #[cold]
    pub(crate) fn pinned_ready<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        half_closed: bool,
    ) -> bool {
        let waits = match self.pins[self.clients[client as usize].pin].purpose {
            Purpose::Blocking | Purpose::Subscriber => true,
            Purpose::Transaction => false,
        };
        // Redis does not wait either for a client that cannot ask any more.
        let leaves = self.draining || self.clients[client as usize].leave_by_us != 0;
        if !(waits && (half_closed || leaves)) {
            return false;
        }
        let head = self.clients[client as usize].head;
        if head != NIL && self.is_begun(head) {
            self.close_client(streams, client, Closing::Broken);
        } else {
            self.close_in_order(streams, client);
        }
        true
    }

    /// Ends the connection of a link that a server does not take up in time. True: it has ended.
    #[cold]
    pub(crate) fn give_up_connecting<S: Streams>(
        &mut self,
        streams: &mut S,
        link: u32,
        timeout_us: u64,
    ) -> bool {
        let state = &self.links[link as usize];
        let connecting = streams.status(state.stream) == StreamStatus::Connecting;
        let late = connecting && self.now_us >= state.progress_us + timeout_us;
        if late {
            self.close_link(streams, link, Fault::TimedOut);
        }
        late
    }
}
