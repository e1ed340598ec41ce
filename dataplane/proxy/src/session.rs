//! Client connections: what happens when one is ready, and how one ends.

use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Answer, Mode, Role};
use crate::streams::{CloseReason, StreamId, StreamStatus, Streams};

/// Why we close a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// No progress for `client_stall_ms`.
    Stalled,
    /// A reply was given to it in part and its rest will not come.
    Broken,
}

impl Proxy {
    pub(crate) fn client_ready<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let id = StreamId(client);
        let half_closed = match streams.status(id) {
            StreamStatus::Connecting => return,
            StreamStatus::Closed(reason) => return self.client_gone(streams, client, reason),
            StreamStatus::Open => false,
            StreamStatus::HalfClosed => true,
        };
        let state = &mut self.clients[client as usize];
        state.half_closed = half_closed;
        if state.head != NIL {
            self.flush(streams, client);
        }
        if self.clients[client as usize].pin != NIL {
            self.feed(streams, client);
        }
        self.read_client(streams, client);
        if self.clients[client as usize].pin != NIL
            && self.pinned_ready(streams, client, half_closed)
        {
            return;
        }
        self.settle(streams, client, half_closed);
    }

    /// Ends the connection if nothing is left to do on it.
    #[inline]
    fn settle<S: Streams>(&mut self, streams: &mut S, client: u32, half_closed: bool) {
        let state = &self.clients[client as usize];
        if self.roles[client as usize] != Role::Client || state.pending > 0 {
            return;
        }
        let uploading = matches!(state.mode, Mode::Upload { .. });
        let waits = state.wait.what != crate::waits::WaitFor::Nothing;
        let begun = uploading || self.in_transaction(client);
        let leaves = self.draining || state.leave_by_us != 0;
        let done = state.closing || (leaves && !begun) || (half_closed && !waits);
        if done {
            self.close_in_order(streams, client);
        }
    }

    /// Closes a client behind the replies that it has.
    pub(crate) fn close_in_order<S: Streams>(&mut self, streams: &mut S, client: u32) {
        if !self.clients[client as usize].closing {
            self.pool_of(client).counters.client_eof += 1;
        }
        // FIN follows the replies that are still queued; the stack sees to it that they arrive.
        self.forget(streams, client);
        streams.finish(StreamId(client));
        streams.release(StreamId(client));
    }

    /// The stream is closed: whatever was under way goes on without its client.
    fn client_gone<S: Streams>(&mut self, streams: &mut S, client: u32, reason: CloseReason) {
        let counters = &mut self.pool_of(client).counters;
        if reason == CloseReason::Finished {
            counters.client_eof += 1;
        } else {
            counters.client_errors += 1;
        }
        self.forget(streams, client);
        streams.release(StreamId(client));
    }

    /// Closes a client with RST, so that it cannot mistake what it has for a whole reply.
    pub(crate) fn close_client<S: Streams>(&mut self, streams: &mut S, client: u32, why: Closing) {
        if self.roles[client as usize] != Role::Client {
            return;
        }
        let counters = &mut self.pool_of(client).counters;
        match why {
            Closing::Stalled => counters.clients_closed_stalled += 1,
            Closing::Broken => counters.client_errors += 1,
        }
        self.forget(streams, client);
        streams.abort(StreamId(client));
        streams.release(StreamId(client));
    }

    /// Takes the client out of every table. Its requests that servers still work on stay, as nobody's.
    fn forget<S: Streams>(&mut self, streams: &mut S, client: u32) {
        self.roles[client as usize] = Role::Free;
        self.clients_open -= 1;
        let clients = &mut self.pool_of(client).counters.clients;
        *clients -= 1;
        self.pools_in_use -= usize::from(*clients == 0);
        self.pass_turn(streams, client);
        self.unwait(client);
        self.forget_identity(client);
        let mut next = self.clients[client as usize].head;
        while next != NIL {
            let pending = next;
            next = self.pendings[pending].next;
            if self.pendings[pending].noted {
                self.note_gone(streams, client, pending);
            }
            self.orphan(pending);
        }
        let state = &mut self.clients[client as usize];
        state.head = NIL;
        state.tail = NIL;
        state.pending = 0;
        let mode = std::mem::replace(&mut state.mode, Mode::Normal);
        let stalled = std::mem::replace(&mut state.stalled_link, NIL);
        let pin = std::mem::replace(&mut state.pin, NIL);
        match mode {
            Mode::Hold(hold) => self.give_hold(hold),
            Mode::Upload { link, .. } => self.abandon_upload(streams, link),
            Mode::Chunks(hold) => self.abandon_chunks(streams, hold),
            Mode::Greeting | Mode::Normal | Mode::Skip(_) => {}
        }
        if pin != NIL {
            self.forget_pin(streams, pin);
        }
        if stalled != NIL && self.links[stalled as usize].open {
            streams.mark_ready(self.links[stalled as usize].stream);
        }
    }

    /// Its client is gone. An unanswered request stays until its reply was swallowed.
    fn orphan(&mut self, pending: u32) {
        let entry = &mut self.pendings[pending];
        entry.client = NIL;
        self.hold.clear(&mut entry.chain);
        match entry.answer {
            Answer::Waiting => {}
            Answer::Held | Answer::Text(_) => self.give_pending(pending),
            Answer::Merged(split) => {
                self.give_split(split);
                self.give_pending(pending);
            }
        }
    }

    #[inline]
    pub(crate) fn give_pending(&mut self, pending: u32) {
        self.hold.clear(&mut self.pendings[pending].chain);
        self.pendings.give(pending);
        self.freed = true;
    }

    pub(crate) fn give_hold(&mut self, hold: u32) {
        self.holds[hold as usize].clear();
        self.free_holds.push(hold);
        self.freed = true;
    }

    /// Makes sure that somebody looks whether this client moves on.
    pub(crate) fn watch(&mut self, client: u32) {
        let due = self.now_us + self.limits.client_stall_us;
        let state = &mut self.clients[client as usize];
        if !state.watched {
            state.watched = true;
            state.progress_us = self.now_us;
            self.stall_queue.push_back((due, client));
        }
    }
}
