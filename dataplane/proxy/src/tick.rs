//! What happens because time passes: server timeouts, servers that return, clients that stand still.

use crate::fault::Fault;
use crate::flavour::Flavour;
use crate::limits::{PRECONNECT_RETRY_US, TICK_US};
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Event, Target};
use crate::streams::{ServerId, Streams};

impl Proxy {
    /// Does what is due. Cheap when nothing is.
    pub fn tick<S: Streams>(&mut self, streams: &mut S, now_us: u64) {
        self.now_us = now_us;
        if now_us < self.next_tick_us {
            return;
        }
        self.next_tick_us = now_us + TICK_US;
        for link in 0..self.links.len() as u32 {
            if self.links[link as usize].open {
                self.expire_requests(streams, link);
            }
            self.look_after_waiting(streams, link);
        }
        self.next_return_us = u64::MAX;
        for server in 0..self.servers.len() as u16 {
            self.tick_server(streams, server);
        }
        if now_us >= self.next_leave_us {
            self.look_after_left(streams);
        }
        self.close_idle_flavours(streams);
        self.check_stalls(streams);
        // Clients can wait for one kind of entry behind many that wait for another: in time everybody has a look.
        self.freed |= self.table_waiting.first != NIL;
        if now_us >= self.next_preconnect_us {
            self.preconnect(streams);
        }
        self.end_turn();
    }

    /// When [`Proxy::tick`] has something to do next, if nothing else happens before.
    pub fn next_timer_us(&self) -> Option<u64> {
        if self.owed() > 0 {
            return Some(self.next_tick_us);
        }
        let ejected = (self.next_return_us != u64::MAX).then_some(self.next_return_us);
        let stalled = self.stall_queue.front().map(|&(due, _)| due);
        let waiting = self.waiting > 0 || self.table_waiting.first != NIL;
        let waiting = waiting.then_some(self.next_tick_us);
        let preconnect = (self.next_preconnect_us != u64::MAX).then_some(self.next_preconnect_us);
        let leaves = (self.next_leave_us != u64::MAX).then_some(self.next_leave_us);
        let flavours = (self.flavoured > 0).then_some(self.next_flavour_look_us);
        let watched = self.watched_until_us();
        let due = [
            ejected, stalled, waiting, preconnect, leaves, flavours, watched,
        ]
        .into_iter()
        .flatten()
        .min()?;
        Some(due.max(self.next_tick_us))
    }

    fn tick_server<S: Streams>(&mut self, streams: &mut S, server: u16) {
        let state = &mut self.servers[server as usize];
        if state.ejected_until_us != 0 && state.ejected_until_us <= self.now_us {
            state.ejected_until_us = 0;
            let (pool, index) = (state.pool, state.index);
            self.pools[pool as usize].router.set_live(index, true);
            self.event(Event::ServerReturned {
                server: ServerId(server),
            });
        } else if state.ejected_until_us != 0 {
            self.next_return_us = self.next_return_us.min(state.ejected_until_us);
        }
        if self.servers[server as usize].waiting.first != NIL {
            // Room can have come without an event: the clients that were woken for it may have gone away.
            self.wake_server(streams, server);
        }
    }

    /// Room can have come without an event, and a connection can have lost its place.
    fn look_after_waiting<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let state = &self.links[link as usize];
        if state.waiting.first == NIL {
            return;
        }
        let server = &mut self.servers[state.server as usize];
        if server.place_of(state.position, link).is_some() {
            self.call_first(streams, link);
        } else {
            self.wake_all_of(streams, link);
        }
    }

    /// Answers requests whose time is up. Their replies, should they still come, are swallowed in their place.
    fn expire_requests<S: Streams>(&mut self, streams: &mut S, link: u32) {
        let state = &self.links[link as usize];
        let server = state.server;
        let pool = self.servers[server as usize].pool;
        let Some(timeout_us) = self.pools[pool as usize].timeout_us else {
            return;
        };
        if self.links[link as usize].pin != NIL
            && self.give_up_connecting(streams, link, timeout_us)
        {
            return;
        }
        let mut timed_out = 0u64;
        // A reply that is on its way counts as late only when it stands still, and not when its client does. Those behind
        // it do not wait for that: their time is their own.
        let state = &self.links[link as usize];
        let moving = state.measured > 0 || self.now_us < state.progress_us + timeout_us;
        let alive = state.scanning && moving;
        let late = !alive
            && state.expired > 0
            && state
                .fifo
                .front()
                .is_some_and(|e| e.target != Target::Nobody);
        let mut next = if late {
            0
        } else {
            state.expired.max(usize::from(alive))
        };
        loop {
            let state = &mut self.links[link as usize];
            let position = next;
            let Some(entry) = state.fifo.get_mut(position) else {
                break;
            };
            if entry.sent_us.saturating_add(timeout_us) > self.now_us {
                break;
            }
            next = (position + 1).max(state.expired);
            state.expired = next;
            if entry.target == Target::Nobody {
                continue;
            }
            if matches!(entry.target, Target::Handshake(_)) {
                if self.links[link as usize].greetings > 0 {
                    // Nobody has a request on it, and everybody waits.
                    return self.close_link(streams, link, Fault::TimedOut);
                }
                // However late its reply is: a refusal ends the connection.
                continue;
            }
            let target = std::mem::replace(&mut entry.target, Target::Nobody);
            timed_out += 1;
            if let Target::Fragment(fragment) = target
                && position == 0
                && self.links[link as usize].scanning
            {
                // Half of its reply was taken apart already and the rest can only be measured from the start.
                self.fail_fragment(streams, fragment, Fault::TimedOut);
                self.count_timeouts(link, timed_out);
                return self.close_link(streams, link, Fault::TimedOut);
            }
            self.fail_target(streams, target, Fault::TimedOut);
            if !self.links[link as usize].open {
                return;
            }
        }
        if timed_out > 0 {
            self.count_timeouts(link, timed_out);
            self.doubt(link);
            let state = &mut self.links[link as usize];
            if self.now_us >= state.failure_noted_us + timeout_us {
                state.failure_noted_us = self.now_us;
                self.event(Event::ServerFailed {
                    server: ServerId(server),
                    fault: Fault::TimedOut,
                });
                self.note_failure(server);
            }
        }
        let state = &self.links[link as usize];
        // Not a byte for two timeouts while it owes a reply: a connection in this state is not worth waiting for.
        if state.expired > 0
            && state.measured == 0
            && !alive
            && self.now_us >= state.progress_us + 2 * timeout_us
        {
            self.close_link(streams, link, Fault::TimedOut);
        }
    }

    fn count_timeouts(&mut self, link: u32, timed_out: u64) {
        let server = &mut self.servers[self.links[link as usize].server as usize];
        server.counters.timeouts += timed_out;
        self.pools[server.pool as usize].counters.timeouts += timed_out;
    }

    fn check_stalls<S: Streams>(&mut self, streams: &mut S) {
        while let Some(&(due, client)) = self.stall_queue.front() {
            if due > self.now_us {
                return;
            }
            self.stall_queue.pop_front();
            if self.check_stalled(streams, client) {
                let due = self.clients[client as usize].progress_us + self.limits.client_stall_us;
                // The queue stays in order: nothing can be due earlier than the next look.
                self.stall_queue
                    .push_back((due.max(self.now_us + TICK_US), client));
            } else {
                self.clients[client as usize].watched = false;
            }
        }
    }

    /// Opens the connections that pools want at start. Tried until there is a route; what the server makes of it is
    /// not tried again.
    fn preconnect<S: Streams>(&mut self, streams: &mut S) {
        let mut missing = false;
        for server in 0..self.servers.len() as u16 {
            let state = &self.servers[server as usize];
            let pool = &self.pools[state.pool as usize];
            let leaves = pool.leave_by_us != 0 || state.leave_by_us != 0;
            if !pool.preconnect || state.preconnected || leaves {
                continue;
            }
            // Those of the plain flavour come first.
            let positions = state.connections as usize;
            let mut failed = false;
            for position in 0..positions {
                if self.servers[server as usize].links[position] != NIL {
                    continue;
                }
                match self.open_link(streams, server, Flavour::PLAIN) {
                    Ok(link) => {
                        self.links[link as usize].position = position as u32;
                        self.servers[server as usize].links[position] = link;
                    }
                    Err(_) => failed = true,
                }
            }
            self.servers[server as usize].preconnected = !failed;
            missing |= failed;
        }
        self.next_preconnect_us = if missing {
            self.now_us + PRECONNECT_RETRY_US
        } else {
            u64::MAX
        };
    }
}
