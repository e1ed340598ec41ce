//! Counting by command: what each was asked and answered, and how long it took, in rows of the statistics page.
//!
//! A request gets its row when it is looked at. It is counted when it is taken, and again when its reply is delivered. What comes in
//! bursts is mostly of one kind: it is summed up here, and goes to the page when something else comes or the turn ends.

use crate::notes::NotedKey;
use crate::proxy::Proxy;
use crate::reconfigure::GONE;
use crate::state::Pool;
use crate::streams::Streams;
use tidegate_channel::counters::PoolCounters;
use tidegate_channel::meters::{COMMAND_ROWS, Meters, OTHER_ROW, Row};

/// Names whose rows are remembered by where they stand in memory. There are some 300, of which a pool's clients use a dozen; two that
/// meet at one place cost each other a look at the list.
const KNOWN_NAMES: usize = 128;

/// The time of what is not measured: it waits for something to happen.
pub(crate) const UNTIMED: u64 = u64::MAX;

/// The request that is being looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtHand {
    pub row: Row,
    /// Bytes of it that are here.
    pub bytes: usize,
    /// Its key, if that is noted.
    pub key: NotedKey,
}

impl AtHand {
    pub fn new(row: Row, bytes: usize) -> Self {
        Self {
            row,
            bytes,
            key: NotedKey::NONE,
        }
    }
}

/// Several of the same.
#[derive(Clone, Copy, Debug)]
struct Burst {
    row: Row,
    /// All are of one turn, which has far fewer than fit.
    number: u32,
    /// When they began.
    since_us: u64,
    bytes: u64,
}

impl Burst {
    fn new(row: Row) -> Self {
        Self {
            row,
            since_us: 0,
            number: 0,
            bytes: 0,
        }
    }

    /// Whether one like that is of the same kind.
    #[inline]
    fn is_of(&self, row: Row, since_us: u64) -> bool {
        self.row == row && self.since_us == since_us
    }

    /// Adds one of the same kind.
    #[inline]
    fn add(&mut self, bytes: u64) {
        self.number += 1;
        self.bytes += bytes;
    }

    fn one(row: Row, since_us: u64, bytes: u64) -> Self {
        Self {
            row,
            since_us,
            number: 1,
            bytes,
        }
    }
}

/// What the turn came to so far that the page does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    taken: Burst,
    answered: Burst,
    served: Burst,
}

impl Turn {
    pub fn new(row: Row) -> Self {
        let nothing = Burst::new(row);
        Self {
            taken: nothing,
            answered: nothing,
            served: nothing,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Known {
    name: &'static str,
    row: Row,
}

impl Known {
    /// No command.
    fn nothing(row: Row) -> Self {
        Self { name: "", row }
    }
}

/// The commands of a pool that have a row.
#[derive(Debug)]
pub(crate) struct Commands {
    /// Its position in the configuration; `None`: it is in there no more, and nobody asks.
    pool: Option<usize>,
    /// In the order of their rows, which begin behind that of all others.
    names: Vec<&'static str>,
    /// The one that was asked for last. What comes in bursts is mostly of one kind.
    last: Known,
    known: [Known; KNOWN_NAMES],
    other: Row,
}

impl Commands {
    pub fn new(meters: &Meters, pool: usize) -> Self {
        let other = meters.command(pool, OTHER_ROW);
        let nothing = Known::nothing(other);
        Self {
            pool: Some(pool),
            names: Vec::with_capacity(COMMAND_ROWS - 1),
            last: nothing,
            known: [nothing; KNOWN_NAMES],
            other,
        }
    }

    /// Goes on where the commands of the same pool stood in the page before.
    fn go_on_from(&mut self, old: &mut Self) {
        std::mem::swap(&mut self.names, &mut old.names);
    }

    /// Its pool is configured no more.
    fn leave(&mut self, nobodys: Row) {
        self.pool = None;
        self.other = nobodys;
        self.last = Known::nothing(nobodys);
        self.known = [self.last; KNOWN_NAMES];
    }

    /// The row of what is no command.
    pub fn other(&self) -> Row {
        self.other
    }

    /// The row of a command.
    #[inline]
    pub fn row(&mut self, meters: &Meters, name: &'static str) -> Row {
        // Names come from tables of the parser, so nearly always it is the very same one.
        if std::ptr::eq(self.last.name, name) {
            return self.last.row;
        }
        self.other_row(meters, name)
    }

    /// The row of another command than the last.
    #[inline(never)]
    fn other_row(&mut self, meters: &Meters, name: &'static str) -> Row {
        let known = self.known[place_of(name)];
        if std::ptr::eq(known.name, name) {
            self.last = known;
            return known.row;
        }
        self.find(meters, name)
    }

    #[cold]
    fn find(&mut self, meters: &Meters, name: &'static str) -> Row {
        let place = self.names.iter().position(|known| *known == name);
        let row = match (self.pool, place) {
            (Some(pool), Some(place)) => meters.command(pool, place + 1),
            (Some(pool), None) if self.names.len() < COMMAND_ROWS - 1 => {
                self.names.push(name);
                let row = meters.command(pool, self.names.len());
                meters.claim(row, name);
                row
            }
            _ => self.other,
        };
        self.last = Known { name, row };
        self.known[place_of(name)] = self.last;
        row
    }
}

/// Where a name is remembered.
#[inline]
fn place_of(name: &'static str) -> usize {
    const GOLDEN: usize = 0x9e37_79b9_7f4a_7c15;
    name.as_ptr().addr().wrapping_mul(GOLDEN) >> (usize::BITS - KNOWN_NAMES.ilog2())
}

impl Proxy {
    /// The request at hand was taken, as far as its command is concerned.
    #[inline]
    pub(crate) fn count_taken(&mut self) {
        let AtHand { row, bytes, .. } = self.at_hand;
        // All that is taken in a turn is taken at once.
        if self.turn.taken.row == row {
            self.turn.taken.add(bytes as u64);
        } else {
            self.begin_taken(row, bytes as u64);
        }
    }

    /// The request at hand was taken.
    #[inline]
    pub(crate) fn count_request(&mut self, client: u32) -> &mut PoolCounters {
        self.count_taken();
        let counters = &mut self.pool_of(client).counters;
        counters.requests += 1;
        counters
    }

    /// The client has all that it is given for this request. Counts it if it is like the one before, and tells whether it is.
    #[inline]
    pub(crate) fn joins_answers(&mut self, pending: u32) -> bool {
        let entry = &self.pendings[pending];
        let joins = entry.is_plain() && self.turn.answered.is_of(entry.row, entry.taken_us);
        if joins {
            self.turn.answered.add(entry.sent_bytes);
        }
        joins
    }

    /// A server has replied to what it was sent then.
    #[inline]
    pub(crate) fn count_served(&mut self, row: Row, sent_us: u64) {
        if self.turn.served.is_of(row, sent_us) {
            self.turn.served.add(0);
        } else {
            self.begin_served(row, sent_us);
        }
    }

    #[inline(never)]
    fn begin_taken(&mut self, row: Row, bytes: u64) {
        let before = std::mem::replace(&mut self.turn.taken, Burst::one(row, 0, bytes));
        self.write_taken(before);
    }

    /// The client has all that it is given for this request, which is not like the one before, or of which more has to be known.
    pub(crate) fn count_answer<S: Streams>(&mut self, streams: &S, client: u32, pending: u32) {
        let entry = &self.pendings[pending];
        if entry.failed {
            self.meters.failed(entry.row);
        }
        let since_us = if entry.untimed {
            UNTIMED
        } else {
            entry.taken_us
        };
        let one = Burst::one(entry.row, since_us, entry.sent_bytes);
        if entry.watched {
            self.note_key_seen(client, pending);
        }
        if self.turn.answered.is_of(one.row, since_us) {
            self.turn.answered.add(one.bytes);
        } else {
            self.begin_answered(streams, client, pending, one);
        }
    }

    /// Begins with an answer, and compares it with what its pool calls slow on behalf of those that will be like it. What is slow is
    /// looked at one by one, and so is what has the row that pools share.
    fn begin_answered<S: Streams>(&mut self, streams: &S, client: u32, pending: u32, one: Burst) {
        let slow_us = self.pool_of(client).slow_us;
        let is_slow = self.now_us.checked_sub(one.since_us) >= Some(slow_us);
        if is_slow {
            self.note_slow(streams, client, pending);
        }
        if is_slow || one.row == self.meters.nobodys() {
            return self.write_answered(one);
        }
        let before = std::mem::replace(&mut self.turn.answered, one);
        self.write_answered(before);
    }

    #[inline(never)]
    fn begin_served(&mut self, row: Row, sent_us: u64) {
        let before = std::mem::replace(&mut self.turn.served, Burst::one(row, sent_us, 0));
        self.write_answered(before);
    }

    fn write_taken(&self, burst: Burst) {
        self.meters
            .taken(burst.row, burst.number.into(), burst.bytes);
    }

    fn write_answered(&self, burst: Burst) {
        let took_us = self.now_us.checked_sub(burst.since_us);
        self.meters
            .answered(burst.row, burst.number.into(), burst.bytes, took_us);
    }

    /// The clock is about to go on: everything of this turn goes to the page.
    pub(crate) fn end_turn(&mut self) {
        let turn = std::mem::replace(&mut self.turn, Turn::new(self.at_hand.row));
        if turn.taken.number > 0 {
            self.write_taken(turn.taken);
        }
        for burst in [turn.answered, turn.served] {
            if burst.number > 0 {
                self.write_answered(burst);
            }
        }
    }

    /// More bytes came of the request that its client has begun.
    pub(crate) fn count_rest(&mut self, client: u32, bytes: usize) {
        let row = self.clients[client as usize].row;
        self.meters.taken_more(row, bytes);
    }

    /// So many bytes of a request are at hand.
    pub(crate) fn hold_named(&mut self, client: u32, name: &'static str, bytes: usize) {
        let pool = &mut self.pools[self.clients[client as usize].pool as usize];
        let row = pool.commands.row(&self.meters, name);
        self.at_hand = AtHand::new(row, bytes);
    }

    /// What is at hand is no command that we know.
    pub(crate) fn hold_unknown(&mut self, client: u32, bytes: usize) {
        let row = self.pool_of(client).commands.other();
        self.at_hand = AtHand::new(row, bytes);
    }
}

impl Pool {
    /// Its commands go on where those of `old` stood.
    pub(crate) fn count_on_from(&mut self, old: &mut Self) {
        self.commands.go_on_from(&mut old.commands);
    }
}

impl Proxy {
    /// Counts in the page of another configuration from now on. What stays goes on there; `pools_to` tells the new numbers of pools, and
    /// `pools_from` and `servers_from` the old ones of pools and servers, where they had any. Returns the page of before.
    pub(crate) fn change_meters(
        &mut self,
        meters: Meters,
        pools_to: &[u16],
        pools_from: &[u16],
        servers_from: &[u16],
    ) -> Meters {
        let old = std::mem::replace(&mut self.meters, meters);
        let nobodys = self.meters.nobodys();
        for (s, server) in self.servers.iter_mut().enumerate() {
            server.row = nobodys;
            let Some(&from) = servers_from.get(s) else {
                continue;
            };
            server.row = self.meters.server(s);
            if from != GONE && server.row != nobodys {
                self.meters
                    .copy(server.row, &old, old.server(usize::from(from)));
            }
        }
        for (p, pool) in self.pools.iter_mut().enumerate() {
            match pools_from.get(p) {
                None => pool.commands.leave(nobodys),
                Some(&GONE) => {}
                Some(&from) => {
                    for index in 0..=pool.commands.names.len() {
                        let row = self.meters.command(p, index);
                        self.meters
                            .copy(row, &old, old.command(usize::from(from), index));
                    }
                }
            }
        }
        let new_row = |row: Row| {
            let (pool, index) = old.command_of(row)?;
            let pool = usize::from(*pools_to.get(pool)?);
            (pool < pools_from.len()).then(|| self.meters.command(pool, index))
        };
        for pending in self.pendings.all_mut() {
            pending.row = new_row(pending.row).unwrap_or(nobodys);
        }
        for client in &mut self.clients {
            client.row = new_row(client.row).unwrap_or(nobodys);
        }
        self.at_hand.row = nobodys;
        self.turn = Turn::new(nobodys);
        old
    }
}

/// Whether a reply that the proxy made is an error, in any dialect of text.
pub(crate) fn is_error_line(line: &[u8]) -> bool {
    matches!(line.first(), Some(b'-' | b'!'))
        || [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"]
            .iter()
            .any(|words| line.starts_with(words))
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
