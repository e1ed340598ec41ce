//! The table of a worker's open connections: what its successor needs to end them.
//!
//! A worker with a TCP of its own takes all that it knows of its connections with it when it dies. A peer that has something to send is
//! answered with RST by the successor, but one that only waits, for a reply or for a message, would wait for ever, and a server would go
//! on serving a connection that nobody reads. So each connection has an entry in the statistics page, which the manager holds beyond the
//! worker's death: written when the connection is established, forgotten when it ends. Of what happens in between only the sequence
//! numbers are noted, in one word. Nobody reads the table while its worker lives, so it needs no sequence lock.

use crate::paths::{address_words, mac_word, word_mac};
use crate::shm::{LoadWords, ReadableWords, ShmError, WritableWords, fence};
use crate::statistics::StatisticsLayout;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

/// Most connections that a worker is told of. Why: the payload of a start holds [`crate::payload::PAYLOAD_BYTES_MAX`], of which the
/// largest configuration takes 19 MiB and this many entries, at up to 150 bytes each, less than 20. Too low: the ends of the others hear
/// nothing until they ask. Too high: no worker could be started.
pub const ORPHANS_MAX: usize = 131_072;

/// How many connections a worker may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSlots {
    /// Of clients; they have the first numbers.
    pub clients: usize,
    /// To servers.
    pub servers: usize,
}

impl FlowSlots {
    const fn total(self) -> usize {
        self.clients + self.servers
    }

    /// Words of the table.
    pub(crate) const fn words(self) -> usize {
        if self.total() == 0 {
            0
        } else {
            HEADER_WORDS + self.total() * ENTRY_WORDS
        }
    }
}

/// One behind the highest client and server that ever had an entry, on a cache line of its own: slots are given out from the lowest
/// number on, so that who reads the table need not look at all of it.
const HEADER_WORDS: usize = 8;
/// An entry is a cache line.
const ENTRY_WORDS: usize = 8;
/// Words of an entry that mean something.
const VALUES: usize = 7;
/// Where the sequence numbers stand in it.
const NUMBERS: usize = 6;

const OPEN: u64 = 1;
const V6: u64 = 2;
const TIMESTAMPS: u64 = 4;

/// An open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "[u64; VALUES]", try_from = "[u64; VALUES]")]
pub struct FlowRecord {
    /// Our end.
    pub local: SocketAddr,
    /// The other end, of the same family.
    pub remote: SocketAddr,
    /// Position of the port that it goes through.
    pub port: u8,
    /// The link address on the way to the other end.
    pub mac: [u8; 6],
    /// Segments carry timestamps.
    pub timestamps: bool,
    /// SND.NXT.
    pub sent_end: u32,
    /// RCV.NXT.
    pub received_end: u32,
}

/// Not what a worker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no connection can be like this")]
pub struct NoFlow;

const fn numbers(sent_end: u32, received_end: u32) -> u64 {
    (sent_end as u64) << 32 | received_end as u64
}

impl From<FlowRecord> for [u64; VALUES] {
    fn from(flow: FlowRecord) -> Self {
        let family = if flow.local.is_ipv6() { V6 } else { 0 };
        let timestamps = if flow.timestamps { TIMESTAMPS } else { 0 };
        let [remote_high, remote_low] = address_words(flow.remote.ip());
        let [local_high, local_low] = address_words(flow.local.ip());
        [
            OPEN | family | timestamps | u64::from(flow.port) << 8 | mac_word(flow.mac) << 16,
            u64::from(flow.remote.port()) << 16 | u64::from(flow.local.port()),
            remote_high,
            remote_low,
            local_high,
            local_low,
            numbers(flow.sent_end, flow.received_end),
        ]
    }
}

impl TryFrom<[u64; VALUES]> for FlowRecord {
    type Error = NoFlow;

    /// The words may be anybody's: what comes out is a connection that there can be.
    fn try_from(values: [u64; VALUES]) -> Result<Self, NoFlow> {
        let [
            state,
            ports,
            remote_high,
            remote_low,
            local_high,
            local_low,
            numbers,
        ] = values;
        let ipv6 = state & V6 != 0;
        if state & 0xff & !(V6 | TIMESTAMPS) != OPEN || ports >> 32 != 0 {
            return Err(NoFlow);
        }
        let address = |high: u64, low: u64| {
            if ipv6 {
                let address = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
                let is_host = !address.is_unspecified() && !address.is_multicast();
                return is_host.then_some(IpAddr::V6(address));
            }
            let address = Ipv4Addr::from_bits(u32::try_from(low).ok().filter(|_| high == 0)?);
            let is_host =
                !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
            is_host.then_some(IpAddr::V4(address))
        };
        let end = |high, low, port: u16| {
            let address = address(high, low).filter(|_| port != 0);
            address.map(|address| SocketAddr::new(address, port))
        };
        let mac = word_mac(state >> 16);
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err(NoFlow);
        }
        Ok(Self {
            local: end(local_high, local_low, ports as u16).ok_or(NoFlow)?,
            remote: end(remote_high, remote_low, (ports >> 16) as u16).ok_or(NoFlow)?,
            port: (state >> 8) as u8,
            mac,
            timestamps: state & TIMESTAMPS != 0,
            sent_end: (numbers >> 32) as u32,
            received_end: numbers as u32,
        })
    }
}

/// The worker's side.
#[derive(Debug)]
pub struct FlowsWriter {
    words: WritableWords,
    /// Where the header is.
    start: usize,
    /// Where the sequence numbers of slot 0 are.
    numbers: usize,
    slots: FlowSlots,
}

impl FlowsWriter {
    /// Maps the page that the manager made.
    pub fn map(file: impl AsFd, layout: StatisticsLayout) -> Result<Self, ShmError> {
        let words = WritableWords::map(file, layout.words())?;
        Ok(Self::new(words, layout.flows_start(), layout.flows))
    }

    /// Writes where nobody reads it.
    pub fn nowhere() -> Self {
        Self::new(WritableWords::private(0), 0, FlowSlots::default())
    }

    fn new(words: WritableWords, start: usize, slots: FlowSlots) -> Self {
        Self {
            words,
            start,
            numbers: start + HEADER_WORDS + NUMBERS,
            slots,
        }
    }

    /// Where the entry of `slot` is.
    fn entry(&self, slot: usize) -> Option<usize> {
        let at = self.start + HEADER_WORDS + slot * ENTRY_WORDS;
        (slot < self.slots.total()).then_some(at)
    }

    /// The connection of `slot` is open.
    pub fn note(&self, slot: usize, flow: &FlowRecord) {
        let Some(at) = self.entry(slot) else {
            return;
        };
        let words = &self.words;
        // Whoever reads it after our death finds it whole or not at all.
        words.store(at, 0, Ordering::Relaxed);
        fence(Ordering::Release);
        let values: [u64; VALUES] = (*flow).into();
        for (index, value) in values.into_iter().enumerate().skip(1) {
            words.store(at + index, value, Ordering::Relaxed);
        }
        words.store(at, values[0], Ordering::Release);
        let used = self.start + usize::from(slot >= self.slots.clients);
        if words.load(used, Ordering::Relaxed) <= slot as u64 {
            words.store(used, slot as u64 + 1, Ordering::Release);
        }
    }

    /// It has come so far.
    #[inline]
    pub fn note_numbers(&self, slot: usize, sent_end: u32, received_end: u32) {
        // The table is the last of the page: what has no place in it has none at all.
        if let Some(word) = self.words.slice().get(self.numbers + slot * ENTRY_WORDS) {
            word.store(numbers(sent_end, received_end), Ordering::Relaxed);
        }
    }

    /// It is over.
    pub fn forget(&self, slot: usize) {
        if let Some(at) = self.entry(slot) {
            self.words.store(at, 0, Ordering::Release);
        }
    }
}

/// What a worker that is dead left open. It may have written anything: of that only what can be a connection counts.
pub(crate) fn read(words: &ReadableWords, layout: StatisticsLayout) -> Vec<FlowRecord> {
    let total = layout.flows.total();
    if total == 0 {
        return Vec::new();
    }
    let start = layout.flows_start();
    let used = |word: usize, first: usize, end: usize| {
        let used = words.load(start + word, Ordering::Acquire);
        first..used.min(end as u64).max(first as u64) as usize
    };
    let clients = layout.flows.clients;
    let entry = |slot: usize| {
        let at = start + HEADER_WORDS + slot * ENTRY_WORDS;
        let state = words.load(at, Ordering::Acquire);
        if state == 0 {
            return None;
        }
        let rest = |index| words.load(at + index, Ordering::Relaxed);
        let values = std::array::from_fn(|index| if index == 0 { state } else { rest(index) });
        FlowRecord::try_from(values).ok()
    };
    let all = used(0, 0, clients).chain(used(1, clients, total));
    all.filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::StatisticsReader;
    use std::fmt::Write;
    use tidegate_config::Config;
    use tidegate_config::limits::{FILE_BYTES_MAX, SERVERS_MAX};

    const LAYOUT: StatisticsLayout = StatisticsLayout {
        queues: 1,
        pools: 1,
        servers: 1,
        flows: FlowSlots {
            clients: 5,
            servers: 2,
        },
    };

    fn flow(local: &str, remote: &str) -> FlowRecord {
        FlowRecord {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            port: 3,
            mac: [2, 0xff, 0, 0, 0, 9],
            timestamps: local.starts_with('['),
            sent_end: u32::MAX,
            received_end: 7,
        }
    }

    fn v4() -> FlowRecord {
        flow("192.0.2.1:6379", "192.0.2.77:40000")
    }

    fn v6() -> FlowRecord {
        flow("[2001:db8::1]:65535", "[2001:db8::2]:1")
    }

    #[test]
    fn what_is_open_is_found_and_what_was_closed_is_not() {
        let file = LAYOUT.create().unwrap();
        let writer = FlowsWriter::map(&file, LAYOUT).unwrap();
        let reader = StatisticsReader::map(&file, LAYOUT).unwrap();
        assert_eq!(reader.flows(), []);
        writer.note(4, &v4());
        writer.note(5, &v6());
        writer.note(6, &v4());
        assert_eq!(reader.flows(), [v4(), v6(), v4()]);
        writer.forget(6);
        writer.note_numbers(4, 1, 2);
        let moved_on = FlowRecord {
            sent_end: 1,
            received_end: 2,
            ..v4()
        };
        assert_eq!(reader.flows(), [moved_on, v6()]);
        writer.note(4, &v6());
        assert_eq!(reader.flows(), [v6(), v6()]);
    }

    #[test]
    fn slots_that_the_table_has_not_are_nobodys() {
        let file = LAYOUT.create().unwrap();
        let writer = FlowsWriter::map(&file, LAYOUT).unwrap();
        let reader = StatisticsReader::map(&file, LAYOUT).unwrap();
        for writer in [&writer, &FlowsWriter::nowhere()] {
            writer.note(7, &v4());
            writer.note_numbers(7, 1, 2);
            writer.forget(7);
        }
        assert_eq!(reader.flows(), []);
    }

    #[test]
    fn the_table_stands_behind_all_that_is_counted() {
        let none = StatisticsLayout {
            flows: FlowSlots::default(),
            ..LAYOUT
        };
        assert_eq!(LAYOUT.flows_start(), none.words());
        assert_eq!(
            LAYOUT.words() - none.words(),
            HEADER_WORDS + 7 * ENTRY_WORDS
        );
        let file = none.create().unwrap();
        FlowsWriter::map(&file, none).unwrap().note(0, &v4());
        assert_eq!(StatisticsReader::map(&file, none).unwrap().flows(), []);
    }

    #[test]
    fn a_start_carries_them_and_refuses_what_is_none() {
        let text = serde_json::to_string(&[v4(), v6()]).unwrap();
        assert_eq!(
            serde_json::from_str::<Vec<FlowRecord>>(&text).unwrap(),
            [v4(), v6()]
        );
        assert!(serde_json::from_str::<FlowRecord>("[1,0,0,0,0,0,0]").is_err());
    }

    /// Bytes of a configuration with `servers` whose names are so long that a file has room for no more than [`SERVERS_MAX`] of them.
    fn configuration_bytes(servers: u32) -> u64 {
        let beside_names = r#""255.255.255.255:65535:1 ","#.len();
        let name_bytes = FILE_BYTES_MAX / SERVERS_MAX - beside_names;
        let mut text = String::from(
            "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\n\
             listen = \"192.0.2.1:1\"\nservers = [",
        );
        for number in 0..servers {
            let address = Ipv4Addr::from_bits(0x0aff_0000 + number);
            write!(text, "\"{address}:65535:1 {number:0>name_bytes$}\",").unwrap();
        }
        text += "]\n[worker]\nserver_connections_max = 65536\n";
        let config = Config::parse(&text, "test").unwrap();
        serde_json::to_vec(&config).unwrap().len() as u64
    }

    #[test]
    fn the_longest_list_fits_in_a_payload_beside_the_largest_configuration() {
        let longest = FlowRecord {
            local: "[fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
                .parse()
                .unwrap(),
            remote: "[fe80:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"
                .parse()
                .unwrap(),
            port: u8::MAX,
            mac: [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff],
            timestamps: true,
            sent_end: u32::MAX,
            received_end: u32::MAX,
        };
        let bytes = serde_json::to_vec(&longest).unwrap().len() + 1;
        assert!(bytes <= 150, "{bytes}");
        let of_hundred = configuration_bytes(200) - configuration_bytes(100);
        let configuration = of_hundred * SERVERS_MAX as u64 / 100;
        assert!(
            ((ORPHANS_MAX * bytes) as u64 + configuration) < crate::payload::PAYLOAD_BYTES_MAX,
            "{configuration}"
        );
    }

    #[test]
    fn hostile_words_are_no_connection() {
        let good: [u64; VALUES] = v4().into();
        assert_eq!(FlowRecord::try_from(good), Ok(v4()));
        let with = |index: usize, value: u64| {
            let mut values = good;
            values[index] = value;
            FlowRecord::try_from(values)
        };
        let group_mac = good[0] | 1 << 56;
        let no_mac = good[0] & 0xffff;
        for (index, value) in [
            (0, 0),
            (0, good[0] | 0x80),
            (0, good[0] & !OPEN),
            (0, group_mac),
            (0, no_mac),
            (1, u64::MAX),
            (1, 0),
            (1, 6_379),
            (1, 40_000 << 16),
            (2, 1),
            (3, 0),
            (3, u64::from(u32::MAX)),
            (3, 0xe000_0001),
            (3, 1 << 32),
            (4, 1),
            (5, 0),
        ] {
            assert_eq!(with(index, value), Err(NoFlow), "{index}: {value:x}");
        }
        let good: [u64; VALUES] = v6().into();
        let mut group = good;
        group[2] = 0xff02 << 48;
        assert_eq!(FlowRecord::try_from(group), Err(NoFlow));
        assert_eq!(FlowRecord::try_from([u64::MAX; VALUES]), Err(NoFlow));
    }

    #[test]
    fn a_hostile_table_ends() {
        let file = LAYOUT.create().unwrap();
        let reader = StatisticsReader::map(&file, LAYOUT).unwrap();
        let vandal = WritableWords::map(&file, LAYOUT.words()).unwrap();
        for value in [u64::MAX, u64::MAX - 1, 1, 1 << 16 | 1] {
            for index in 0..vandal.words() {
                vandal.store(index, value, Ordering::Relaxed);
            }
            assert_eq!(reader.flows(), []);
        }
    }
}
