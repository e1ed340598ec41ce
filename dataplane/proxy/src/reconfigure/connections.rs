//! What becomes of server connections, and of the clients that have one of their own.

use super::change::{Change, Relaid};
use crate::fault::Fault;
use crate::limits::{DEPART_US, MOVED_WAIT_US};
use crate::pinned::Purpose;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::OUTMODED;
use crate::streams::{StreamId, Streams};

impl Proxy {
    /// Whether nothing at all is under way on a connection.
    fn is_at_rest(&self, link: u32) -> bool {
        let state = &self.links[link as usize];
        state.fifo.is_empty()
            && state.writer == NIL
            && state.pin == NIL
            && !state.scanning
            && state.measured == 0
    }

    /// Finds places for the shared connections of servers that have another number of them now. A client's requests may use
    /// another connection than before, so one that owes something takes no more of them and ends when it is done; until then
    /// a client that waits for it is not served by another (`Server::relieved`).
    pub(super) fn relay_connections<S: Streams>(&mut self, streams: &mut S, change: &mut Change) {
        let mut relaid = std::mem::take(&mut change.relaid);
        for relaid in &mut relaid {
            self.relay(streams, relaid);
        }
        change.relaid = relaid;
    }

    fn relay<S: Streams>(&mut self, streams: &mut S, relaid: &mut Relaid) {
        let server = relaid.server;
        let connections = self.servers[usize::from(server)].connections as usize;
        for before in 0..relaid.links.len() {
            let link = relaid.links[before];
            if link == NIL {
                continue;
            }
            if !self.is_at_rest(link) {
                self.outmode(link);
                continue;
            }
            let flavour = before / relaid.connections_before as usize;
            let places = flavour * connections..(flavour + 1) * connections;
            let links = &mut self.servers[usize::from(server)].links;
            let mut free = places.filter(|&place| links[place] == NIL);
            if let Some(place) = free.next() {
                links[place] = link;
                self.links[link as usize].position = place as u32;
            } else {
                self.links[link as usize].position = NIL;
                self.retire_link(streams, link);
            }
        }
        self.outmode_strays(server);
    }

    /// A shared connection has no place any more.
    fn outmode(&mut self, link: u32) {
        let state = &mut self.links[link as usize];
        state.position = OUTMODED;
        let server = &mut self.servers[usize::from(state.server)];
        server.relieved += 1;
        self.reliefs += 1;
        server.relieved_at = self.reliefs;
        self.departed_until_us = self.now_us + DEPART_US;
    }

    /// Connections that had lost their place to another for a while do not get it back.
    fn outmode_strays(&mut self, server: u16) {
        for link in 0..self.links.len() as u32 {
            let state = &self.links[link as usize];
            let position = state.position;
            if state.open && state.server == server && position != NIL {
                let owner = &mut self.servers[usize::from(server)];
                if owner.place_of(position, link).is_none() {
                    self.links[link as usize].position = OUTMODED;
                }
            }
        }
    }

    /// A server gets no more requests: connections that owe nothing end, the others when they are done.
    pub(super) fn dismiss<S: Streams>(&mut self, streams: &mut S, server: u16) {
        for place in 0..self.servers[usize::from(server)].links.len() {
            let state = &mut self.servers[usize::from(server)];
            let link = std::mem::replace(&mut state.links[place], NIL);
            if link == NIL {
                continue;
            }
            if self.is_at_rest(link) {
                self.links[link as usize].position = NIL;
                self.retire_link(streams, link);
            } else {
                self.outmode(link);
            }
        }
        let mut kept = 0;
        while let Some(&link) = self.servers[usize::from(server)].idle.get(kept) {
            if self.is_at_rest(link) {
                self.servers[usize::from(server)].idle.remove(kept);
                self.retire_link(streams, link);
            } else {
                kept += 1;
            }
        }
        self.outmode_strays(server);
        self.departed_until_us = self.now_us + DEPART_US;
        // Whoever waits for it looks for another.
        while self.servers[usize::from(server)].waiting.first != NIL {
            self.wake_server(streams, server);
        }
        for link in 0..self.links.len() as u32 {
            if self.links[link as usize].open && self.links[link as usize].server == server {
                self.end_subscriber_on(streams, link);
            }
        }
    }

    /// A subscriber is closed once it has what was under way: messages would go to another server from now on, and it has to know, so
    /// that it subscribes again.
    fn end_subscriber_on<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let client = self.subscriber_on(link);
        if client == NIL || self.clients[client as usize].closing {
            return;
        }
        self.clients[client as usize].closing = true;
        self.pool_of(client).counters.clients_closed_lost += 1;
        streams.mark_ready(StreamId(client));
    }

    /// Closes subscribers whose channels have another server now, and gives commands that wait for keys which have another one a time.
    pub(super) fn move_waiting<S: Streams>(&mut self, streams: &mut S, change: &Change) {
        for link in 0..self.links.len() as u32 {
            let state = &self.links[link as usize];
            if !state.open || state.pin == NIL {
                continue;
            }
            let server = state.server;
            let pin = &mut self.pins[state.pin];
            if change.routes_as_before.get(usize::from(pin.pool)) != Some(&false) {
                continue;
            }
            let pool = &mut self.pools[usize::from(pin.pool)];
            match (pin.purpose, pin.key) {
                (Purpose::Subscriber, _) if pin.sharded || server != pool.first_server => {
                    self.end_subscriber_on(streams, link);
                }
                (Purpose::Blocking, Some(key)) => {
                    let place = usize::from(server.wrapping_sub(pool.first_server));
                    if pool.router.owns(place, key) {
                        pin.moved_by_us = 0;
                    } else if pin.moved_by_us == 0 {
                        pin.moved_by_us = self.now_us + MOVED_WAIT_US;
                    }
                }
                _ => {}
            }
        }
    }

    /// Tells clients that wait for keys which have another server by now. True: there are others that still have time.
    pub(super) fn end_moved<S: Streams>(&mut self, streams: &mut S) -> bool {
        let mut more = false;
        for link in 0..self.links.len() as u32 {
            let state = &self.links[link as usize];
            if !state.open || state.pin == NIL {
                continue;
            }
            let moved_by_us = self.pins[state.pin].moved_by_us;
            if moved_by_us == 0 {
                continue;
            }
            if moved_by_us <= self.now_us {
                self.close_link(streams, link, Fault::Moved);
            } else {
                more = true;
            }
        }
        more
    }
}
