//! What becomes of server connections, and of the clients that have one of their own.

use super::change::{Change, Relaid};
use crate::limits::DEPART_US;
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

    /// Closes subscribers whose channels have another server now.
    pub(super) fn move_subscribers<S: Streams>(&mut self, streams: &mut S, change: &Change) {
        for link in 0..self.links.len() as u32 {
            let state = &self.links[link as usize];
            if !state.open || state.pin == NIL {
                continue;
            }
            let pin = &self.pins[state.pin];
            let pool = usize::from(pin.pool);
            let moved = change.routes_as_before.get(pool) == Some(&false);
            let is_first = state.server == self.pools[pool].first_server;
            if moved && pin.purpose == Purpose::Subscriber && (pin.sharded || !is_first) {
                self.end_subscriber_on(streams, link);
            }
        }
    }
}
