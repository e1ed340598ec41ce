//! The path table: how each server is reached, and with which link address of ours, from the kernel's routes, neighbours and links,
//! mirrored by the manager.
//!
//! The first words hold a generation that changes after any change, so that a worker whose table did not change reads one
//! word per look. Each entry has its own sequence lock. Workers get the file opened for reading alone, and its mode lets nobody but
//! its owner open it again: they cannot map it otherwise. A manager that adopts workers opens theirs for writing and goes on.

use crate::seqlock;
use crate::shm::{self, LoadWords, ReadableWords, ShmError, WritableWords};
use rustix::fs::{Mode, OFlags};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

/// Words before the stations: the generation, alone on its cache line.
const GENERATION_WORDS: usize = 8;
/// Ports that have a place for a station, our link address there: one cache line of them.
pub(crate) const STATIONS: usize = 8;
/// Words before the first entry.
const HEADER_WORDS: usize = GENERATION_WORDS + STATIONS;
/// Words of an entry: its sequence and seven values, one cache line.
pub(crate) const ENTRY_WORDS: usize = 8;
/// Values of an entry: state, source (2), destination (2), destination port, MAC.
const VALUES: usize = ENTRY_WORDS - 1;

/// State word of a server that cannot be reached now.
const STATE_NONE: u64 = 0;
/// Low byte of the state word of an IPv4 path; the next byte is the port.
const STATE_V4: u64 = 4;
/// The same of an IPv6 path.
const STATE_V6: u64 = 6;

/// The way to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathEntry {
    /// Index of the port in the configuration.
    pub port: u8,
    /// Our address on that way.
    pub source: IpAddr,
    /// The server.
    pub destination: SocketAddr,
    /// Link-layer address of the next hop: the server itself or its gateway.
    pub next_hop_mac: [u8; 6],
}

/// In the word of a station beside the address: it is known.
const STATION_KNOWN: u64 = 1 << 48;

/// A link address in the low bytes of a word.
pub(crate) fn mac_word(mac: [u8; 6]) -> u64 {
    mac.iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

pub(crate) fn word_mac(word: u64) -> [u8; 6] {
    let [_, _, mac @ ..] = word.to_be_bytes();
    mac
}

/// One word says all, so that no reader sees half of a change.
fn decode_station(word: u64) -> Option<[u8; 6]> {
    (word & STATION_KNOWN != 0).then(|| word_mac(word))
}

pub(crate) fn address_words(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

fn encode(entry: Option<PathEntry>) -> [u64; VALUES] {
    let Some(entry) = entry else {
        return [STATE_NONE; VALUES];
    };
    let family = if entry.destination.is_ipv4() {
        STATE_V4
    } else {
        STATE_V6
    };
    let [source_high, source_low] = address_words(entry.source);
    let [destination_high, destination_low] = address_words(entry.destination.ip());
    [
        family | u64::from(entry.port) << 8,
        source_high,
        source_low,
        destination_high,
        destination_low,
        u64::from(entry.destination.port()),
        mac_word(entry.next_hop_mac),
    ]
}

fn decode(values: [u64; VALUES], ports: usize) -> Option<PathEntry> {
    let [
        state,
        source_high,
        source_low,
        destination_high,
        destination_low,
        destination_port,
        mac,
    ] = values;
    let port = u8::try_from(state >> 8)
        .ok()
        .filter(|port| usize::from(*port) < ports)?;
    let address = |high: u64, low: u64| match state & 0xff {
        STATE_V4 => Some(IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(low).ok()?))),
        STATE_V6 => Some(IpAddr::V6(Ipv6Addr::from_bits(
            u128::from(high) << 64 | u128::from(low),
        ))),
        _ => None,
    };
    Some(PathEntry {
        port,
        source: address(source_high, source_low)?,
        destination: SocketAddr::new(
            address(destination_high, destination_low)?,
            u16::try_from(destination_port).ok()?,
        ),
        next_hop_mac: word_mac(mac),
    })
}

const fn table_words(servers: usize) -> usize {
    HEADER_WORDS + servers * ENTRY_WORDS
}

/// Opens the memory behind `file` once more.
fn reopen(file: &OwnedFd, access: OFlags) -> Result<OwnedFd, ShmError> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let opened = rustix::fs::open(path, access | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|error| ShmError::System {
        call: "open of a memory file under /proc/self/fd",
        error,
    })
}

/// The manager's side: owns the memory file.
#[derive(Debug)]
pub struct PathWriter {
    /// Opened for reading alone: what workers get.
    file: OwnedFd,
    words: WritableWords,
    entries: Vec<Option<PathEntry>>,
}

impl PathWriter {
    /// A table of `servers` entries, none of them reachable so far.
    pub fn create(servers: usize) -> Result<Self, ShmError> {
        let file = shm::create("tidegate-paths", table_words(servers))?;
        let words = WritableWords::map(&file, table_words(servers))?;
        shm::keep_to_owner(&file)?;
        Ok(Self {
            file: reopen(&file, OFlags::RDONLY)?,
            words,
            entries: vec![None; servers],
        })
    }

    /// Goes on with the table of a manager that is gone, as a worker has it. It has to be of our own user.
    pub fn adopt(file: OwnedFd, servers: usize) -> Result<Self, ShmError> {
        shm::check_owner(&file)?;
        let writable = reopen(&file, OFlags::RDWR)?;
        let words = WritableWords::map(&writable, table_words(servers))?;
        let mut table = Self {
            file,
            words,
            entries: vec![None; servers],
        };
        for server in 0..servers {
            let mut values = [0; VALUES];
            let start = HEADER_WORDS + server * ENTRY_WORDS;
            match seqlock::read(&table.words, start, &mut values) {
                // The ports are the caller's to know; what it finds out about the server replaces the entry anyway.
                Some(_) => table.entries[server] = decode(values, usize::MAX),
                // The writer died in the middle of it.
                None => seqlock::write(&table.words, start, &encode(None)),
            }
        }
        Ok(table)
    }

    /// The file, to be passed to workers.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// What stands in the table for `server`.
    pub fn get(&self, server: usize) -> Option<PathEntry> {
        self.entries.get(server).copied().flatten()
    }

    /// Sets the way to `server`; returns whether that was news.
    pub fn set(&mut self, server: usize, entry: Option<PathEntry>) -> bool {
        if self.entries[server] == entry {
            return false;
        }
        self.entries[server] = entry;
        seqlock::write(
            &self.words,
            HEADER_WORDS + server * ENTRY_WORDS,
            &encode(entry),
        );
        self.changed();
        true
    }

    /// Our link address on the port at this position, as it stands in the table; `None`: nobody said it yet.
    pub fn station(&self, port: usize) -> Option<[u8; 6]> {
        if port >= STATIONS {
            return None;
        }
        decode_station(self.words.load(GENERATION_WORDS + port, Ordering::Relaxed))
    }

    /// Sets our link address on the port at this position; returns whether that was news.
    pub fn set_station(&mut self, port: usize, mac: [u8; 6]) -> bool {
        if port >= STATIONS || self.station(port) == Some(mac) {
            return false;
        }
        let word = STATION_KNOWN | mac_word(mac);
        self.words
            .store(GENERATION_WORDS + port, word, Ordering::Relaxed);
        self.changed();
        true
    }

    fn changed(&self) {
        let generation = self.words.load(0, Ordering::Relaxed).wrapping_add(1);
        // Release: a reader that sees the new generation sees what changed.
        self.words.store(0, generation, Ordering::Release);
    }
}

/// The worker's side.
#[derive(Debug)]
pub struct PathReader {
    words: ReadableWords,
    ports: usize,
    generation: Option<u64>,
    seen: Vec<Option<PathEntry>>,
    stations: [Option<[u8; 6]>; STATIONS],
}

impl PathReader {
    /// Maps the table of `servers` entries; entries that name a port at or above `ports` count as unreachable.
    pub fn map(file: impl AsFd, servers: usize, ports: usize) -> Result<Self, ShmError> {
        let words = ReadableWords::map(file, table_words(servers))?;
        Ok(Self {
            words,
            ports,
            generation: None,
            seen: vec![None; servers],
            stations: [None; STATIONS],
        })
    }

    /// Whether anything may have changed since the last [`PathReader::poll`]: one load.
    #[inline]
    pub fn changed(&self) -> bool {
        Some(self.words.load(0, Ordering::Acquire)) != self.generation
    }

    /// Calls `change` with each entry that differs from what was reported before. All entries start as unreachable.
    pub fn poll(&mut self, mut change: impl FnMut(usize, Option<PathEntry>)) {
        let generation = self.words.load(0, Ordering::Acquire);
        let mut settled = true;
        for (server, seen) in self.seen.iter_mut().enumerate() {
            let mut values = [0; VALUES];
            if seqlock::read(
                &self.words,
                HEADER_WORDS + server * ENTRY_WORDS,
                &mut values,
            )
            .is_none()
            {
                settled = false;
                continue;
            }
            let entry = decode(values, self.ports);
            if entry != *seen {
                *seen = entry;
                change(server, entry);
            }
        }
        self.generation = settled.then_some(generation);
    }

    /// Calls `change` with the position of each port on which our link address differs from what was reported before. Called behind
    /// [`PathReader::poll`], so that [`PathReader::changed`] still tells of what comes in between.
    pub fn poll_stations(&mut self, mut change: impl FnMut(usize, [u8; 6])) {
        for (port, seen) in self.stations.iter_mut().take(self.ports).enumerate() {
            let station =
                decode_station(self.words.load(GENERATION_WORDS + port, Ordering::Relaxed));
            if let Some(mac) = station.filter(|_| station != *seen) {
                *seen = station;
                change(port, mac);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4() -> PathEntry {
        PathEntry {
            port: 1,
            source: "10.0.1.1".parse().unwrap(),
            destination: "10.0.1.11:11211".parse().unwrap(),
            next_hop_mac: [2, 0, 0, 0, 0, 0xff],
        }
    }

    fn v6() -> PathEntry {
        PathEntry {
            port: 0,
            source: "2001:db8::1".parse().unwrap(),
            destination: "[2001:db8::b]:6379".parse().unwrap(),
            next_hop_mac: [0xfe, 1, 2, 3, 4, 5],
        }
    }

    #[test]
    fn changes_arrive_once() {
        let mut writer = PathWriter::create(3).unwrap();
        let mut reader = PathReader::map(writer.file(), 3, 2).unwrap();
        assert!(writer.set(0, Some(v4())) && writer.set(2, Some(v6())));
        assert!(!writer.set(0, Some(v4())), "the same again is no news");
        let mut seen = Vec::new();
        assert!(reader.changed());
        reader.poll(|server, entry| seen.push((server, entry)));
        assert_eq!(seen, [(0, Some(v4())), (2, Some(v6()))]);
        assert!(!reader.changed());
        writer.set(0, None);
        assert!(reader.changed());
        seen.clear();
        reader.poll(|server, entry| seen.push((server, entry)));
        assert_eq!(seen, [(0, None)]);
        assert_eq!(writer.get(2), Some(v6()));
    }

    #[test]
    fn our_link_addresses_arrive_once_and_survive_a_manager() {
        let mut writer = PathWriter::create(1).unwrap();
        let mut reader = PathReader::map(writer.file(), 1, 2).unwrap();
        let (old, new) = ([0; 6], [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff]);
        let looks = |reader: &mut PathReader| {
            let mut seen = Vec::new();
            reader.poll(|_, entry| assert_eq!(entry, None));
            reader.poll_stations(|port, mac| seen.push((port, mac)));
            seen
        };
        assert_eq!(looks(&mut reader), [], "nobody has said any");
        assert_eq!(writer.station(1), None);
        assert!(writer.set_station(1, old) && writer.set_station(0, new));
        assert!(!writer.set_station(1, old), "the same again is no news");
        assert!(reader.changed());
        assert_eq!(looks(&mut reader), [(0, new), (1, old)]);
        assert!(!reader.changed());
        assert!(writer.set_station(1, new));
        let theirs = writer.file().try_clone().unwrap();
        drop(writer);
        assert!(reader.changed());
        assert_eq!(looks(&mut reader), [(1, new)]);
        let mut next = PathWriter::adopt(theirs, 1).unwrap();
        assert_eq!((next.station(0), next.station(1)), (Some(new), Some(new)));
        assert!(!next.set_station(STATIONS, old), "there is no such port");
        assert!(next.set_station(STATIONS - 1, old));
        assert_eq!(
            looks(&mut reader),
            [],
            "a port that the worker does not have"
        );
    }

    #[test]
    fn workers_cannot_write_the_table() {
        let writer = PathWriter::create(1).unwrap();
        assert!(WritableWords::map(writer.file(), table_words(1)).is_err());
        let mode = rustix::fs::fstat(writer.file()).unwrap().st_mode & 0o777;
        assert_eq!(mode, 0o600, "nor can another user open it for writing");
    }

    #[test]
    fn the_next_manager_goes_on_with_the_table() {
        let mut first = PathWriter::create(3).unwrap();
        first.set(1, Some(v4()));
        first.set(2, Some(v6()));
        let theirs = first.file().try_clone().unwrap();
        let mut reader = PathReader::map(&theirs, 3, 2).unwrap();
        reader.poll(|_, _| {});
        // It dies in the middle of an entry.
        let start = HEADER_WORDS + 2 * ENTRY_WORDS;
        let odd = first.words.load(start, Ordering::Relaxed) | 1;
        first.words.store(start, odd, Ordering::Relaxed);
        drop(first);
        let mut next = PathWriter::adopt(theirs, 3).unwrap();
        assert_eq!(
            (next.get(0), next.get(1), next.get(2)),
            (None, Some(v4()), None)
        );
        assert!(!next.set(1, Some(v4())), "that is no news");
        assert!(next.set(2, Some(v6())) && next.set(0, Some(v4())));
        let mut seen = Vec::new();
        assert!(reader.changed());
        reader.poll(|server, entry| seen.push((server, entry)));
        assert_eq!(seen, [(0, Some(v4()))], "what did not change is not told");
    }

    #[test]
    fn a_table_of_another_size_is_not_adopted() {
        let writer = PathWriter::create(1).unwrap();
        let theirs = writer.file().try_clone().unwrap();
        assert!(matches!(
            PathWriter::adopt(theirs, 100),
            Err(ShmError::TooShort { .. })
        ));
    }

    #[test]
    fn nonsense_in_the_table_is_an_unreachable_server() {
        let good = encode(Some(v4()));
        assert_eq!(decode(good, 2), Some(v4()));
        assert_eq!(
            decode(good, 1),
            None,
            "a port that the worker does not have"
        );
        for (index, value) in [(0, 9), (0, u64::MAX), (2, u64::MAX), (5, 65_536)] {
            let mut bad = good;
            bad[index] = value;
            assert_eq!(decode(bad, 2), None, "value {index} = {value}");
        }
        assert_eq!(decode([0; VALUES], 2), None);
        assert_eq!(decode(encode(Some(v6())), 2), Some(v6()));
    }
}
