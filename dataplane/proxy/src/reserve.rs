//! Room for a request in several parts: all of it, or the client waits.

use crate::fault::Fault;
use crate::limits::LINK_REQUESTS_MAX;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::split::Obstacle;
use crate::streams::Streams;
use crate::waits::WaitFor;
use tidegate_protocol::{Request, Split as SplitKind};

/// Most bytes of a part besides its keys and the prefix: `*1048577`, CR LF twice.
const PART_FRAME_BYTES: usize = 16;

impl Proxy {
    /// Makes sure that every part can be sent now, so that a request is never sent in half.
    pub(crate) fn reserve_parts<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        touched: &[u16],
        kind: SplitKind,
    ) -> Result<(), Obstacle> {
        let keys: u32 = touched
            .iter()
            .map(|&index| self.parts[index as usize].keys)
            .sum();
        let pool = self.clients[client as usize].pool;
        if keys as usize > self.keys.limit() || touched.len() > self.fragments.limit() {
            return Err(Obstacle::Fault(Fault::RequestTooLarge));
        }
        if self.keys.room() < keys as usize
            || self.fragments.room() < touched.len()
            || self.splits.room() == 0
        {
            self.pools[pool as usize].counters.paused_requests += 1;
            self.wait(client, WaitFor::Table);
            return Err(Obstacle::Wait);
        }
        for &index in touched {
            let bytes = self.parts[index as usize].bytes + request.prefix.len() + PART_FRAME_BYTES;
            let server = self.server_id(pool, index as usize).0;
            match self.reserve_link(streams, client, server, bytes) {
                Ok(link) => self.parts[index as usize].link = link,
                Err(Obstacle::Fault(fault)) if fault.is_of_server() && self.misses(pool, kind) => {
                    self.parts[index as usize].lost = Some(fault);
                }
                Err(obstacle) => return Err(obstacle),
            }
        }
        Ok(())
    }

    /// A connection to a server that can take a request of `bytes` bytes now.
    pub(crate) fn reserve_link<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        server: u16,
        bytes: usize,
    ) -> Result<u32, Obstacle> {
        let link = match self.shared_link(streams, client, server) {
            Ok(Ok(link)) => link,
            Ok(Err(what)) => {
                self.wait_for_shared(client, what);
                return Err(Obstacle::Wait);
            }
            Err(fault) => return Err(Obstacle::Fault(fault)),
        };
        let state = &self.links[link as usize];
        let stream = state.stream;
        if bytes > streams.send_capacity(stream) {
            return Err(Obstacle::Fault(Fault::RequestTooLarge));
        }
        if state.waiting.first != NIL && !self.has_turn(client, link) {
            self.wait_for_link(client, link);
            return Err(Obstacle::Wait);
        }
        if bytes > streams.send_room(stream)
            || self.links[link as usize].fifo.len() >= LINK_REQUESTS_MAX
        {
            self.wait_for_link(client, link);
            return Err(Obstacle::Wait);
        }
        Ok(link)
    }

    /// Makes sure that there are table entries for a request in so many parts.
    pub(crate) fn reserve_tables(&mut self, client: u32, parts: usize) -> Result<(), Obstacle> {
        if parts > self.fragments.limit() {
            return Err(Obstacle::Fault(Fault::NoEntries));
        }
        if self.splits.room() == 0 || self.fragments.room() < parts {
            self.pool_of(client).counters.paused_requests += 1;
            self.wait(client, WaitFor::Table);
            return Err(Obstacle::Wait);
        }
        Ok(())
    }

    /// Whether the keys of a failed server are misses.
    pub(crate) fn misses(&self, pool: u16, kind: SplitKind) -> bool {
        self.pools[pool as usize].misses
            && matches!(kind, SplitKind::Mget | SplitKind::MemcachedGet)
    }
}
