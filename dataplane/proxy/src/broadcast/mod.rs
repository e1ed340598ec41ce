//! Requests that every server of a pool answers: DBSIZE, KEYS, FLUSHALL, SCRIPT, INFO, memcached's stats and flush_all, and SCAN, which
//! asks one server after the other.
//!
//! Such a request is a divided one without keys: each part is the whole request. The replies are read as they arrive, what has to
//! wait is held in the chains of the fragments, and the one reply is made of them when all are there. A request that all servers
//! must have carried out is an error if one of them could not be reached, which the error names; the others have carried it out. What
//! becomes of one that only reads is the pool's to say: see `tidegate_config::Partial`.

mod binary;
mod fields;
mod info;
mod join;
mod lost;
mod number;
mod read;
mod rules;
mod scan;
mod send;

pub(crate) use fields::Fields;

use crate::fault::Fault;
use crate::hold::Chain;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::slab::NIL;
use crate::split::{Obstacle, new_split};
use crate::state::{Entry, Fragment, Join, Lost, Phase, Target};
use crate::streams::Streams;
use tidegate_protocol::{Merge, ReplyShape, Request};

/// Whether all servers must have carried a request out. The others only read.
pub(crate) fn is_for_all(merge: Merge) -> bool {
    match merge {
        Merge::Ok | Merge::Same | Merge::FlushAll | Merge::BinaryFlush => true,
        Merge::Sum
        | Merge::Keys
        | Merge::AllOf
        | Merge::Random
        | Merge::Info
        | Merge::Stats
        | Merge::BinaryStats => false,
    }
}

/// Who answers a request for all servers.
enum Asked {
    /// Those in `Proxy::touched`; their links stand in `Proxy::parts`. The first server that does not, if one does not.
    Servers(Option<Lost>),
    /// Nobody: the answer would lack the part of this one.
    Nobody(Lost),
}

impl Proxy {
    /// Sends a request to every server of the client's pool. False: it stays where it is for now.
    #[cold]
    pub(crate) fn broadcast<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        merge: Merge,
    ) -> bool {
        let pool = self.clients[client as usize].pool;
        // What one server says needs no joining, except that INFO has a section of the proxy's own, and statistics in binary are
        // several replies to one request.
        if self.pools[pool as usize].servers == 1
            && !matches!(merge, Merge::Info | Merge::BinaryStats)
        {
            return self.send_to_only(streams, client, request, source);
        }
        let mut touched = std::mem::take(&mut self.touched);
        let outcome = match self.reserve_all(streams, client, request, merge, &mut touched) {
            Ok(Asked::Servers(lost)) => {
                let mut bytes = std::mem::take(&mut self.scratch);
                self.copy_request(streams, client, source, request.bytes, &mut bytes);
                let wire = &bytes[..request.bytes];
                let split = self.send_to_all(streams, client, request, wire, merge, &touched);
                self.scratch = bytes;
                if let Some(split) = split {
                    if let Some(lost) = lost {
                        self.note_lost(split, lost);
                    }
                    self.drop_request(streams, client, source, request.bytes);
                }
                split.is_some()
            }
            Ok(Asked::Nobody(lost)) => {
                self.fail_for_lost(streams, client, request, source, lost);
                true
            }
            Err(Obstacle::Wait) => false,
            Err(Obstacle::Fault(fault)) => {
                self.fail_request(streams, client, request, source, fault)
            }
        };
        self.forget_parts(touched);
        outcome
    }

    /// Sends a request as it is to the pool's only server.
    pub(super) fn send_to_only<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        if self.is_ejected(self.clients[client as usize].pool, 0) {
            return self.fail_request(streams, client, request, source, Fault::AllEjected);
        }
        let taken = self.send_request(streams, client, request, source, 0);
        self.pool_of(client).counters.requests_broadcast += u64::from(taken);
        taken
    }

    pub(super) fn is_ejected(&self, pool: u16, index: usize) -> bool {
        let server = self.server_id(pool, index).0;
        self.servers[server as usize].ejected_until_us != 0
    }

    /// Makes sure that every server that can be reached can be asked now, so that a request is never sent to some of them only.
    fn reserve_all<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        merge: Merge,
        touched: &mut Vec<u16>,
    ) -> Result<Asked, Obstacle> {
        let pool = self.clients[client as usize].pool;
        let servers = usize::from(self.pools[pool as usize].servers);
        self.reserve_tables(client, servers)?;
        let mut lost = None;
        for index in 0..servers {
            let server = self.server_id(pool, index).0;
            let link = if self.is_ejected(pool, index) {
                Err(Obstacle::Fault(Fault::Ejected))
            } else {
                self.reserve_link(streams, client, server, request.bytes)
            };
            match link {
                Ok(link) => {
                    self.parts[index].link = link;
                    touched.push(index as u16);
                }
                Err(Obstacle::Fault(fault)) if fault.is_of_server() => {
                    lost.get_or_insert(Lost { server, fault });
                }
                Err(obstacle) => return Err(obstacle),
            }
        }
        let incomplete = !is_for_all(merge) && !self.pools[pool as usize].misses;
        Ok(match lost {
            Some(lost) if touched.is_empty() || incomplete => Asked::Nobody(lost),
            lost => Asked::Servers(lost),
        })
    }

    /// Sends the request to the servers in `touched`. There is room for all of it, and a free entry for each in the tables.
    fn send_to_all<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        bytes: &[u8],
        merge: Merge,
        touched: &[u16],
    ) -> Option<u32> {
        let silent = request.noreply.is_some();
        let split = self.open_split(streams, client, Join::Servers(merge), silent)?;
        let pending = self.splits[split].pending;
        self.note_several(client, request, bytes, pending);
        if let ReplyShape::Binary(head) = request.reply {
            self.pendings[pending].binary = Some(head);
        }
        let pool = self.clients[client as usize].pool;
        self.count_request(client).requests_broadcast += 1;
        let cut = request
            .noreply
            .clone()
            .unwrap_or(request.bytes..request.bytes);
        // The list of fragments grows at its front, and is to be in the order of the servers.
        for &index in touched.iter().rev() {
            let server = self.server_id(pool, usize::from(index)).0;
            let link = self.parts[usize::from(index)].link;
            let stream = self.links[link as usize].stream;
            let start = match request.reply {
                ReplyShape::Binary(head) => self.send_header(streams, bytes, link, head),
                _ => 0,
            };
            streams.send(stream, &bytes[start..cut.start]);
            streams.send(stream, &bytes[cut.end..]);
            self.ask(split, link, server, request, bytes.len() - cut.len());
        }
        // SCRIPT EXISTS answers with as many numbers as it has digests.
        let state = &mut self.splits[split];
        state.keys = request.argc.saturating_sub(2);
        state.own_section = merge == Merge::Info && info::shows_own(request, bytes);
        Some(split)
    }

    /// Takes the entries of a request that is joined without keys.
    pub(super) fn open_split<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        join: Join,
        silent: bool,
    ) -> Option<u32> {
        if self.splits.room() == 0 {
            return None;
        }
        let pending = self.push_pending(streams, client, silent)?;
        self.splits.take(new_split(join, pending))
    }

    /// Notes that a server was sent its part.
    pub(super) fn ask(
        &mut self,
        split: u32,
        link: u32,
        server: u16,
        request: &Request,
        bytes: usize,
    ) {
        let state = &mut self.splits[split];
        let fragment = self.fragments.take(Fragment {
            split,
            server,
            next: state.first_fragment,
            first_key: NIL,
            last_key: NIL,
            keys: 0,
            cursor: NIL,
            phase: Phase::Start,
            lost: false,
            value: 0,
            chain: Chain::EMPTY,
        });
        let Some(fragment) = fragment else { return };
        self.servers[server as usize].named += 1;
        state.first_fragment = fragment;
        state.outstanding += 1;
        let pool = self.servers[server as usize].pool;
        self.pools[pool as usize].counters.fragments += 1;
        let entry = Entry::new(Target::Fragment(fragment), request.reply);
        self.enqueue(link, entry, bytes);
    }
}
