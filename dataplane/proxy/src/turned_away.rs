//! Clients for whom their pool has no place (`clients_max` of the pool): each gets the error that servers give, and FIN behind it.
//!
//! It gets that before it has said anything, as Redis and memcached do: to wait for its first byte would give it the time of everybody who
//! says nothing. A pool of memcached therefore answers in text; a client that speaks binary finds no frame in that, and ends.
//!
//! Until it closes its own end it needs its slot, and a client that leaks connections does not close them. So the proxy keeps those streams
//! until they are over, and there are few of them: one more, and the first of them is reset. Nobody keeps one for longer than the network
//! lets a closing connection stand still.

use crate::limits::{TURNED_AWAY_MAX, TURNED_AWAY_SHARE};
use crate::proxy::Proxy;
use crate::state::{Pool, Role};
use crate::streams::{StreamId, StreamStatus, Streams};
use tidegate_config::Protocol;

/// How many there may be in a worker with so many client slots.
pub(crate) fn turned_away_max(clients_max: usize) -> usize {
    (clients_max / TURNED_AWAY_SHARE).clamp(1, TURNED_AWAY_MAX)
}

impl Pool {
    /// Whether it has as many clients as it may. It may have more, since a reload that lowers the limit closes none.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.clients_max != u32::MAX && self.counters.clients >= u64::from(self.clients_max)
    }

    /// What a client is told then: the words of the servers, which client libraries know.
    fn full(&self) -> &'static str {
        match self.protocol {
            Protocol::Memcached => "ERROR Too many open connections\r\n",
            Protocol::Redis => "-ERR max number of clients reached\r\n",
        }
    }
}

impl Proxy {
    /// Tells a client that was just accepted that its pool is full.
    #[cold]
    pub(crate) fn turn_away<S: Streams>(&mut self, streams: &mut S, id: StreamId, pool: u16) {
        let pool = &mut self.pools[pool as usize];
        pool.counters.clients_refused += 1;
        let text = pool.full();
        if self.turned_away.len() >= turned_away_max(self.limits.clients_max)
            && let Some(first) = self.turned_away.pop_front()
        {
            streams.abort(StreamId(first));
            self.let_go(streams, StreamId(first));
        }
        let sent = streams.send(id, text.as_bytes());
        debug_assert_eq!(sent, text.len(), "an empty buffer has room for a line");
        streams.finish(id);
        self.roles[id.0 as usize] = Role::TurnedAway;
        self.turned_away.push_back(id.0);
        self.see_off(streams, id);
    }

    /// Something happened on such a stream.
    #[cold]
    pub(crate) fn see_off<S: Streams>(&mut self, streams: &mut S, id: StreamId) {
        // Bytes that nobody reads stand in front of its FIN, and would make a reset of ours, which may overtake the error.
        let received = streams.received(id);
        if received > 0 {
            streams.consume(id, received);
        }
        let is_closed = matches!(streams.status(id), StreamStatus::Closed(_));
        if is_closed && streams.send_queued(id) == 0 {
            self.turned_away.retain(|slot| *slot != id.0);
            self.let_go(streams, id);
        }
    }

    fn let_go<S: Streams>(&mut self, streams: &mut S, id: StreamId) {
        self.roles[id.0 as usize] = Role::Free;
        streams.release(id);
    }
}
