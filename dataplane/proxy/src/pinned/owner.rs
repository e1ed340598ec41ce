//! Which server of the pool a request needs that is to go to one server alone.

use crate::fault::Fault;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::routing::Router;
use crate::streams::{StreamId, Streams};
use tidegate_protocol::Request;

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
        let pool = self.clients[client as usize].pool;
        let router = &mut self.pools[pool as usize].router;
        match source {
            Source::Ring { scratch: false } => {
                owner(router, request, streams.peek(StreamId(client)))
            }
            Source::Ring { scratch: true } => owner(router, request, &self.scratch),
            Source::Hold(hold) => owner(router, request, &self.holds[hold as usize]),
        }
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
        let pool = self.pool_of(client);
        pool.servers == 1 || pool.router.is_random()
    }
}

fn owner(router: &mut Router, request: &Request, bytes: &[u8]) -> Owner {
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
