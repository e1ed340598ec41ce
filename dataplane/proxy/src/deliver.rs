//! Replies on their way to the client: strictly in the order of its requests.

use crate::meter::is_error_line;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::Answer;
use crate::streams::{StreamId, Streams};
use tidegate_protocol::BINARY_HEADER_BYTES;

impl Proxy {
    /// Sends what is ready at the front of the client's queue, as far as there is room.
    pub(crate) fn flush<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let id = StreamId(client);
        let mut blocked = false;
        loop {
            let pending = self.clients[client as usize].head;
            if pending == NIL {
                break;
            }
            let silent = self.pendings[pending].silent;
            let done = match self.pendings[pending].answer {
                Answer::Waiting => {
                    blocked = !self.send_chain(streams, client, pending)
                        || !self.resume_stalled(streams, client);
                    break;
                }
                _ if silent => true,
                Answer::Held => self.send_chain(streams, client, pending),
                Answer::Text(text) => {
                    if let Some(head) = self.pendings[pending].binary {
                        let sent = Self::send_fault_frame(streams, client, head, text);
                        self.pendings[pending].sent_bytes += sent.unwrap_or(0);
                        self.pendings[pending].failed = true;
                        sent.is_some()
                    } else {
                        let fits = streams.send_room(id) >= text.len();
                        if fits {
                            streams.send(id, text.as_bytes());
                            self.pendings[pending].sent_bytes += text.len() as u64;
                            self.pendings[pending].failed |= is_error_line(text.as_bytes());
                        }
                        fits
                    }
                }
                Answer::Merged(split) => {
                    let room = streams.send_room(id);
                    let done = self.send_merged(streams, client, split);
                    let sent = room - streams.send_room(id);
                    if sent > 0 {
                        self.clients[client as usize].progress_us = self.now_us;
                    }
                    let entry = &mut self.pendings[pending];
                    entry.sent_bytes += sent as u64;
                    entry.failed |= self.splits[split].has_failed();
                    done
                }
            };
            if !done {
                blocked = true;
                break;
            }
            self.clients[client as usize].progress_us = self.now_us;
            if let Answer::Merged(split) = self.pendings[pending].answer {
                self.give_split(split);
                if self.go_on_after_elements(streams, client, pending) {
                    break;
                }
            }
            if self.pendings[pending].closes {
                self.close_as_twemproxy(client);
            }
            self.pop_head(streams, client);
        }
        self.clients[client as usize].blocked = blocked;
        if blocked {
            self.watch(client);
        }
    }

    /// Sends held bytes of a reply. True when none is left.
    fn send_chain<S: Streams>(&mut self, streams: &mut S, client: u32, pending: u32) -> bool {
        let entry = &mut self.pendings[pending];
        while !entry.chain.is_empty() {
            let sent = streams.send(StreamId(client), self.hold.front(&entry.chain));
            if sent == 0 {
                return false;
            }
            self.hold.advance(&mut entry.chain, sent);
            entry.begun = true;
            entry.sent_bytes += sent as u64;
            self.clients[client as usize].progress_us = self.now_us;
        }
        true
    }

    /// Lets the server connection go on that is not read because of this client. False: there is still no room for it.
    #[inline]
    fn resume_stalled<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let link = self.clients[client as usize].stalled_link;
        if link == NIL {
            return true;
        }
        // Without room the connection would only be found stalled again, and wake the clients that wait for its server: if
        // this one is among them, the two would wake each other for ever. A header in binary goes in one piece.
        let needed = if self.links[link as usize].unseen {
            BINARY_HEADER_BYTES
        } else {
            1
        };
        if streams.send_room(StreamId(client)) < needed {
            return false;
        }
        self.clients[client as usize].stalled_link = NIL;
        if self.links[link as usize].open {
            streams.mark_ready(self.links[link as usize].stream);
        }
        true
    }

    /// The server connection that is not read because of this client may wait for a request that has just ended.
    #[cold]
    pub(crate) fn release_stalled<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let link = std::mem::replace(&mut self.clients[client as usize].stalled_link, NIL);
        if link != NIL && self.links[link as usize].open {
            streams.mark_ready(self.links[link as usize].stream);
        }
    }

    /// The request at the front of the client's queue is done with.
    #[inline]
    pub(crate) fn pop_head<S: Streams>(&mut self, streams: &mut S, client: u32) {
        let pending = self.clients[client as usize].head;
        if self.joins_answers(pending) {
            self.pop(streams, client, pending);
        } else {
            self.pop_unlike(streams, client, pending);
        }
    }

    /// The same of a request that is not like the one before.
    #[inline(never)]
    fn pop_unlike<S: Streams>(&mut self, streams: &mut S, client: u32, pending: u32) {
        if self.pendings[pending].push {
            self.pushes_sent(client, pending);
        } else {
            self.count_answer(streams, client, pending);
        }
        self.pop(streams, client, pending);
    }

    /// Takes it out of the queue once it is counted.
    // Called from two places, of which one is the way of nearly all requests. Nothing is called there before, so registers keep what is known.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn pop<S: Streams>(&mut self, streams: &mut S, client: u32, pending: u32) {
        let state = &mut self.clients[client as usize];
        state.turn_since_us = self.now_us;
        state.head = self.pendings[pending].next;
        state.pending -= 1;
        if state.head == NIL {
            state.tail = NIL;
            streams.expect_reply(StreamId(client), false);
        }
        let entry = &self.pendings[pending];
        if !(entry.silent || entry.push) {
            self.pools[state.pool as usize].counters.replies += 1;
        }
        // Once nothing is under way, a client that sent FIN is done, and one that waited for that goes on.
        let resume = state.full
            || state.pending == 0
                && (state.barrier
                    || state.closing
                    || state.blocked
                    || state.half_closed
                    || state.leave_by_us != 0
                    || self.draining);
        state.full = false;
        if resume {
            streams.mark_ready(StreamId(client));
        }
        self.give_pending(pending);
    }
}
