//! Clients that cannot go on until something else moves: who waits for what, and who is woken.

use crate::limits::WAKE_BATCH;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Wait, WaitFor, WaitList};
use crate::streams::{StreamId, Streams};

impl Proxy {
    fn wait_list(&mut self, what: WaitFor) -> &mut WaitList {
        match what {
            WaitFor::Server(server) => &mut self.servers[server as usize].waiting,
            WaitFor::Table | WaitFor::Nothing => &mut self.table_waiting,
        }
    }

    /// Puts a client at the end of a list. It is not read until it is woken.
    pub(crate) fn wait(&mut self, client: u32, what: WaitFor) {
        self.unwait(client);
        let state = &mut self.clients[client as usize];
        state.waiting_since_us = state.waiting_since_us.min(self.now_us);
        self.waiting += usize::from(matches!(what, WaitFor::Server(_)));
        let list = self.wait_list(what);
        let last = list.last;
        list.last = client;
        if last == NIL {
            list.first = client;
        } else {
            self.clients[last as usize].wait.after = client;
        }
        self.clients[client as usize].wait = Wait {
            what,
            before: last,
            after: NIL,
        };
    }

    /// Takes a client off its list, if it is on one.
    pub(crate) fn unwait(&mut self, client: u32) {
        let Wait {
            what,
            before,
            after,
        } = self.clients[client as usize].wait;
        if what == WaitFor::Nothing {
            return;
        }
        self.waiting -= usize::from(matches!(what, WaitFor::Server(_)));
        self.clients[client as usize].wait = Wait::NONE;
        if before == NIL {
            self.wait_list(what).first = after;
        } else {
            self.clients[before as usize].wait.after = after;
        }
        if after == NIL {
            self.wait_list(what).last = before;
        } else {
            self.clients[after as usize].wait.before = before;
        }
    }

    fn wake(&mut self, streams: &mut impl Streams, what: WaitFor) {
        for _ in 0..WAKE_BATCH {
            let client = self.wait_list(what).first;
            if client == NIL {
                return;
            }
            self.unwait(client);
            streams.mark_ready(StreamId(client));
        }
    }

    /// Wakes clients that wait for a server.
    pub(crate) fn wake_server(&mut self, streams: &mut impl Streams, server: u16) {
        self.wake(streams, WaitFor::Server(server));
    }

    /// Wakes clients that wait for a table entry, if there are entries. True when somebody was woken.
    pub(crate) fn wake_tables(&mut self, streams: &mut impl Streams) -> bool {
        let waiting = self.table_waiting.first != NIL;
        if waiting && self.freed {
            self.freed = false;
            self.wake(streams, WaitFor::Table);
            return true;
        }
        false
    }
}
