//! Binary frames on their way: what the proxy changes in their headers, and the frames that it makes itself.

mod local;

use crate::fault::Fault;
use crate::hold::Chain;
use crate::proxy::Proxy;
use crate::replies::Moved;
use crate::state::Answer;
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{
    BINARY_HEADER_BYTES, BINARY_REQUEST_MAGIC, BinaryHead, BinaryStatus, Protocol as Dialect,
    ReplyShape, Request,
};

use crate::flavour::Flavour;
use crate::state::{Link, Mode, Pool};

/// A failure's first word in the text protocol, which a status says in binary.
const SERVER_ERROR: &str = "SERVER_ERROR ";
const CLIENT_ERROR: &str = "CLIENT_ERROR ";

/// What memcached says to those who did not say who they are.
pub(crate) const UNAUTHENTICATED: &str = "CLIENT_ERROR unauthenticated\r\n";

impl Pool {
    /// How the first bytes of a client are read.
    pub fn first_mode(&self) -> Mode {
        if self.parser() == Dialect::Memcached && !self.twemproxy {
            Mode::Greeting
        } else {
            Mode::Normal
        }
    }
}

impl Link {
    /// The number of the request at the front of the queue, whose reply comes next.
    pub fn front_number(&self) -> u32 {
        self.numbered.wrapping_sub(self.fifo.len() as u32)
    }
}

impl Proxy {
    /// The first byte of a client decides which dialect it speaks, for good.
    pub(crate) fn take_greeting<S: Streams>(&mut self, streams: &mut S, client: u32) -> bool {
        let Some(&first) = streams.peek(StreamId(client)).first() else {
            return false;
        };
        let state = &mut self.clients[client as usize];
        state.mode = Mode::Normal;
        if first == BINARY_REQUEST_MAGIC {
            state.dialect = Dialect::MemcachedBinary;
            state.flavour = Flavour::BINARY;
        }
        true
    }

    /// Sends the header of a request to a server, with its number on the connection as opaque. Returns its bytes.
    pub(crate) fn send_header<S: Streams>(
        &mut self,
        streams: &mut S,
        request: &[u8],
        link: u32,
        head: BinaryHead,
    ) -> usize {
        let mut header = *request.first_chunk().unwrap_or(&[0; BINARY_HEADER_BYTES]);
        let state = &mut self.links[link as usize];
        head.address(&mut header, state.numbered);
        state.numbered = state.numbered.wrapping_add(1);
        streams.send(state.stream, &header);
        BINARY_HEADER_BYTES
    }

    /// Tells the scanner of a connection the number of the request at the front.
    #[cold]
    pub(crate) fn expect_number(&mut self, link: u32) {
        let state = &mut self.links[link as usize];
        state.scanner = state.scanner.expecting(state.front_number());
    }

    /// The header of a server's reply is there: gives the client its own, or hides the reply.
    pub(crate) fn restore_header<S: Streams>(
        &mut self,
        streams: &mut S,
        link: u32,
        pending: u32,
        client: u32,
        head: BinaryHead,
    ) -> Moved {
        let stream = self.links[link as usize].stream;
        let mut header = [0; BINARY_HEADER_BYTES];
        streams.copy(stream, &mut header);
        let entry = &mut self.pendings[pending];
        if head.hides(&header) {
            entry.silent = true;
            self.links[link as usize].unseen = false;
            return Moved::All;
        }
        head.restore(&mut header);
        let id = StreamId(client);
        let is_next = self.clients[client as usize].head == pending;
        if is_next && entry.chain.is_empty() && streams.send_room(id) >= BINARY_HEADER_BYTES {
            streams.send(id, &header);
            entry.begun = true;
            entry.sent_bytes += BINARY_HEADER_BYTES as u64;
            self.clients[client as usize].progress_us = self.now_us;
        } else if self.hold.append(&mut entry.chain, &header) {
            self.pool_of(client).counters.replies_held += 1;
        } else if is_next || self.untaken_before(client, pending).is_some() {
            self.stall_link(streams, link, client);
            return Moved::Stalled;
        } else {
            self.links[link as usize].unseen = false;
            return self.give_reply_up(streams, link, pending, client, Fault::HoldFull);
        }
        streams.consume(stream, BINARY_HEADER_BYTES);
        let state = &mut self.links[link as usize];
        state.measured -= BINARY_HEADER_BYTES;
        state.unseen = false;
        Moved::All
    }

    /// Tells a client why its request has no reply, in its own protocol.
    pub(crate) fn answer_fault<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        text: &'static str,
    ) {
        match request.reply {
            _ if request.is_silent() => {}
            ReplyShape::Binary(head) => {
                // As memcached does.
                self.clients[client as usize].closing |= text == UNAUTHENTICATED;
                if let Some(pending) = self.push_pending(streams, client, false) {
                    self.pendings[pending].binary = Some(head);
                    self.pendings[pending].answer = Answer::Text(text);
                    self.flush(streams, client);
                }
            }
            _ => self.answer_text(streams, client, text),
        }
    }

    /// Sends an error of the text protocol as a frame, of so many bytes. `None`: there is no room for it.
    #[cold]
    pub(crate) fn send_fault_frame<S: Streams>(
        streams: &mut S,
        client: u32,
        head: BinaryHead,
        text: &'static str,
    ) -> Option<u64> {
        let (status, words) = status_of(text);
        let id = StreamId(client);
        let bytes = BINARY_HEADER_BYTES + words.len();
        if streams.send_room(id) < bytes {
            return None;
        }
        streams.send(id, &head.reply_header(status, 0, words.len() as u32));
        streams.send(id, words.as_bytes());
        Some(bytes as u64)
    }

    /// Answers with a frame, in its turn. The caller has checked [`Proxy::has_pending_room`].
    pub(crate) fn answer_frame<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        head: BinaryHead,
        status: BinaryStatus,
        body: &str,
    ) {
        let Some(pending) = self.push_pending(streams, client, false) else {
            return;
        };
        let mut chain = Chain::EMPTY;
        let header = head.reply_header(status, 0, body.len() as u32);
        let is_held =
            self.hold.append(&mut chain, &header) && self.hold.append(&mut chain, body.as_bytes());
        if !is_held {
            self.hold.clear(&mut chain);
        }
        let answer = if is_held {
            Answer::Held
        } else {
            self.no_room(client)
        };
        let entry = &mut self.pendings[pending];
        entry.binary = Some(head);
        entry.failed = status != BinaryStatus::Success;
        entry.chain = chain;
        entry.answer = answer;
        self.flush(streams, client);
    }
}

/// An error of the text protocol as status and words.
fn status_of(text: &'static str) -> (BinaryStatus, &'static str) {
    if text == UNAUTHENTICATED {
        return (
            BinaryStatus::Unauthorized,
            BinaryStatus::Unauthorized.text(),
        );
    }
    let line = text.trim_end();
    match (
        line.strip_prefix(SERVER_ERROR),
        line.strip_prefix(CLIENT_ERROR),
    ) {
        (Some(words), _) => (BinaryStatus::TemporaryFailure, words),
        (_, Some(words)) => (BinaryStatus::Invalid, words),
        _ => (BinaryStatus::Invalid, line),
    }
}
