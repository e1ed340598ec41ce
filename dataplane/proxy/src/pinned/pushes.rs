//! What a server sends to a subscriber unasked: messages, and the confirmations of subscriptions.
//!
//! Each value that begins on such a connection is one or the other: an answer to what was asked, which the first entry of the
//! connection's queue waits for, or a push. A push gets an entry of its own in front, and a place in the client's queue: at its front, or
//! behind a reply that the client has in part or holds up, but never before another push. From there on both are replies like others: passed on
//! as they come, held if the client is slow, and beyond `client_reply_hold_bytes` left in the server's connection, until
//! `client_stall_ms` or the server's own limit ends it.

use crate::limits::CONFIRMATION_BYTES_MAX;
use crate::pinned::Purpose;
use crate::pinned::confirmation::{Kind, kind_of};
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Answer, Entry, Target};
use crate::streams::Streams;
use crate::waits::WaitFor;
use tidegate_protocol::ReplyShape;

impl Proxy {
    /// Looks at the first bytes of a value on a client's own connection and sees to it that somebody waits for it. False: that has
    /// to wait, or the connection has ended.
    #[cold]
    pub(crate) fn sort_value<S: Streams>(&mut self, streams: &mut S, link: u32) -> bool {
        let pin = self.links[link as usize].pin;
        if self.pins[pin].purpose != Purpose::Subscriber {
            return true;
        }
        let client = self.pins[pin].client;
        let asked = self.links[link as usize].fifo.front();
        if asked.is_some_and(|entry| matches!(entry.target, Target::Handshake(_))) {
            return true;
        }
        // Behind the error that ends its connection, or the reply to its QUIT, a client gets no messages.
        let closing = self.clients[client as usize].closing && !self.pins[pin].asked;
        if self.pins[pin].leaving || closing {
            self.end_leaving(streams, client);
            return false;
        }
        let mut front = [0; CONFIRMATION_BYTES_MAX];
        let n = streams.copy(self.links[link as usize].stream, &mut front);
        let is_resp3 = self.links[link as usize].flavour.is_resp3();
        match kind_of(is_resp3, &front[..n]) {
            Kind::Unknown => false,
            Kind::Answer => {
                self.expect_answer(link, front[0]);
                true
            }
            Kind::Push => self.expect_push(link, client),
            Kind::Confirmation { shard, count } => {
                self.pins[pin].counts[usize::from(shard)] = count;
                self.expect_push(link, client)
            }
        }
    }

    /// A value that begins with `first` is the answer to what was asked, if anything was.
    fn expect_answer(&mut self, link: u32, first: u8) {
        let state = &self.links[link as usize];
        let pin = state.pin;
        let target = state.fifo.front().map(|entry| entry.target);
        self.pins[pin].answers_array = first == b'*';
        let mark = self.pins[pin].mark;
        if mark == NIL || target != Some(Target::Pending(mark)) {
            return;
        }
        self.pins[pin].mark = NIL;
        if matches!(first, b'-' | b'!') {
            // The request before the mark was refused. The client gets the error in its turn, and the mark is still to be answered.
            self.pendings[mark].silent = self.pins[pin].muted;
            let entry = Entry::new(Target::Own, ReplyShape::Resp);
            self.enqueue(link, entry, 0);
        }
    }

    /// A push begins: gives it a place in the connection's queue and in the client's. False: there is none.
    fn expect_push(&mut self, link: u32, client: u32) -> bool {
        let pin = self.links[link as usize].pin;
        let Some(pending) = self.push_entry(client, pin) else {
            self.pins[pin].hungry = true;
            if self.clients[client as usize].wait.what == WaitFor::Nothing {
                self.wait(client, WaitFor::Table);
            }
            return false;
        };
        // Until the next answer says otherwise: what was confirmed counts.
        self.pins[pin].subscribed = true;
        self.pools[self.pins[pin].pool as usize].counters.pushes += 1;
        let state = &mut self.links[link as usize];
        state
            .fifo
            .push_front(Entry::untimed(Target::Pending(pending), ReplyShape::Resp));
        self.servers[state.server as usize].counters.in_flight += 1;
        self.in_flight += 1;
        true
    }

    /// The entry for the next push: the one in which others wait, if they do.
    fn push_entry(&mut self, client: u32, pin: u32) -> Option<u32> {
        let waiting = self.pins[pin].push;
        if waiting != NIL {
            self.pendings[waiting].answer = Answer::Waiting;
            return Some(waiting);
        }
        let row = self.clients[client as usize].row;
        let entry = crate::dispatch::new_pending(client, false, self.now_us, row);
        let pending = self.pendings.take(entry)?;
        self.pendings[pending].push = true;
        self.pins[pin].push = pending;
        let before = self.place_of_push(client);
        let state = &mut self.clients[client as usize];
        let next = if before == NIL {
            std::mem::replace(&mut state.head, pending)
        } else {
            std::mem::replace(&mut self.pendings[before].next, pending)
        };
        self.pendings[pending].next = next;
        if next == NIL {
            state.tail = pending;
        }
        state.pending += 1;
        if state.pending == 1 {
            state.busy_since = self.reliefs;
        }
        Some(pending)
    }

    /// The request behind which a push is put; [`NIL`]: at the front.
    fn place_of_push(&self, client: u32) -> u32 {
        let mut before = NIL;
        let mut next = self.clients[client as usize].head;
        // A reply that its client holds up stays in front: its connection stands still for it, and only one can at a time.
        let is_held_up = self.clients[client as usize].stalled_link != NIL;
        if next != NIL && (is_held_up || self.is_begun(next)) {
            before = next;
            next = self.pendings[next].next;
        }
        while next != NIL && self.pendings[next].push {
            before = next;
            next = self.pendings[next].next;
        }
        before
    }

    /// Whether the client may have a part of this answer.
    pub(super) fn is_begun(&self, pending: u32) -> bool {
        let entry = &self.pendings[pending];
        match entry.answer {
            Answer::Merged(split) => entry.begun || self.splits[split].header_sent,
            Answer::Waiting | Answer::Held | Answer::Text(_) => entry.begun,
        }
    }

    /// The client has every push of this entry.
    #[cold]
    pub(crate) fn pushes_sent(&mut self, client: u32, pending: u32) {
        let pin = self.clients[client as usize].pin;
        if pin != NIL && self.pins[pin].push == pending {
            self.pins[pin].push = NIL;
        }
    }

    /// A table has room again: reads on where a push found none.
    #[cold]
    pub(crate) fn feed<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let state = &mut self.pins[self.clients[client as usize].pin];
        if std::mem::take(&mut state.hungry) && state.link != NIL {
            streams.mark_ready(self.links[state.link as usize].stream);
        }
    }
}
