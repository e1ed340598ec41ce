//! How that which is configured no more comes to its end.

use super::GONE;
use super::change::Change;
use crate::fault::Fault;
use crate::limits::LEAVE_LOOK_US;
use crate::proxy::Proxy;
use crate::session::Closing;
use crate::state::Role;
use crate::streams::{StreamId, Streams};

impl Proxy {
    /// Servers that left just now get no more requests. Those of a pool that left as a whole go on until its clients are done.
    pub(super) fn dismiss_servers<S: Streams>(&mut self, streams: &mut S) {
        for server in self.configured.servers..self.servers.len() {
            if self.servers[server].leave_by_us != 0 {
                self.dismiss(streams, server as u16);
            }
        }
    }

    /// Tells the clients whose pool or listener is no more, and lets those in that did not have to say who they are when they came.
    pub(super) fn tell_clients<S: Streams>(
        &mut self,
        streams: &mut S,
        change: &Change,
        leave_by_us: u64,
    ) {
        for slot in 0..self.roles.len() {
            if self.roles[slot] != Role::Client {
                continue;
            }
            let client = &mut self.clients[slot];
            let pool = usize::from(client.pool);
            client.authenticated |= change.locks.get(pool) == Some(&true);
            if client.leave_by_us != 0 {
                continue;
            }
            let listener = change.clients_to.get(usize::from(client.listener));
            if let Some(listener) = listener.copied().filter(|&listener| listener != GONE) {
                client.listener = listener;
            } else {
                client.leave_by_us = leave_by_us;
                streams.mark_ready(StreamId(slot as u32));
            }
        }
    }

    /// Looks after what left. Called now and then as long as there is some of it.
    #[cold]
    pub(crate) fn look_after_left<S: Streams>(&mut self, streams: &mut S) {
        let mut more = self.close_late_clients(streams);
        more |= self.end_moved(streams);
        for pool in self.configured.pools..self.pools.len() {
            let state = &self.pools[pool];
            let (first, count) = (state.first_server, state.servers);
            if state.counters.clients > 0 {
                more = true;
                continue;
            }
            let leave_by_us = state.leave_by_us;
            for server in first..first + count {
                if self.servers[usize::from(server)].leave_by_us == 0 {
                    self.servers[usize::from(server)].leave_by_us = leave_by_us;
                    self.servers[usize::from(server)].ejected_until_us = 0;
                    self.dismiss(streams, server);
                }
            }
        }
        for server in self.configured.servers..self.servers.len() {
            let state = &self.servers[server];
            if state.counters.connections == 0 {
                continue;
            }
            if state.leave_by_us != 0 && state.leave_by_us <= self.now_us {
                self.end_connections(streams, server as u16);
            } else {
                more = true;
            }
        }
        self.next_leave_us = if more {
            self.now_us + LEAVE_LOOK_US
        } else {
            u64::MAX
        };
    }

    /// Closes clients whose time is up. True: there are others whose time is not.
    fn close_late_clients<S: Streams>(&mut self, streams: &mut S) -> bool {
        let mut more = false;
        for slot in 0..self.roles.len() {
            let leave_by_us = self.clients[slot].leave_by_us;
            if self.roles[slot] != Role::Client || leave_by_us == 0 {
                continue;
            }
            if leave_by_us <= self.now_us {
                self.close_client(streams, slot as u32, Closing::Broken);
            } else {
                more = true;
            }
        }
        more
    }

    /// A server had its time.
    fn end_connections<S: Streams>(&mut self, streams: &mut S, server: u16) {
        for link in 0..self.links.len() as u32 {
            let state = &self.links[link as usize];
            if state.open && state.server == server {
                self.close_link(streams, link, Fault::Left);
            }
        }
    }
}
