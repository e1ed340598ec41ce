//! What a pool may have done in one turn of the loop, so that however much one asks for, the others are looked at soon.
//!
//! ```text
//! ready ──▶ a share of the pool's requests and replies ──▶ done
//!   more than that, or than a visit ──▶ a list ──▶ a few visits in each turn
//! ```
//!
//! A pool that asks little never reaches its share, so it waits for one turn on the way to the server and for one on the way back. How
//! long those are is bounded by the shares. Where all clients are of one pool there is nobody to be fair to: turns are as long as what has
//! arrived, which costs less.

use crate::limits::{
    POOL_TURN_REPLIES, POOL_TURN_REQUESTS, TURN_REPLY_VISITS, TURN_VISITS_MAX, VISIT_REQUESTS_MAX,
};
use crate::proxy::Proxy;
use crate::streams::Streams;

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

/// Visits that are left in a turn to those who have had their share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visits {
    clients: u32,
    links: u32,
}

impl Proxy {
    /// Those of a turn.
    #[inline]
    pub(crate) fn visits(&self) -> Visits {
        Visits {
            clients: if self.has_tenants() {
                POOL_TURN_REQUESTS / VISIT_REQUESTS_MAX
            } else {
                TURN_VISITS_MAX
            },
            links: TURN_REPLY_VISITS,
        }
    }

    /// Whether there is anybody to be fair to: clients of more than one pool.
    #[inline]
    fn has_tenants(&self) -> bool {
        self.pools_in_use > 1
    }

    /// How many requests of a client may be taken now.
    #[inline]
    pub(crate) fn requests_share(&mut self, pool: u16) -> u32 {
        if !self.has_tenants() {
            return VISIT_REQUESTS_MAX;
        }
        let share = self.pools[pool as usize].share.of(self.turn_number);
        share.requests_left.min(VISIT_REQUESTS_MAX)
    }

    /// They were taken.
    #[inline]
    pub(crate) fn use_requests_share(&mut self, pool: u16, requests: u32) {
        let share = &mut self.pools[pool as usize].share;
        share.requests_left = share.requests_left.saturating_sub(requests);
    }

    /// Replies of a server connection are read: so many as are left of its pool's share.
    #[inline]
    pub(crate) fn begin_replies(&mut self, pool: u16) {
        if !self.has_tenants() {
            self.replies_left = u32::MAX;
            return;
        }
        let share = self.pools[pool as usize].share.of(self.turn_number);
        self.replies_left = share.replies_left;
    }

    /// So many are left now.
    #[inline]
    pub(crate) fn end_replies(&mut self, pool: u16) {
        self.pools[pool as usize].share.replies_left = self.replies_left;
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

    /// Goes on with somebody who has had a share of this turn: first with replies, which set free what requests wait for. False: nobody
    /// is left, or that was enough.
    #[cold]
    pub(crate) fn go_on_with_more<S: Streams>(
        &mut self,
        streams: &mut S,
        visits: &mut Visits,
    ) -> bool {
        if visits.links > 0
            && let Some(link) = self.links_waiting.pop_front()
        {
            visits.links -= 1;
            let state = &mut self.links[link as usize];
            state.read_later = false;
            if state.open {
                let pool = self.servers[state.server as usize].pool;
                let share = self.pools[pool as usize].share.of(self.turn_number);
                share.replies_left = POOL_TURN_REPLIES;
                self.link_ready(streams, link);
            }
            return true;
        }
        if visits.clients == 0 {
            return false;
        }
        let client = self.turn_waiting.first;
        if client == crate::slab::NIL {
            return false;
        }
        visits.clients -= 1;
        let turn = self.turn_number;
        let share = self.pool_of(client).share.of(turn);
        share.requests_left = share.requests_left.max(VISIT_REQUESTS_MAX);
        self.wake_next(streams);
        true
    }
}
