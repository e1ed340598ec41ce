//! The new in the place of the old: pools and servers that stay go on with what they have, the others move behind them.

use super::GONE;
use super::change::Change;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Pool, Server};

impl Pool {
    /// Goes on where `old` stood.
    fn go_on_from(&mut self, old: &mut Self, routes_as_before: bool) {
        self.counters = old.counters;
        self.turn_waiting = old.turn_waiting;
        self.count_on_from(old);
        self.any = old.any;
        self.routed = old.routed;
        if routes_as_before {
            std::mem::swap(&mut self.router, &mut old.router);
            std::mem::swap(&mut self.former, &mut old.former);
            return;
        }
        self.routed = self.routed.wrapping_add(1);
        if let Some(former) = &mut self.former {
            std::mem::swap(&mut former.router, &mut old.router);
        }
    }
}

impl Server {
    /// Goes on where `old` stood.
    fn go_on_from(&mut self, old: &mut Self) {
        self.counters = old.counters;
        self.failures = old.failures;
        self.ejected_until_us = old.ejected_until_us;
        self.waiting = old.waiting;
        self.relieved = old.relieved;
        self.relieved_at = old.relieved_at;
        self.preconnected = old.preconnected && self.connections == old.connections;
        self.named = old.named;
        std::mem::swap(&mut self.idle, &mut old.idle);
        for (new, old) in self.refused.iter_mut().zip(&old.refused) {
            *new = *old;
        }
        if self.connections == old.connections {
            // With more databases there are more places behind those that there were.
            for (new, old) in self.links.iter_mut().zip(&mut old.links) {
                *new = std::mem::replace(old, NIL);
            }
        }
    }

    /// Whether anything refers to it.
    pub(super) fn is_in_use(&self) -> bool {
        self.counters.connections > 0 || self.named > 0 || self.waiting.first != NIL
    }
}

impl Proxy {
    /// Whether anybody needs a pool that is configured no more.
    pub(super) fn has_life(&self, pool: usize) -> bool {
        let mut servers = self.servers.iter();
        self.pools[pool].counters.clients > 0
            || servers.any(|server| usize::from(server.pool) == pool && server.is_in_use())
    }

    pub(super) fn take_over_pools(&mut self, change: &mut Change) {
        change.pools_to.clear();
        change.pools_to.resize(change.pools.len(), GONE);
        for (p, &from) in change.pool_from.iter().enumerate() {
            if let Some(old) = change.pools.get_mut(usize::from(from)) {
                change.pools_to[usize::from(from)] = p as u16;
                self.pools[p].go_on_from(old, change.routes_as_before[p]);
            }
        }
    }

    pub(super) fn take_over_servers(&mut self, change: &mut Change) {
        change.servers_to.clear();
        change.servers_to.resize(change.servers.len(), GONE);
        for (s, &from) in change.server_from.iter().enumerate() {
            if let Some(old) = change.servers.get_mut(usize::from(from)) {
                change.servers_to[usize::from(from)] = s as u16;
                self.servers[s].go_on_from(old);
            }
        }
        for relaid in &mut change.relaid {
            let server = usize::from(relaid.server);
            let old = &mut change.servers[usize::from(change.server_from[server])];
            // The places of before are needed until the connections have new ones.
            std::mem::swap(&mut relaid.links, &mut old.links);
        }
    }

    /// Moves pools behind the configured ones that are configured no more and still needed. Those that left just now may be.
    pub(super) fn keep_pools(&mut self, change: &mut Change, leave_by_us: u64) {
        change.alive.clear();
        change.alive.resize(change.pools.len(), false);
        for server in change.servers.iter().filter(|server| server.is_in_use()) {
            change.alive[usize::from(server.pool)] = true;
        }
        change.blocks.clear();
        for (o, mut pool) in change.pools.drain(..).enumerate() {
            let left_now = o < change.before.pools;
            let is_needed = left_now || change.alive[o] || pool.counters.clients > 0;
            if change.pools_to[o] != GONE || !is_needed {
                change.old_pools.push(pool);
                continue;
            }
            let number = self.pools.len() as u16;
            change.pools_to[o] = number;
            change
                .blocks
                .push((pool.first_server, pool.servers, number));
            if left_now {
                pool.leave_by_us = leave_by_us;
            }
            self.pools.push(pool);
        }
    }

    /// The same of servers. Those of a pool that leaves as a whole stay together, in their order.
    pub(super) fn keep_servers(&mut self, change: &mut Change, leave_by_us: u64) {
        for (o, mut server) in change.servers.drain(..).enumerate() {
            let place = o as u16;
            let is_of = |&&(first, count, _): &&(u16, u16, u16)| {
                place >= first && usize::from(place - first) < usize::from(count)
            };
            let block = change.blocks.iter().find(is_of);
            let left_now = o < change.before.servers;
            let is_needed = block.is_some() || left_now || server.is_in_use();
            if change.servers_to[o] != GONE || !is_needed {
                change.old_servers.push(server);
                continue;
            }
            let number = self.servers.len() as u16;
            change.servers_to[o] = number;
            if let Some(&(first, _, pool)) = block {
                server.pool = pool;
                if place == first {
                    self.pools[usize::from(pool)].first_server = number;
                }
            } else {
                server.pool = change.pools_to[usize::from(server.pool)];
                server.ejected_until_us = 0;
                if left_now {
                    server.leave_by_us = leave_by_us;
                }
            }
            self.servers.push(server);
        }
        self.configured = change.configured;
    }

    /// Servers that were out of the distribution stay out, in the router that there is now.
    pub(super) fn take_ejections(&mut self, change: &Change) {
        for pool in &mut self.pools[..change.configured.pools] {
            let servers = usize::from(pool.first_server)..;
            let servers = &mut self.servers[servers][..usize::from(pool.servers)];
            if !pool.eject {
                for server in &mut *servers {
                    server.ejected_until_us = 0;
                }
            }
            pool.router
                .set_all(|index| servers[index].ejected_until_us == 0);
        }
    }
}
