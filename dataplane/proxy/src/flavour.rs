//! Kinds of server connections. What a server was told on one before the first request of a client: the dialect, and the database.
//!
//! Shared connections are shared by clients of one flavour. The plain one is RESP2 or memcached text with the database that clients are in
//! at first, which is what nearly all clients use; its connections stay. Those of the others are opened when a client asks for them, and closed when they
//! have had nothing to do for a while, or when the worker runs out of connections.

use crate::limits::{FLAVOUR_IDLE_US, FLAVOUR_LOOK_US};
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::Pool;
use crate::streams::Streams;
use tidegate_config::{Compat, PoolConfig, Protocol};

/// The kind of a server connection, and that of the connections a client needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flavour(u16);

impl Flavour {
    /// RESP2 or memcached text, in the pool's first database.
    pub const PLAIN: Self = Self(0);

    /// memcached binary.
    pub const BINARY: Self = Self(1);

    /// RESP3 or RESP2, with a database of the pool.
    pub const fn redis(resp3: bool, database: u16, pool: &Pool) -> Self {
        Self(swapped(database, pool) << 1 | resp3 as u16)
    }

    /// The same, in the dialect.
    #[must_use]
    pub const fn in_dialect(self, resp3: bool) -> Self {
        Self(self.0 & !1 | resp3 as u16)
    }

    /// How many kinds of connections a pool has. Their indices are below that.
    pub fn count(pool: &PoolConfig) -> usize {
        match (pool.protocol, pool.compat) {
            (Protocol::Redis, Compat::None) => 2 * pool.databases as usize,
            (Protocol::Memcached, Compat::None) => 2,
            (Protocol::Redis | Protocol::Memcached, Compat::Twemproxy) => 1,
        }
    }

    /// Its place among the kinds of its pool.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether RESP3 is spoken, if the pool is one of Redis.
    #[inline]
    pub const fn is_resp3(self) -> bool {
        self.0 & 1 == 1
    }

    /// The database, as servers number it.
    pub const fn database(self, pool: &Pool) -> u16 {
        swapped(self.0 >> 1, pool)
    }
}

/// The database that clients are in at first and database 0 have each other's places, so that the plain flavour is the same in every
/// pool. The same function leads there and back.
const fn swapped(database: u16, pool: &Pool) -> u16 {
    if database == 0 {
        pool.database
    } else if database == pool.database {
        0
    } else {
        database
    }
}

impl Proxy {
    /// Closes connections that are not plain and have had nothing to do for a while.
    pub(crate) fn close_idle_flavours<S: Streams>(&mut self, streams: &mut S) {
        if std::mem::take(&mut self.crowded)
            && let Some(link) = self.longest_idle_flavour()
        {
            // A slot that is still to be finished would not be free yet. The server owes nothing, so a reset cuts nothing off.
            let server = self.detach_link(streams, link);
            self.free_links.push(link);
            self.wake_server(streams, server);
        }
        if self.flavoured == 0 || self.now_us < self.next_flavour_look_us {
            return;
        }
        self.next_flavour_look_us = self.now_us + FLAVOUR_LOOK_US;
        for link in 0..self.links.len() as u32 {
            let due_us = self.links[link as usize].progress_us + FLAVOUR_IDLE_US;
            if self.is_idle_flavour(link) && due_us <= self.now_us {
                self.unlist_link(link);
                self.retire_link(streams, link);
            }
        }
    }

    /// Whether the next look at connections that are not plain makes a place for another. If so, it is soon.
    pub(crate) fn makes_room(&mut self) -> bool {
        self.crowded = self.crowded || self.longest_idle_flavour().is_some();
        self.crowded || self.now_us < self.departed_until_us
    }

    fn longest_idle_flavour(&self) -> Option<u32> {
        if self.flavoured == 0 {
            return None;
        }
        (0..self.links.len() as u32)
            .filter(|&link| self.is_idle_flavour(link))
            .min_by_key(|&link| self.links[link as usize].progress_us)
    }

    /// Whether a connection is not plain, and is one of those that wait for requests.
    fn is_idle_flavour(&self, link: u32) -> bool {
        let state = &self.links[link as usize];
        if !state.open || state.flavour == Flavour::PLAIN || !state.fifo.is_empty() {
            return false;
        }
        let server = &self.servers[state.server as usize];
        state.writer == NIL && (state.position != NIL || server.idle.contains(&link))
    }

    /// Takes a connection that waits for requests out of the lists of its server.
    fn unlist_link(&mut self, link: u32) {
        let state = &mut self.links[link as usize];
        let server = &mut self.servers[state.server as usize];
        let position = std::mem::replace(&mut state.position, NIL);
        if position == NIL {
            server.idle.retain(|&idle| idle != link);
        } else if let Some(place) = server.place_of(position, link) {
            *place = NIL;
        } else {
            server.relieved -= 1;
        }
    }
}
