//! Which server of the pool a request needs that is to go to one server alone.

use crate::fault::Fault;
use crate::notes::key_of;
use crate::pinned::Purpose;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::routing::{Hashed, Router};
use crate::slab::NIL;
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{Request, Route};

/// Whose the keys of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// It has no key.
    Nobody,
    /// All belong to the server at this position of the pool.
    One(usize),
    /// They belong to several servers.
    Several,
    /// No server is in the distribution.
    AllEjected,
}

impl Proxy {
    /// The server of all keys of a whole request.
    pub(super) fn owner_of_keys<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> Owner {
        let former = self.has_former_keys(client);
        let pool = &mut self.pools[self.clients[client as usize].pool as usize];
        let router = match &mut pool.former {
            Some(before) if former => &mut before.router,
            _ => &mut pool.router,
        };
        match source {
            Source::Ring { scratch: false } => {
                owner(router, request, streams.peek(StreamId(client)))
            }
            Source::Ring { scratch: true } => owner(router, request, &self.scratch),
            Source::Hold(hold) => owner(router, request, &self.holds[hold as usize]),
        }
    }

    /// The first key of a whole request that is not in a transaction, as it is routed.
    pub(super) fn first_key<S: Streams>(
        &self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> Option<Hashed> {
        let router = &self.pools[self.clients[client as usize].pool as usize].router;
        self.with_bytes(streams, client, source, |bytes| {
            // No key stands at the very front, not even an empty one.
            let has_key = request.key.end > 0;
            has_key.then(|| router.hashed(key_of(request, bytes)))
        })
    }

    /// The server of all keys of a request that is not in a transaction; `not_one` is said if there are several.
    pub(super) fn one_server<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        not_one: &'static str,
    ) -> Result<Option<usize>, &'static str> {
        match self.owner_of_keys(streams, client, request, source) {
            Owner::Nobody => Ok(None),
            Owner::One(index) => Ok(Some(index)),
            Owner::Several => Err(not_one),
            Owner::AllEjected => Err(self.pool_of(client).text(Fault::AllEjected)),
        }
    }

    /// Whether any server of the client's pool may have any key.
    pub(super) fn is_anywhere(&mut self, client: u32) -> bool {
        let former = self.has_former_keys(client);
        let pool = self.pool_of(client);
        let router = match &pool.former {
            Some(before) if former => &before.router,
            _ => &pool.router,
        };
        !router.tells_keys_apart()
    }

    /// Whether the client is in a transaction, or watches keys, and chose its server before the keys of its pool got others. What
    /// it asks is judged by what was: its server executes all of it, as if it had come a moment earlier.
    pub(super) fn has_former_keys(&self, client: u32) -> bool {
        let state = &self.clients[client as usize];
        if state.pin == NIL {
            return false;
        }
        let pin = &self.pins[state.pin];
        pin.purpose == Purpose::Transaction
            && pin.link != NIL
            && pin.routed != self.pools[state.pool as usize].routed
    }

    /// The server at a position of the client's pool; of the pool as it was, if the client goes by that. `None`: that is too long ago.
    pub(super) fn server_at(&self, client: u32, index: usize) -> Option<u16> {
        let state = &self.clients[client as usize];
        if !self.has_former_keys(client) {
            return Some(self.server_id(state.pool, index).0);
        }
        let pool = &self.pools[state.pool as usize];
        let is_last = self.pins[state.pin].routed.wrapping_add(1) == pool.routed;
        let former = pool.former.as_ref().filter(|_| is_last)?;
        former.servers.get(index).copied()
    }
}

fn owner(router: &mut Router, request: &Request, bytes: &[u8]) -> Owner {
    if request.route == Route::Key {
        let key = bytes.get(request.key.clone()).unwrap_or_default();
        return router.route(key).map_or(Owner::AllEjected, Owner::One);
    }
    let mut found = Owner::Nobody;
    let any = router.is_random();
    for key in request.keys(bytes) {
        let Some(index) = router.route(&bytes[key.key]) else {
            return Owner::AllEjected;
        };
        if any {
            return Owner::One(index);
        }
        match found {
            Owner::One(first) if first != index => return Owner::Several,
            _ => found = Owner::One(index),
        }
    }
    found
}
