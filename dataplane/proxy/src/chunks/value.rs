//! A pair of MSET that is larger than a hold: passed on as a SET while it arrives.

use super::{Chunked, Step};
use crate::fault::Fault;
use crate::hold::Chain;
use crate::proxy::Proxy;
use crate::slab::NIL;
use crate::state::{Entry, Fragment, Join, Phase, Target};
use crate::streams::{StreamId, Streams};
use crate::waits::WaitFor;
use tidegate_protocol::{ReplyShape, Split as SplitKind, ValueFront};

/// What a pair of MSET that is passed on alone starts with.
const SET_FRONT: &[u8] = b"*3\r\n$3\r\nSET\r\n";

impl Proxy {
    /// Starts a SET with the pair at the front of the hold, whose value is too large to be held.
    pub(super) fn begin_value<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
        value: &ValueFront,
    ) -> bool {
        let Chunked {
            pending,
            name_bytes,
            ..
        } = self.chunked[hold as usize];
        if self.splits.room() == 0 || self.fragments.room() == 0 {
            self.wait(client, WaitFor::Table);
            return false;
        }
        let link = match self.link_for_value(streams, client, hold, value) {
            Ok(Some(link)) => link,
            Ok(None) => return false,
            Err(fault) => return self.fail_chunks(streams, client, hold, fault),
        };
        let server = self.links[link as usize].server;
        let Some(fragment) = self.open_value(pending, server) else {
            self.park_link(streams, link);
            return self.fail_chunks(streams, client, hold, Fault::NoResource);
        };
        let stream = self.links[link as usize].stream;
        let buffer = &mut self.holds[hold as usize];
        streams.send(stream, SET_FRONT);
        streams.send(stream, &buffer[name_bytes..name_bytes + value.bytes]);
        buffer.drain(name_bytes..name_bytes + value.bytes);
        let entry = Entry::untimed(Target::Fragment(fragment), ReplyShape::Resp);
        self.enqueue(link, entry, SET_FRONT.len() + value.bytes);
        self.links[link as usize].writer = client;
        self.pool_of(client).counters.fragments += 1;
        let chunk = &mut self.chunked[hold as usize];
        chunk.keys_left -= 1;
        chunk.step = Step::Value {
            link,
            rest: value.rest,
        };
        true
    }

    /// A connection to the server of the pair at the front of the hold, with room for what stands before the value. `None`: the
    /// client waits for it.
    fn link_for_value<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
        value: &ValueFront,
    ) -> Result<Option<u32>, Fault> {
        let pool = self.clients[client as usize].pool;
        let pair = &self.holds[hold as usize][self.chunked[hold as usize].name_bytes..];
        let key = &pair[value.key.0..value.key.1];
        let router = &mut self.pools[pool as usize].router;
        let index = router.route(key).ok_or(Fault::AllEjected)?;
        let server = self.server_id(pool, index).0;
        let flavour = self.clients[client as usize].flavour;
        let Some(link) = self.exclusive_link(streams, server, flavour)? else {
            self.wait_for_server(client, server);
            return Ok(None);
        };
        let room = streams.send_room(self.links[link as usize].stream);
        if room < SET_FRONT.len() + value.bytes {
            // The configuration keeps holds smaller than server buffers; only an AUTH of unusual length gets here.
            self.park_link(streams, link);
            return Err(Fault::NoResource);
        }
        Ok(Some(link))
    }

    /// Takes the entries of a chunk that is one SET.
    fn open_value(&mut self, pending: u32, server: u16) -> Option<u32> {
        let split = self.splits.take(crate::split::new_split(
            Join::Keys(SplitKind::Mset),
            pending,
        ))?;
        let fragment = self.fragments.take(Fragment {
            split,
            server,
            next: NIL,
            first_key: NIL,
            last_key: NIL,
            keys: 0,
            cursor: NIL,
            phase: Phase::Start,
            lost: false,
            value: 0,
            chain: Chain::EMPTY,
        });
        let state = &mut self.splits[split];
        match fragment {
            Some(fragment) => {
                self.servers[server as usize].named += 1;
                state.first_fragment = fragment;
                state.outstanding = 1;
            }
            None => self.splits.give(split),
        }
        fragment
    }

    /// The part that a value belongs to has its outcome before all of the value was passed on.
    pub(super) fn fail_value<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
        split: u32,
        link: u32,
    ) {
        // A server can refuse half a value, but it cannot have stored it.
        let garbage = self.pool_of(client).text(Fault::Garbage);
        let state = &mut self.splits[split];
        if !state.has_failed() {
            state.failed = Some(garbage);
        }
        self.begin_drop(streams, client, hold);
        // It is not there any more if that is why the part failed.
        if self.links[link as usize].writer == client {
            self.drop_link(streams, link);
        }
    }

    /// Passes on what has arrived of a value: first from the hold, then from the receive buffer.
    pub(super) fn pass_value<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        hold: u32,
    ) -> bool {
        let id = StreamId(client);
        loop {
            let Chunked {
                name_bytes, step, ..
            } = self.chunked[hold as usize];
            let Step::Value { link, mut rest } = step else {
                return true;
            };
            if rest.is_done() {
                // Had it been answered, it would have failed by now.
                self.end_writing(link);
                return self.all_sent(streams, client, hold);
            }
            let stream = self.links[link as usize].stream;
            let room = streams.send_room(stream);
            let held = &self.holds[hold as usize][name_bytes..];
            let from_hold = !held.is_empty();
            let bytes = if from_hold { held } else { streams.peek(id) };
            if room == 0 {
                self.watch(client);
                return false;
            }
            if bytes.is_empty() {
                self.want_bytes(streams, client);
                return false;
            }
            let scan = match rest.measure(&bytes[..bytes.len().min(room)]) {
                Ok(scan) => scan,
                Err(refusal) => return self.refuse_chunks(streams, client, hold, &refusal),
            };
            if from_hold {
                streams.send(stream, &held[..scan.bytes]);
                self.holds[hold as usize].drain(name_bytes..name_bytes + scan.bytes);
            } else {
                crate::dispatch::move_all(streams, id, stream, scan.bytes);
                self.count_rest(client, scan.bytes);
            }
            let server = self.links[link as usize].server;
            self.servers[server as usize].counters.request_bytes += scan.bytes as u64;
            self.note_streamed(link, scan.bytes);
            self.chunked[hold as usize].step = Step::Value { link, rest };
            self.clients[client as usize].progress_us = self.now_us;
        }
    }
}
