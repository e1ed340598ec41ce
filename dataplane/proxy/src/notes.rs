//! What is noted of each request while somebody wants to know more of it than counts.
//!
//! The bytes of a request are gone once its server has them, and only its end tells whether it was worth a line in the slow log. So
//! its key and the times of its way are noted when it is taken, in a table beside that of the requests: where nothing is noted,
//! a request costs a few branches and no memory is touched.

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
    fn set(&mut self, key: &[u8]) {
        let front = key.len().min(KEY_NOTE_BYTES_MAX);
        self.bytes[..front].copy_from_slice(&key[..front]);
        self.full_bytes = key.len() as u32;
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
    sent_us: u64,
    /// When its reply began, or what stands in its place was decided; 0: not yet.
    answered_us: u64,
}

impl Note {
    const NONE: Self = Self {
        command: "",
        key: NotedKey::NONE,
        key_hash: 0,
        server: SEVERAL,
        request_bytes: 0,
        sent_us: 0,
        answered_us: 0,
    };
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

    /// Begins a note.
    #[inline]
    fn begin(&mut self, pending: u32, command: &'static str, sent_us: u64) -> &mut Note {
        let index = pending as usize;
        if index >= self.table.len() {
            // The table of requests grows the same way, so this is within the capacity.
            self.table.resize(index + 1, Note::NONE);
        }
        let note = &mut self.table[index];
        note.command = command;
        note.key.full_bytes = 0;
        note.key_hash = 0;
        note.server = SEVERAL;
        note.request_bytes = 0;
        note.sent_us = sent_us;
        note.answered_us = 0;
        note
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
        if self.pool_of(client).notes {
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
        let note = self.notes.begin(pending, request.name, self.now_us);
        note.key.set(key_of(request, bytes));
        note.server = server;
        note.request_bytes = request.bytes as u64;
        self.pendings[pending].noted = true;
        if let Some(watch) = &mut self.key_watch {
            let pool = self.clients[client as usize].pool;
            watch.count_keys(pool, request, bytes);
            note.key_hash = watch.hash_of_only(pool, request, bytes);
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
        if self.pool_of(client).notes {
            let note = self.notes.begin(pending, request.name, self.now_us);
            note.key.set(key_of(request, bytes));
            note.request_bytes = request.bytes as u64;
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
        if self.pool_of(client).notes {
            self.notes.begin(pending, command, self.now_us);
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
            self.notes.table[pending as usize].sent_us = self.now_us;
        }
    }

    /// The reply to a noted request was moved whole.
    #[inline]
    pub(crate) fn note_reply(&mut self, link: u32, pending: u32) {
        let state = &self.links[link as usize];
        let note = &mut self.notes.table[pending as usize];
        note.answered_us = state.began_us;
    }

    /// All servers have answered a noted request, or it gets an error in place of its reply.
    #[cold]
    pub(crate) fn note_answered(&mut self, pending: u32) {
        self.notes.table[pending as usize].answered_us = self.now_us;
    }

    /// The noted request at the front of the client's queue is done with.
    #[inline(never)]
    pub(crate) fn note_delivered<S: Streams>(&mut self, streams: &S, client: u32, pending: u32) {
        let pool = self.clients[client as usize].pool;
        let note = &self.notes.table[pending as usize];
        if note.key_hash != 0
            && let Some(watch) = &mut self.key_watch
        {
            let seen = BigKey {
                pool,
                key: note.key,
                hash: note.key_hash,
                bytes: note.request_bytes.max(self.pendings[pending].sent_bytes),
                command: note.command,
            };
            watch.see(&seen);
        }
        let took_us = self.now_us - self.pendings[pending].taken_us;
        if took_us >= self.pools[pool as usize].slow_us {
            let end = match self.pendings[pending].answer {
                Answer::Text(_) => SlowEnd::Failed,
                Answer::Waiting | Answer::Held | Answer::Merged(_) => SlowEnd::Replied,
            };
            let note = self.notes.table[pending as usize];
            let given = self.pendings[pending].sent_bytes;
            self.write_down(streams, client, took_us, &note, given, end);
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
                sent_us: self.now_us,
                answered_us: self.now_us,
                ..Note::NONE
            };
            self.write_down(streams, client, waited_us, &note, 0, SlowEnd::Failed);
        }
    }

    /// The client of a noted request is gone.
    #[cold]
    pub(crate) fn note_gone<S: Streams>(&mut self, streams: &S, client: u32, pending: u32) {
        let pool = self.clients[client as usize].pool;
        let took_us = self.now_us - self.pendings[pending].taken_us;
        if took_us >= self.pools[pool as usize].slow_us {
            let note = self.notes.table[pending as usize];
            let given = self.pendings[pending].sent_bytes;
            self.write_down(streams, client, took_us, &note, given, SlowEnd::ClientGone);
        }
        self.pendings[pending].noted = false;
    }

    #[cold]
    fn write_down<S: Streams>(
        &mut self,
        streams: &S,
        client: u32,
        took_us: u64,
        note: &Note,
        reply_bytes: u64,
        end: SlowEnd,
    ) {
        let state = &self.clients[client as usize];
        let counters = &mut self.pools[state.pool as usize].counters;
        counters.slow_requests += 1;
        if self.notes.slow.len() == SLOW_REQUESTS_MAX {
            counters.slow_requests_unlogged += 1;
            return;
        }
        let taken_us = self.now_us - took_us;
        let sent_us = note.sent_us.max(taken_us);
        let answered_us = match note.answered_us {
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
            queue_us: sent_us - taken_us,
            server_us: answered_us - sent_us,
            turn_us: turn_came_us - answered_us,
            client_us: self.now_us - turn_came_us,
            end,
        });
    }
}

/// The first key of a request. What the proxy answers itself has passwords where others have keys.
#[inline]
fn key_of<'a>(request: &Request, bytes: &'a [u8]) -> &'a [u8] {
    match request.route {
        Route::Local(_) => &[],
        _ => bytes.get(request.key.clone()).unwrap_or_default(),
    }
}
