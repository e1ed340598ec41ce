//! Another configuration, taken up while requests are under way.
//!
//! A [`Change`] is made beside the proxy, on another thread: routers, servers, pools, larger tables, everything that has to be
//! allocated. [`Proxy::reconfigure`] then exchanges it for what there is, between two bursts: numbers go on following the order of the
//! configuration, so every reference is translated once. What was replaced is left in the `Change`, which gives its memory back
//! where it was made.
//!
//! Nothing that is under way is cut off. A server that is configured no more moves behind the others: it gets no new request, answers
//! what it was asked, and its connections end as they have nothing to do. A pool that is configured no more moves there with its
//! servers, as long as it has clients: these get what they are owed and are closed. Both have a deadline, or a client that takes its
//! time in a transaction would keep a server for ever.
//!
//! - `change`: what is made in advance; `exchange`: the new in the place of the old; `translate`: the references;
//! - `connections`: what becomes of server connections; `leave`: how that which left comes to its end.

mod change;
mod connections;
mod exchange;
mod leave;
mod translate;

pub use change::{Change, ChangeError, Left};

use crate::limits::LEAVE_LOOK_US;
use crate::proxy::{Proxy, ProxyLimits};
use crate::streams::Streams;

/// In the place of a number: what it named is no more.
pub const GONE: u16 = u16::MAX;

impl Proxy {
    /// Takes up another configuration. `change` was made for the one that is in force; afterwards it has what was replaced, and tells
    /// what became of the numbers of servers and listeners.
    pub fn reconfigure<S: Streams>(&mut self, streams: &mut S, change: &mut Change, now_us: u64) {
        self.end_turn();
        self.now_us = now_us;
        let leave_by_us = now_us + change.leave_us;
        std::mem::swap(&mut self.pools, &mut change.pools);
        std::mem::swap(&mut self.servers, &mut change.servers);
        std::mem::swap(&mut self.listeners, &mut change.listeners);
        self.take_over_pools(change);
        self.take_over_servers(change);
        self.keep_pools(change, leave_by_us);
        self.keep_servers(change, leave_by_us);
        self.translate(change);
        self.take_meters(change);
        self.take_limits(change);
        self.take_ejections(change);
        self.shorten_deadlines(change);
        self.relay_connections(streams, change);
        self.dismiss_servers(streams);
        self.move_waiting(streams, change);
        self.tell_clients(streams, change, leave_by_us);
        self.next_preconnect_us = now_us;
        self.next_leave_us = now_us + LEAVE_LOOK_US;
    }

    /// What is configured no more and not at its end.
    pub fn left(&self) -> Left {
        let servers = self.servers.iter().skip(self.configured.servers);
        let pools = (self.configured.pools..self.pools.len()).filter(|&pool| self.has_life(pool));
        let single = servers.filter(|server| server.is_in_use());
        let whole = pools
            .clone()
            .map(|pool| usize::from(self.pools[pool].servers));
        Left {
            servers: single.count() + whole.sum::<usize>(),
            pools: pools.count(),
            server_places: self.servers.len() - self.configured.servers,
            pool_places: self.pools.len() - self.configured.pools,
        }
    }

    fn take_meters(&mut self, change: &mut Change) {
        if let Some(meters) = change.meters.take() {
            let before = self.change_meters(
                meters,
                &change.pools_to,
                &change.pool_from,
                &change.server_from,
            );
            change.meters = Some(before);
        }
    }

    fn take_limits(&mut self, change: &mut Change) {
        let limits = &change.limits;
        let requests = limits.requests_max as usize;
        self.pendings.set_limit(requests, &mut change.pendings);
        self.notes.grow(&mut change.notes);
        self.splits.set_limit(requests, &mut change.splits);
        self.fragments.set_limit(requests, &mut change.fragments);
        self.keys
            .set_limit(limits.split_keys_max as usize, &mut change.keys);
        if change.owners.capacity() > self.owners.capacity() {
            std::mem::swap(&mut self.owners, &mut change.owners);
        }
        if change.parts.len() > self.parts.len() {
            std::mem::swap(&mut self.parts, &mut change.parts);
            std::mem::swap(&mut self.touched, &mut change.touched);
        }
        self.own_links_max = change.own_links_max;
        self.limits = ProxyLimits {
            // Buffers of these sizes are made at start.
            clients_max: self.limits.clients_max,
            hold_bytes: self.limits.hold_bytes,
            ..ProxyLimits::new(limits)
        };
        // There may be entries for clients that wait for some.
        self.freed = true;
    }
}
