//! What a pool may have done in one turn of the loop, so that however much one asks for, the others are looked at soon.
//!
//! ```text
//! ready ──▶ a visit, as long as nobody of the pool waits and it has something left of its share ──▶ done
//!   more than that ──▶ the list of the pool ──▶ visits, pool by pool, as long as that has something left
//! ```
//!
//! A pool that asks little never reaches its share, so it waits for one turn on the way to the server and for one on the way back. How
//! long those are is bounded by the shares. Within a pool everybody's turn comes. Where all clients are of one pool there is nobody to be
//! fair to, and nobody's share is looked at: turns are as long as what has arrived, which costs less.

use crate::limits::{
    LINK_TURN_REQUESTS, POOL_TURN_REPLIES, POOL_TURN_REQUESTS, TURN_VISITS_MAX, VISIT_REQUESTS_MAX,
};
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::Client;
use crate::streams::{StreamId, Streams};

/// What may still be done for a pool in a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Share {
    /// The turn that is meant; in another one all of it.
    turn: u64,
    requests_left: u32,
    replies_left: u32,
}

impl Share {
    /// As of this turn.
    #[inline]
    fn of(&mut self, turn: u64) -> &mut Self {
        if self.turn != turn {
            *self = Self {
                turn,
                requests_left: POOL_TURN_REQUESTS,
                replies_left: POOL_TURN_REPLIES,
            };
        }
        self
    }
}

/// Visits that are left in a turn to those who wait for more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visits {
    clients: u32,
    links: usize,
}

impl Proxy {
    /// A turn begins. Whether there is anybody to be fair to, clients of more than one pool, is the same for all of it; where there is,
    /// the shares are the limit of visits. Each server connection that waits now is looked at once.
    #[inline]
    pub(crate) fn begin_turn(&mut self) -> Visits {
        self.turn_number += 1;
        self.has_tenants = self.pools_in_use > 1;
        self.at_turn = NIL;
        Visits {
            clients: if self.has_tenants {
                u32::MAX
            } else {
                TURN_VISITS_MAX
            },
            links: self.links_waiting.len(),
        }
    }

    /// What a pool has left of this turn. Only where there are tenants does anybody use it.
    #[inline]
    fn share(&mut self, pool: usize) -> &mut Share {
        self.pools[pool].share.of(self.turn_number)
    }

    /// How many requests of a client may be taken now. None, if others of its pool wait whose turn comes first.
    #[inline]
    pub(crate) fn requests_share(&mut self, client: u32) -> u32 {
        if !self.has_tenants {
            return VISIT_REQUESTS_MAX;
        }
        let Client { pool, wait, .. } = self.clients[client as usize];
        let left = self.share(pool as usize).requests_left;
        if wait.called {
            // One that was called must not lose its place: the server has room, and it waited for that.
            return left.clamp(LINK_TURN_REQUESTS.into(), VISIT_REQUESTS_MAX);
        }
        let others_wait = self.pools[pool as usize].turn_waiting.first != NIL;
        if others_wait && self.at_turn != client {
            return 0;
        }
        left.min(VISIT_REQUESTS_MAX)
    }

    /// They were taken.
    #[inline]
    pub(crate) fn use_requests_share(&mut self, pool: u16, requests: u32) {
        if self.has_tenants {
            let share = &mut self.pools[pool as usize].share;
            share.requests_left = share.requests_left.saturating_sub(requests);
        }
    }

    /// Replies of a server connection are read: so many as are left of its pool's share.
    #[inline]
    pub(crate) fn begin_replies(&mut self, pool: u16) {
        self.replies_left = if self.has_tenants {
            self.share(pool as usize).replies_left
        } else {
            u32::MAX
        };
    }

    /// So many are left now.
    #[inline]
    pub(crate) fn end_replies(&mut self, pool: u16) {
        if self.has_tenants {
            self.pools[pool as usize].share.replies_left = self.replies_left;
        }
    }

    /// A server connection has more replies than may be read now.
    #[cold]
    pub(crate) fn read_later(&mut self, link: u32) {
        let state = &mut self.links[link as usize];
        if !state.read_later {
            state.read_later = true;
            self.links_waiting.push_back(link);
        }
    }

    /// Goes on with somebody who waits for more of this turn: first with replies, which set free what requests wait for. False: nobody
    /// is left whose pool has a share left, or that was enough.
    #[cold]
    pub(crate) fn go_on_with_more<S: Streams>(
        &mut self,
        streams: &mut S,
        visits: &mut Visits,
    ) -> bool {
        self.read_more(streams, visits) || self.take_more(streams, visits)
    }

    fn read_more<S: Streams>(&mut self, streams: &mut S, visits: &mut Visits) -> bool {
        while visits.links > 0
            && let Some(link) = self.links_waiting.pop_front()
        {
            visits.links -= 1;
            let state = &mut self.links[link as usize];
            if !state.open {
                state.read_later = false;
                continue;
            }
            let pool = self.servers[state.server as usize].pool as usize;
            if self.has_tenants && self.share(pool).replies_left == 0 {
                self.links_waiting.push_back(link);
                continue;
            }
            self.links[link as usize].read_later = false;
            self.link_ready(streams, link);
            return true;
        }
        false
    }

    fn take_more<S: Streams>(&mut self, streams: &mut S, visits: &mut Visits) -> bool {
        if visits.clients == 0 || self.waiting_for_turn == 0 {
            return false;
        }
        let pools = self.pools.len();
        for _ in 0..pools {
            self.next_pool = (self.next_pool + 1) % pools;
            let pool = self.next_pool;
            let client = self.pools[pool].turn_waiting.first;
            if client != NIL && (!self.has_tenants || self.share(pool).requests_left > 0) {
                visits.clients -= 1;
                self.at_turn = client;
                self.unwait(client);
                streams.mark_ready(StreamId(client));
                return true;
            }
        }
        false
    }
}
