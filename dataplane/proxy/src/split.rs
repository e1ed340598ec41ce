//! Requests with several keys: one part per server that owns some of them.

use crate::fault::Fault;
use crate::hold::Chain;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::slab::NIL;
use crate::state::{Answer, Entry, Fragment, Join, KeyRecord, Lost, Phase, Split, Target};
use crate::streams::{StreamId, Streams};
use tidegate_protocol::{ReplyShape, Request, Split as SplitKind};

/// What one server gets of the request at hand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    /// Keys, and bytes of their wire forms.
    pub keys: u32,
    pub bytes: usize,
    pub link: u32,
    fragment: u32,
    /// The server cannot be reached, and its keys are misses.
    pub lost: Option<Fault>,
}

/// Why a request cannot be divided now.
pub(crate) enum Obstacle {
    /// The client waits; it stands in a list.
    Wait,
    /// It is answered with this.
    Fault(Fault),
}

impl Proxy {
    pub(crate) fn split<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        kind: SplitKind,
    ) -> bool {
        // The parts interleave reads of the request with writes to several connections, so it needs to stand still
        // somewhere contiguous: this copy is the price of dividing a request.
        let mut bytes = std::mem::take(&mut self.scratch);
        self.copy_request(streams, client, source, request.bytes, &mut bytes);
        let outcome = self.split_bytes(streams, client, request, &bytes[..request.bytes], kind);
        self.scratch = bytes;
        match outcome {
            Ok(None) => {
                self.count_request(client).requests_split += 1;
                self.drop_request(streams, client, source, request.bytes);
                true
            }
            Ok(Some(index)) => self.send_request(streams, client, request, source, index),
            Err(Obstacle::Wait) => false,
            Err(Obstacle::Fault(fault)) => match request.divided() {
                // It has more keys than the tables take at once.
                Some(front) if fault == Fault::RequestTooLarge => {
                    self.begin_chunks(streams, client, source, &front)
                }
                _ => self.fail_request(streams, client, request, source, fault),
            },
        }
    }

    pub(crate) fn copy_request<S: Streams>(
        &self,
        streams: &mut S,
        client: u32,
        source: Source,
        bytes: usize,
        out: &mut [u8],
    ) {
        match source {
            Source::Ring { .. } => {
                streams.copy(StreamId(client), &mut out[..bytes]);
            }
            Source::Hold(hold) => out[..bytes].copy_from_slice(&self.holds[hold as usize][..bytes]),
        }
    }

    /// `Some`: all keys belong to this one server, and the request can go there as it is.
    fn split_bytes<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        bytes: &[u8],
        kind: SplitKind,
    ) -> Result<Option<usize>, Obstacle> {
        let pool = self.clients[client as usize].pool;
        let mut touched = std::mem::take(&mut self.touched);
        let result = self
            .plan_parts(pool, request, bytes, &mut touched)
            .map_err(Obstacle::Fault)
            .and_then(|()| {
                if let [one] = touched[..]
                    && !self.misses(pool, kind)
                {
                    return Ok(Some(one as usize));
                }
                self.reserve_parts(streams, client, request, &touched, kind)?;
                if let Some(pending) = self.push_pending(streams, client, false) {
                    self.pendings[pending].several = self.several(client, request);
                    self.note_several(client, request, bytes, pending);
                    let split =
                        self.send_parts(streams, client, request, bytes, kind, &touched, pending);
                    self.complete_if_answered(streams, split);
                }
                Ok(None)
            });
        self.forget_parts(touched);
        result
    }

    /// Divides a chunk of a request that is under way as `pending`, also if all of it goes to one server.
    pub(crate) fn split_chunk<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        bytes: &[u8],
        kind: SplitKind,
        pending: u32,
    ) -> Result<Option<u32>, Obstacle> {
        let pool = self.clients[client as usize].pool;
        let mut touched = std::mem::take(&mut self.touched);
        let result = self
            .plan_parts(pool, request, bytes, &mut touched)
            .map_err(Obstacle::Fault)
            .and_then(|()| self.reserve_parts(streams, client, request, &touched, kind))
            .inspect(|()| {
                self.note_passed(pending, bytes.len());
                self.note_keys(client, request, bytes);
            })
            .map(|()| self.send_parts(streams, client, request, bytes, kind, &touched, pending));
        self.forget_parts(touched);
        result
    }

    pub(crate) fn forget_parts(&mut self, mut touched: Vec<u16>) {
        for index in touched.drain(..) {
            self.parts[index as usize] = Part::default();
        }
        self.touched = touched;
    }

    /// Counts what each server gets, and notes whose each key is.
    fn plan_parts(
        &mut self,
        pool: u16,
        request: &Request,
        bytes: &[u8],
        touched: &mut Vec<u16>,
    ) -> Result<(), Fault> {
        self.owners.clear();
        for key in request.keys(bytes) {
            let index = self.pools[pool as usize]
                .router
                .route(&bytes[key.key])
                .ok_or(Fault::AllEjected)?;
            let part = &mut self.parts[index];
            if part.keys == 0 {
                touched.push(index as u16);
            }
            part.keys += 1;
            // One more byte for the blank between memcached keys.
            part.bytes += key.wire.len() + 1;
            if self.owners.len() < self.keys.limit() {
                self.owners.push(index as u16);
            }
        }
        Ok(())
    }

    /// Sends every part. There is room for all of them, and a free entry for each in the tables.
    #[allow(clippy::too_many_arguments)] // The request, how it is divided, and on whose behalf.
    fn send_parts<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        bytes: &[u8],
        kind: SplitKind,
        touched: &[u16],
        pending: u32,
    ) -> Option<u32> {
        let split = self.splits.take(new_split(Join::Keys(kind), pending))?;
        let pool = self.clients[client as usize].pool;
        self.pools[pool as usize].counters.fragments += touched.len() as u64;
        for &index in touched {
            self.open_part(streams, split, pool, index, request, bytes, kind);
        }
        let mut keys = 0;
        for (place, key) in request.keys(bytes).enumerate() {
            // The router is not asked twice: a pool with the distribution `random` would get another answer, and the parts
            // would not be those that were counted.
            let index = self.owners[place];
            let Part {
                link,
                fragment,
                lost,
                ..
            } = self.parts[index as usize];
            let first_of_part = self.fragments[fragment].first_key == NIL;
            let hash = if kind == SplitKind::MemcachedGet {
                self.key_hash(&bytes[key.key])
            } else {
                0
            };
            self.note_key(split, fragment, hash);
            keys += 1;
            if lost.is_some() {
                continue;
            }
            let stream = self.links[link as usize].stream;
            if kind == SplitKind::MemcachedGet && !first_of_part {
                streams.send(stream, b" ");
            }
            streams.send(stream, &bytes[key.wire]);
        }
        self.splits[split].keys = keys;
        for &index in touched {
            if self.parts[index as usize].lost.is_none() {
                self.close_part(streams, index, request, kind);
            }
        }
        Some(split)
    }

    /// Takes a fragment and sends what stands before its keys.
    #[allow(clippy::too_many_arguments)] // As above.
    fn open_part<S: Streams>(
        &mut self,
        streams: &mut S,
        split: u32,
        pool: u16,
        index: u16,
        request: &Request,
        bytes: &[u8],
        kind: SplitKind,
    ) {
        let server = self.server_id(pool, index as usize).0;
        let lost = self.parts[index as usize].lost;
        let fragment = self.fragments.take(Fragment {
            split,
            server,
            next: self.splits[split].first_fragment,
            first_key: NIL,
            last_key: NIL,
            keys: 0,
            cursor: NIL,
            phase: Phase::Start,
            lost: lost.is_some(),
            value: 0,
            chain: Chain::EMPTY,
        });
        let Some(fragment) = fragment else { return };
        self.servers[server as usize].named += 1;
        let state = &mut self.splits[split];
        state.first_fragment = fragment;
        let part = &mut self.parts[index as usize];
        part.fragment = fragment;
        if let Some(fault) = lost {
            self.note_lost(split, Lost { server, fault });
            return;
        }
        state.outstanding += 1;
        let stream = self.links[part.link as usize].stream;
        let arguments = match kind {
            SplitKind::MemcachedGet => None,
            SplitKind::Mset => Some(1 + 2 * part.keys as usize),
            SplitKind::Mget | SplitKind::Sum => Some(1 + part.keys as usize),
        };
        if let Some(arguments) = arguments {
            streams.send(stream, b"*");
            streams.send(stream, itoa(arguments).bytes());
            streams.send(stream, b"\r\n");
        }
        streams.send(stream, &bytes[request.prefix.clone()]);
    }

    fn note_key(&mut self, split: u32, fragment: u32, hash: u64) {
        let record = KeyRecord {
            next: NIL,
            next_in_fragment: NIL,
            fragment,
            part_bytes: 0,
            hash,
        };
        let Some(key) = self.keys.take(record) else {
            return;
        };
        let state = &mut self.splits[split];
        match std::mem::replace(&mut state.last_key, key) {
            NIL => state.first_key = key,
            last => self.keys[last].next = key,
        }
        let part = &mut self.fragments[fragment];
        part.keys += 1;
        match std::mem::replace(&mut part.last_key, key) {
            NIL => (part.first_key, part.cursor) = (key, key),
            last => self.keys[last].next_in_fragment = key,
        }
    }

    fn close_part<S: Streams>(
        &mut self,
        streams: &mut S,
        index: u16,
        request: &Request,
        kind: SplitKind,
    ) {
        let Part {
            link,
            fragment,
            bytes,
            ..
        } = self.parts[index as usize];
        let shape = if kind == SplitKind::MemcachedGet {
            streams.send(self.links[link as usize].stream, b"\r\n");
            ReplyShape::Values
        } else {
            ReplyShape::Resp
        };
        let entry = Entry::new(Target::Fragment(fragment), shape);
        self.enqueue(link, entry, bytes + request.prefix.len());
    }

    /// Tells keys apart when VALUE blocks come back. Two keys with one hash could at worst swap their places in the merged reply:
    /// each block still carries its own key. The seed keeps anybody from choosing such keys.
    pub(crate) fn key_hash(&self, key: &[u8]) -> u64 {
        hash_of(self.seed, key)
    }

    /// Gives everything of a split request back. Fragments that still wait for replies must not exist.
    pub(crate) fn give_split(&mut self, split: u32) {
        let state = &mut self.splits[split];
        debug_assert_eq!(state.outstanding, 0, "every fragment is complete");
        let (mut key, mut fragment) = (state.first_key, state.first_fragment);
        let mut error = std::mem::replace(&mut state.error, Chain::EMPTY);
        if let Some(lost) = state.lost.take() {
            self.servers[lost.server as usize].named -= 1;
        }
        self.hold.clear(&mut error);
        while key != NIL {
            let next = self.keys[key].next;
            self.keys.give(key);
            key = next;
        }
        while fragment != NIL {
            let part = &mut self.fragments[fragment];
            let next = part.next;
            self.servers[part.server as usize].named -= 1;
            let mut chain = std::mem::replace(&mut part.chain, Chain::EMPTY);
            self.hold.clear(&mut chain);
            self.fragments.give(fragment);
            fragment = next;
        }
        self.splits.give(split);
        self.freed = true;
    }

    /// Notes the first server that has no part in the answer.
    pub(crate) fn note_lost(&mut self, split: u32, lost: Lost) {
        let noted = &mut self.splits[split].lost;
        if noted.is_none() {
            *noted = Some(lost);
            self.servers[lost.server as usize].named += 1;
        }
    }

    /// Completes a split request that no server was asked for: none could be reached.
    pub(crate) fn complete_if_answered<S: Streams>(&mut self, streams: &mut S, split: Option<u32>) {
        if let Some(split) = split
            && self.splits[split].outstanding == 0
        {
            self.complete_split(streams, split);
        }
    }

    /// All fragments are complete: the merged reply, or the error in its place, is ready.
    pub(crate) fn complete_split<S: Streams>(&mut self, streams: &mut S, split: u32) {
        let pending = self.splits[split].pending;
        let client = self.pendings[pending].client;
        if client == NIL {
            self.give_split(split);
            self.give_pending(pending);
            return;
        }
        self.note_answered(pending, self.now_us);
        match self.splits[split].join {
            Join::Keys(_) if self.splits[split].lost.is_some() => {
                self.pool_of(client).counters.replies_partial += 1;
            }
            Join::Keys(_) => {}
            Join::Servers(merge) => self.join_servers(client, split, merge),
            Join::Scan => self.join_scan(client, split),
        }
        if let Some(hold) = self.chunks_under_way(client, pending) {
            return self.complete_chunk(streams, client, hold, split);
        }
        if self.splits[split].has_failed() && self.pendings[pending].begun {
            return self.break_off(streams, client, split, pending);
        }
        if let Some(head) = self.pendings[pending].binary {
            return self.complete_binary(streams, client, split, head);
        }
        self.pendings[pending].answer = Answer::Merged(split);
        if self.clients[client as usize].head == pending {
            self.flush(streams, client);
        }
    }
}

/// A hash of `key` that only who knows the seed can foresee.
pub(crate) fn hash_of(seed: u64, key: &[u8]) -> u64 {
    let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash ^ key.len() as u64
}

pub(crate) fn new_split(join: Join, pending: u32) -> Split {
    Split {
        join,
        pending,
        first_key: NIL,
        last_key: NIL,
        keys: 0,
        first_fragment: NIL,
        outstanding: 0,
        sum: 0,
        failed: None,
        error: Chain::EMPTY,
        lost: None,
        own_section: false,
        cursor: 0,
        held_bytes: 0,
        header_sent: false,
        emit_key: NIL,
        emit_fragment: NIL,
        emit_left: 0,
        emit_started: false,
    }
}
