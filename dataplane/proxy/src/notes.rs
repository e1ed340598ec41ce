//! What is noted of each request while somebody wants to know more of it than counts.
//!
//! The bytes of a request are gone once its server has them, and only its end tells whether it was worth a line in the slow log. So
//! its key is noted as it passes, in a table beside that of the requests. Nothing else is done for a request that is not slow: of
//! those that end together and began together one is compared with the threshold, and when a reply began is noted only if it does not
//! come, and go, in one piece.

use crate::keys::BigKey;
use crate::limits::{KEY_NOTE_BYTES_MAX, SLOW_REQUESTS_MAX};
use crate::proxy::Proxy;
use crate::read::Source;
use crate::state::{Answer, Target};
use crate::streams::{ServerId, StreamId, Streams};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use tidegate_protocol::{Request, Route};

/// The threshold of a pool without a slow log.
pub(crate) const NEVER_SLOW: u64 = u64::MAX;

/// No server in particular.
const SEVERAL: u16 = u16::MAX;

/// Half of the longest key that is noted without a call.
const HALF_BYTES: usize = 16;

/// What is noted of the requests of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noting {
    /// Nothing: nobody wants to know.
    Nothing,
    /// What the slow log tells.
    Slow,
    /// What a watch on keys wants to know, and what the slow log tells.
    Keys,
}

/// The front of a key, and how long the key is.
#[derive(Clone, Copy)]
pub struct NotedKey {
    bytes: [u8; KEY_NOTE_BYTES_MAX],
    full_bytes: u32,
}

impl NotedKey {
    /// No key.
    pub const NONE: Self = Self {
        bytes: [0; KEY_NOTE_BYTES_MAX],
        full_bytes: 0,
    };

    /// Notes `key`.
    #[inline]
    pub fn new(key: &[u8]) -> Self {
        let mut noted = Self::NONE;
        noted.set(key);
        noted
    }

    /// Notes `key` in the place of another. What is left of that stands behind the front.
    #[inline]
    pub(crate) fn set(&mut self, key: &[u8]) {
        self.full_bytes = key.len() as u32;
        // Most keys are of such a length: two moves, which may overlap, cost less than a call that asks for the length.
        match (
            key.first_chunk::<HALF_BYTES>(),
            key.last_chunk::<HALF_BYTES>(),
        ) {
            (Some(front), Some(back)) if key.len() <= 2 * HALF_BYTES => {
                self.bytes[..HALF_BYTES].copy_from_slice(front);
                self.bytes[key.len() - HALF_BYTES..][..HALF_BYTES].copy_from_slice(back);
            }
            _ => self.copy(key),
        }
    }

    /// Notes the same key as `other`.
    #[inline]
    pub(crate) fn copy_from(&mut self, other: &Self) {
        if other.full_bytes as usize <= 2 * HALF_BYTES {
            self.bytes[..2 * HALF_BYTES].copy_from_slice(&other.bytes[..2 * HALF_BYTES]);
            self.full_bytes = other.full_bytes;
        } else {
            *self = *other;
        }
    }

    #[inline(never)]
    fn copy(&mut self, key: &[u8]) {
        let front = key.len().min(KEY_NOTE_BYTES_MAX);
        self.bytes[..front].copy_from_slice(&key[..front]);
    }

    /// As much of it as was noted.
    pub fn front(&self) -> &[u8] {
        &self.bytes[..self.full_bytes.min(KEY_NOTE_BYTES_MAX as u32) as usize]
    }

    /// Bytes of the whole key; 0: there is none.
    pub fn full_bytes(&self) -> u32 {
        self.full_bytes
    }
}

impl PartialEq for NotedKey {
    fn eq(&self, other: &Self) -> bool {
        self.full_bytes == other.full_bytes && self.front() == other.front()
    }
}

impl Eq for NotedKey {}

impl fmt::Debug for NotedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.front().escape_ascii())
    }
}

/// How a slow request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowEnd {
    /// Its client got the reply.
    Replied,
    /// Its client got an error of the proxy.
    Failed,
    /// Its client was gone before.
    ClientGone,
}

/// A request that took longer than its pool calls slow, and where the time went.
#[derive(Clone, Copy, Debug)]
pub struct SlowRequest {
    /// Its pool, by position in the configuration.
    pub pool: u16,
    /// Who was asked; `None`: nobody, or several servers.
    pub server: Option<ServerId>,
    /// Who asked.
    pub client: SocketAddr,
    /// Lower-case name of the command.
    pub command: &'static str,
    /// Its first key.
    pub key: NotedKey,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the reply that its client was given.
    pub reply_bytes: u64,
    /// When it was taken, in microseconds since 1970.
    pub taken_unix_us: u64,
    /// From there until all of it was passed on to the server.
    pub queue_us: u64,
    /// From there until the reply began; of several servers, until all had answered.
    pub server_us: u64,
    /// From there until the client had its replies to earlier requests.
    pub turn_us: u64,
    /// From there until the client took the last of it.
    pub client_us: u64,
    /// How it ended.
    pub end: SlowEnd,
}

impl SlowRequest {
    /// How long it took in all.
    pub fn total_us(&self) -> u64 {
        self.queue_us + self.server_us + self.turn_us + self.client_us
    }
}

/// What is noted of a request under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Note {
    command: &'static str,
    key: NotedKey,
    /// Of the key, if a watch wants to know how large its value is; else 0.
    key_hash: u64,
    server: u16,
    request_bytes: u64,
}

impl Note {
    const NONE: Self = Self {
        command: "",
        key: NotedKey::NONE,
        key_hash: 0,
        server: SEVERAL,
        request_bytes: 0,
    };
}

impl Note {
    #[inline]
    fn begin(&mut self, request: &Request, server: u16, key: &NotedKey) {
        self.command = request.name;
        self.server = server;
        self.request_bytes = request.bytes as u64;
        self.key.copy_from(key);
    }
}

/// What is known of a slow request beside its note.
#[derive(Clone, Copy)]
struct Slow {
    took_us: u64,
    /// How long it was not sent.
    queue_us: u64,
    /// When its reply was there; 0: now.
    answered_us: u64,
    reply_bytes: u64,
    end: SlowEnd,
}

/// The notes, by the index of their request, and what became of them.
#[derive(Debug)]
pub(crate) struct Notes {
    table: Vec<Note>,
    slow: VecDeque<SlowRequest>,
}

impl Notes {
    /// Reserves everything; memory is touched as notes are taken.
    pub fn new(requests: usize) -> Self {
        Self {
            table: Vec::with_capacity(requests),
            slow: VecDeque::with_capacity(SLOW_REQUESTS_MAX),
        }
    }

    /// Makes room for as many requests as `larger` has room for, and leaves it the old room.
    pub fn grow(&mut self, larger: &mut Self) {
        if larger.table.capacity() > self.table.capacity() {
            larger.table.append(&mut self.table);
            std::mem::swap(&mut self.table, &mut larger.table);
        }
    }

    /// Pools and servers have other numbers now.
    pub fn translate(&mut self, pool: impl Fn(u16) -> u16, server: impl Fn(u16) -> u16) {
        for note in self.table.iter_mut().filter(|note| note.server != SEVERAL) {
            note.server = server(note.server);
        }
        for slow in &mut self.slow {
            slow.pool = pool(slow.pool);
            slow.server = slow.server.map(|of| ServerId(server(of.0)));
        }
    }

    /// Notes a request.
    #[inline]
    pub fn begin(&mut self, pending: u32, request: &Request, server: u16, key: &NotedKey) {
        match self.table.get_mut(pending as usize) {
            Some(note) => note.begin(request, server, key),
            None => self.lengthen(pending).begin(request, server, key),
        }
    }

    /// The table of requests grows the same way, so this is within the capacity.
    #[cold]
    fn lengthen(&mut self, pending: u32) -> &mut Note {
        let index = pending as usize;
        self.table
            .resize(self.table.len().max(index + 1), Note::NONE);
        &mut self.table[index]
    }
}

impl Proxy {
    /// The next request that took long.
    #[inline]
    pub fn take_slow(&mut self) -> Option<SlowRequest> {
        self.notes.slow.pop_front()
    }

    /// Notes a request that is about to be sent to `server` and still stands where it came from.
    #[inline]
    pub(crate) fn note<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        pending: u32,
        server: u16,
    ) {
        if self.pool_of(client).noting != Noting::Nothing {
            self.note_for_server(streams, client, request, source, pending, server);
        }
    }

    #[inline(never)]
    fn note_for_server<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        pending: u32,
        server: u16,
    ) {
        let bytes = match source {
            Source::Ring { scratch: true } => &self.scratch,
            Source::Ring { scratch: false } => streams.peek(StreamId(client)),
            Source::Hold(hold) => &self.holds[hold as usize],
        };
        let key = NotedKey::new(key_of(request, bytes));
        self.notes.begin(pending, request, server, &key);
        self.pendings[pending].noted = true;
        if let Some(watch) = &mut self.key_watch {
            let pool = self.clients[client as usize].pool;
            watch.count_keys(pool, request, bytes);
            let hash = watch.hash_of_only(pool, request, bytes);
            self.notes.table[pending as usize].key_hash = hash;
            self.pendings[pending].watched = hash != 0;
        }
    }

    /// Notes a request that several servers are about to get, of which `bytes` are there.
    pub(crate) fn note_several(
        &mut self,
        client: u32,
        request: &Request,
        bytes: &[u8],
        pending: u32,
    ) {
        if self.pool_of(client).noting != Noting::Nothing {
            let key = NotedKey::new(key_of(request, bytes));
            self.notes.begin(pending, request, SEVERAL, &key);
            self.pendings[pending].noted = true;
            self.note_keys(client, request, bytes);
        }
    }

    /// Counts the keys of a request or chunk that is about to be divided.
    pub(crate) fn note_keys(&mut self, client: u32, request: &Request, bytes: &[u8]) {
        if let Some(watch) = &mut self.key_watch {
            watch.count_keys(self.clients[client as usize].pool, request, bytes);
        }
    }

    /// Notes a request that is taken in chunks. Its keys are not there yet.
    pub(crate) fn note_chunks(&mut self, client: u32, command: &'static str, pending: u32) {
        if self.pool_of(client).noting != Noting::Nothing {
            *self.notes.lengthen(pending) = Note {
                command,
                ..Note::NONE
            };
            self.pendings[pending].noted = true;
        }
    }

    /// What the streamed request on a server connection belongs to.
    fn streamed_on(&self, link: u32) -> Option<u32> {
        match self.links[link as usize].fifo.back()?.target {
            Target::Pending(pending) => Some(pending),
            Target::Fragment(fragment) => Some(self.splits[self.fragments[fragment].split].pending),
            _ => None,
        }
    }

    /// More of a request was passed on.
    pub(crate) fn note_passed(&mut self, pending: u32, bytes: usize) {
        if self.pendings[pending].noted {
            self.notes.table[pending as usize].request_bytes += bytes as u64;
        }
    }

    /// More of a streamed request was passed on.
    pub(crate) fn note_streamed(&mut self, link: u32, bytes: usize) {
        if let Some(pending) = self.streamed_on(link) {
            self.note_passed(pending, bytes);
        }
    }

    /// The server has all of a streamed request.
    pub(crate) fn note_sent(&mut self, link: u32) {
        if let Some(pending) = self.streamed_on(link)
            && self.pendings[pending].noted
        {
            let entry = &mut self.pendings[pending];
            entry.queue_us = self.now_us - entry.taken_us;
        }
    }

    /// The reply at the front of a server connection does not go on in one piece.
    #[inline(never)]
    pub(crate) fn note_begun(&mut self, link: u32) {
        let state = &self.links[link as usize];
        let (front, began_us) = (state.fifo.front(), state.began_us);
        if let Some(Target::Pending(pending)) = front.map(|entry| entry.target) {
            self.note_answered(pending, began_us);
        }
    }

    /// The reply to a request, or what stands in its place, was there at `answered_us`, if not before.
    #[inline]
    pub(crate) fn note_answered(&mut self, pending: u32, answered_us: u64) {
        let entry = &mut self.pendings[pending];
        if entry.answered_us == 0 {
            entry.answered_us = answered_us;
        }
    }

    /// The request at the front of the client's queue is done with, which a watch on keys wants to know of.
    #[cold]
    pub(crate) fn note_key_seen(&mut self, client: u32, pending: u32) {
        let note = &self.notes.table[pending as usize];
        if let Some(watch) = &mut self.key_watch {
            let seen = BigKey {
                pool: self.clients[client as usize].pool,
                key: note.key,
                hash: note.key_hash,
                bytes: note.request_bytes.max(self.pendings[pending].sent_bytes),
                command: note.command,
            };
            watch.see(&seen);
        }
    }

    /// The request at the front of the client's queue is done with, and took longer than its pool calls slow.
    #[cold]
    pub(crate) fn note_slow<S: Streams>(&mut self, streams: &S, client: u32, pending: u32) {
        let entry = &self.pendings[pending];
        if entry.noted {
            let end = match entry.answer {
                Answer::Text(_) => SlowEnd::Failed,
                Answer::Waiting | Answer::Held | Answer::Merged(_) => SlowEnd::Replied,
            };
            self.tell_slow(streams, client, pending, end);
        }
    }

    /// No server can have the request at the front, for which the client may have waited.
    #[cold]
    pub(crate) fn note_refused<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) {
        let state = &mut self.clients[client as usize];
        let pool = state.pool;
        let since_us = std::mem::replace(&mut state.waiting_since_us, u64::MAX);
        let waited_us = self.now_us.saturating_sub(since_us);
        if waited_us > 0 && waited_us >= self.pools[pool as usize].slow_us {
            let key = self.with_bytes(streams, client, source, |bytes| {
                NotedKey::new(key_of(request, bytes))
            });
            let note = Note {
                command: request.name,
                key,
                request_bytes: request.bytes as u64,
                ..Note::NONE
            };
            let slow = Slow {
                took_us: waited_us,
                queue_us: waited_us,
                answered_us: self.now_us,
                reply_bytes: 0,
                end: SlowEnd::Failed,
            };
            self.write_down(streams, client, &note, slow);
        }
    }

    /// The client of a noted request is gone.
    #[cold]
    pub(crate) fn note_gone<S: Streams>(&mut self, streams: &S, client: u32, pending: u32) {
        let pool = self.clients[client as usize].pool;
        let took_us = self.now_us - self.pendings[pending].taken_us;
        if took_us >= self.pools[pool as usize].slow_us {
            self.tell_slow(streams, client, pending, SlowEnd::ClientGone);
        }
        self.pendings[pending].noted = false;
    }

    #[cold]
    fn tell_slow<S: Streams>(&mut self, streams: &S, client: u32, pending: u32, end: SlowEnd) {
        let entry = &self.pendings[pending];
        let slow = Slow {
            took_us: self.now_us - entry.taken_us,
            queue_us: entry.queue_us,
            answered_us: entry.answered_us,
            reply_bytes: entry.sent_bytes,
            end,
        };
        let note = self.notes.table[pending as usize];
        self.write_down(streams, client, &note, slow);
    }

    #[cold]
    fn write_down<S: Streams>(&mut self, streams: &S, client: u32, note: &Note, slow: Slow) {
        let Slow {
            took_us,
            queue_us,
            answered_us,
            reply_bytes,
            end,
        } = slow;
        let state = &self.clients[client as usize];
        let counters = &mut self.pools[state.pool as usize].counters;
        counters.slow_requests += 1;
        if self.notes.slow.len() == SLOW_REQUESTS_MAX {
            counters.slow_requests_unlogged += 1;
            return;
        }
        let taken_us = self.now_us - took_us;
        let sent_us = taken_us + queue_us;
        let answered_us = match answered_us {
            0 => self.now_us,
            answered_us => answered_us.max(sent_us),
        };
        let turn_came_us = state.turn_since_us.max(answered_us);
        self.notes.slow.push_back(SlowRequest {
            pool: state.pool,
            server: (note.server != SEVERAL).then_some(ServerId(note.server)),
            client: streams.peer(StreamId(client)),
            command: note.command,
            key: note.key,
            request_bytes: note.request_bytes,
            reply_bytes,
            taken_unix_us: self.wall_clock_us.wrapping_add(taken_us),
            queue_us,
            server_us: answered_us - sent_us,
            turn_us: turn_came_us - answered_us,
            client_us: self.now_us - turn_came_us,
            end,
        });
    }
}

/// The first key of a request whose bytes begin with `bytes`. What the proxy answers itself has passwords where others have keys.
#[inline]
pub(crate) fn key_of<'a>(request: &Request, bytes: &'a [u8]) -> &'a [u8] {
    match request.route {
        Route::Local(_) => &[],
        _ => bytes.get(request.key.clone()).unwrap_or_default(),
    }
}
