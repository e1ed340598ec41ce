//! SCAN over all servers of a pool, one after the other.
//!
//! The client's cursor is `server's cursor * servers + server's position`, so it says all there is to say and nothing is remembered
//! between two steps. Redis makes a cursor of as many bits as its largest table has: with 2^48 keys on a server and 2^16 servers it still
//! fits 64 bits, and what does not is an error. When a server is through, the next step starts at the next one with 0; the last one
//! ends it with 0. A client sees each key exactly as often as the servers tell it.

use super::send::send_line;
use crate::fault::Fault;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::read::Source;
use crate::slab::NIL;
use crate::split::Obstacle;
use crate::state::{Join, Lost};
use crate::streams::{StreamId, Streams};
use std::ops::Range;
use tidegate_protocol::{Request, parse_cursor};

const INVALID_CURSOR: &str = "-ERR invalid cursor\r\n";

const CURSOR_TOO_LARGE: &str = "-ERR the server's cursor does not fit that of the proxy\r\n";

/// Most bytes by which a request grows when its cursor is replaced: `$20`, CR LF, 20 digits, CR LF.
const CURSOR_WIRE_BYTES_MAX: usize = 27;

/// Where a step of SCAN goes.
struct Step {
    index: usize,
    cursor: u64,
}

impl Proxy {
    /// Takes one step of SCAN. False: the request stays where it is for now.
    #[cold]
    pub(crate) fn scan<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) -> bool {
        let pool = self.clients[client as usize].pool;
        if self.pools[pool as usize].servers == 1 {
            // Both cursors are the same.
            return self.send_to_only(streams, client, request, source);
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        self.copy_request(streams, client, source, request.bytes, &mut bytes);
        let outcome = self.scan_bytes(streams, client, request, source, &bytes[..request.bytes]);
        self.scratch = bytes;
        match outcome {
            Ok(true) => {
                self.count_request(client).requests_broadcast += 1;
                self.drop_request(streams, client, source, request.bytes);
                true
            }
            // It has been answered.
            Ok(false) => true,
            Err(Obstacle::Wait) => false,
            Err(Obstacle::Fault(fault)) => {
                self.fail_request(streams, client, request, source, fault)
            }
        }
    }

    /// True: a server was asked.
    fn scan_bytes<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
        bytes: &[u8],
    ) -> Result<bool, Obstacle> {
        let pool = self.clients[client as usize].pool;
        let servers = u64::from(self.pools[pool as usize].servers);
        let argument = request.arguments(bytes).nth(1).unwrap_or(0..0);
        let header = header_start(bytes, &argument);
        let (Some(cursor), Some(header)) = (parse_cursor(&bytes[argument.clone()]), header) else {
            self.refuse_cursor(streams, client, request, source);
            return Ok(false);
        };
        self.reserve_tables(client, 1)?;
        let mut step = Step {
            index: (cursor % servers) as usize,
            cursor: cursor / servers,
        };
        let link = loop {
            let lost = match self.reserve_step(streams, client, request, &step) {
                Ok(link) => break Some(link),
                Err(Obstacle::Fault(fault)) if fault.is_of_server() => Lost {
                    server: self.server_id(pool, step.index).0,
                    fault,
                },
                Err(obstacle) => return Err(obstacle),
            };
            if !self.pools[pool as usize].misses {
                self.fail_for_lost(streams, client, request, source, lost);
                return Ok(false);
            }
            step.index += 1;
            step.cursor = 0;
            if step.index as u64 == servers {
                break None;
            }
        };
        let Some(split) = self.open_split(streams, client, Join::Scan, false) else {
            return Err(Obstacle::Fault(Fault::NoEntries));
        };
        let pending = self.splits[split].pending;
        self.note_several(client, request, bytes, pending);
        match link {
            Some(link) => {
                let bulk = header..argument.end;
                self.send_step(streams, split, link, request, bytes, &bulk, &step);
            }
            // No server is left: that is the end.
            None => self.complete_split(streams, split),
        }
        Ok(true)
    }

    fn refuse_cursor<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        source: Source,
    ) {
        self.count_request(client).requests_refused += 1;
        self.drop_request(streams, client, source, request.bytes);
        self.answer_text(streams, client, INVALID_CURSOR);
    }

    fn reserve_step<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        request: &Request,
        step: &Step,
    ) -> Result<u32, Obstacle> {
        let pool = self.clients[client as usize].pool;
        if self.is_ejected(pool, step.index) {
            return Err(Obstacle::Fault(Fault::Ejected));
        }
        let server = self.server_id(pool, step.index).0;
        let bytes = request.bytes + CURSOR_WIRE_BYTES_MAX;
        self.reserve_link(streams, client, server, bytes)
    }

    /// Sends the request with the server's cursor in the place of the client's `bulk`.
    #[allow(clippy::too_many_arguments)] // The request, its parts, and where it goes.
    fn send_step<S: Streams>(
        &mut self,
        streams: &mut S,
        split: u32,
        link: u32,
        request: &Request,
        bytes: &[u8],
        bulk: &Range<usize>,
        step: &Step,
    ) {
        let stream = self.links[link as usize].stream;
        let server = self.links[link as usize].server;
        let digits = itoa(step.cursor as usize);
        streams.send(stream, &bytes[..bulk.start]);
        send_line(streams, stream, b"$", digits.bytes().len() as i64);
        streams.send(stream, digits.bytes());
        streams.send(stream, &bytes[bulk.end..]);
        self.splits[split].cursor = step.cursor;
        self.ask(split, link, server, request, bytes.len());
    }

    /// Notes where the server wants to go on, as the client's cursor.
    pub(super) fn note_cursor(&mut self, fragment: u32, cursor: u64) {
        let part = &self.fragments[fragment];
        let server = &self.servers[part.server as usize];
        let servers = u64::from(self.pools[server.pool as usize].servers);
        let index = server.index as u64;
        let next = if cursor == 0 {
            Some(next_server(index, servers))
        } else {
            cursor
                .checked_mul(servers)
                .and_then(|cursor| cursor.checked_add(index))
        };
        let state = &mut self.splits[part.split];
        match next {
            Some(next) => state.cursor = next,
            None => state.failed = Some(CURSOR_TOO_LARGE),
        }
    }

    /// Prepares the reply to a step.
    pub(crate) fn join_scan(&mut self, client: u32, split: u32) {
        if self.splits[split].first_fragment == NIL {
            self.splits[split].cursor = 0;
            self.pool_of(client).counters.replies_partial += 1;
            return;
        }
        if self.judge_lost(client, split) {
            return;
        }
        let fragment = self.splits[split].first_fragment;
        self.splits[split].emit_fragment = fragment;
        if self.fragments[fragment].lost {
            let server = &self.servers[self.fragments[fragment].server as usize];
            let servers = u64::from(self.pools[server.pool as usize].servers);
            self.splits[split].cursor = next_server(server.index as u64, servers);
        }
    }

    /// The front of the reply: the cursor, and without a server's reply an empty array of elements.
    pub(super) fn send_scan_front<S: Streams>(
        &mut self,
        streams: &mut S,
        id: StreamId,
        split: u32,
    ) {
        let state = &self.splits[split];
        let digits = itoa(state.cursor as usize);
        streams.send(id, b"*2\r\n");
        send_line(streams, id, b"$", digits.bytes().len() as i64);
        streams.send(id, digits.bytes());
        streams.send(id, b"\r\n");
        let has_elements = state.emit_fragment != NIL && !self.fragments[state.emit_fragment].lost;
        if !has_elements {
            streams.send(id, b"*0\r\n");
        }
    }
}

/// Where the bulk of an argument starts: in front of it stand `$`, the number of its bytes, CR LF.
fn header_start(bytes: &[u8], argument: &Range<usize>) -> Option<usize> {
    let header_bytes = 3 + itoa(argument.len()).bytes().len();
    let start = argument.start.checked_sub(header_bytes)?;
    (bytes[start] == b'$').then_some(start)
}

/// The cursor that starts at the server behind this one; 0 behind the last.
fn next_server(index: u64, servers: u64) -> u64 {
    (index + 1) % servers
}
