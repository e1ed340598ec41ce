//! What is taken of the worker's tables: for the debugging of leaks, and for tests that look for them.

use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::waits::WaitList;

/// Entries in use. With no client connected and no reply owed, everything but `links` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TablesInUse {
    /// Requests under way, also those whose client is gone.
    pub requests: usize,
    /// Divided requests.
    pub splits: usize,
    /// Their parts.
    pub fragments: usize,
    /// Their keys.
    pub keys: usize,
    /// Bytes of chunks with held replies.
    pub reply_hold_bytes: usize,
    /// Buffers with requests that are held as a whole.
    pub request_holds: usize,
    /// Places in the queues of server connections.
    pub queued: usize,
    /// Clients that said something about themselves.
    pub identities: usize,
    /// Clients with a server connection of their own, and such connections on which something is owed to nobody.
    pub pins: usize,
    /// Clients in wait lists.
    pub waiting: usize,
    /// Clients that were told that their pool is full, and whose connections are not over.
    pub turned_away: usize,
    /// Server connections that a client which does not read has taken out of shared use.
    pub links_relieved: usize,
    /// Server connections.
    pub links: usize,
}

impl TablesInUse {
    /// Whether nothing but idle server connections is left.
    pub fn is_idle(&self) -> bool {
        *self
            == Self {
                links: self.links,
                ..Self::default()
            }
    }
}

impl Proxy {
    /// Counts the entries in use in every table. It walks lists: not for each turn of a loop.
    pub fn tables_in_use(&self) -> TablesInUse {
        let servers = self.servers.iter();
        let lists = servers.clone().map(|server| &server.waiting);
        let lists = lists.chain(self.links.iter().map(|link| &link.waiting));
        let for_servers: usize = lists.map(|list| self.count_waiting(*list)).sum();
        debug_assert_eq!(for_servers, self.waiting, "all that wait are in lists");
        let lists = self.pools.iter().map(|pool| pool.turn_waiting);
        let for_turns: usize = lists.map(|list| self.count_waiting(list)).sum();
        debug_assert_eq!(
            for_turns, self.waiting_for_turn,
            "all that wait are in lists"
        );
        TablesInUse {
            requests: self.pendings.in_use(),
            splits: self.splits.in_use(),
            fragments: self.fragments.in_use(),
            keys: self.keys.in_use(),
            reply_hold_bytes: self.hold.bytes_in_use(),
            request_holds: self.holds.len() - self.free_holds.len(),
            queued: self.links.iter().map(|link| link.fifo.len()).sum(),
            identities: self.identities.in_use(),
            pins: self.pins.in_use(),
            waiting: for_servers + self.count_waiting(self.table_waiting) + for_turns,
            turned_away: self.turned_away.len(),
            links_relieved: servers.map(|server| server.relieved as usize).sum(),
            links: self.links.len() - self.free_links.len(),
        }
    }

    fn count_waiting(&self, list: WaitList) -> usize {
        let mut count = 0;
        let mut client = list.first;
        while client != NIL {
            count += 1;
            client = self.clients[client as usize].wait.after;
        }
        count
    }
}
