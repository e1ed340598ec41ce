//! What was asked for and how long it took, by command and by server: rows of words in the statistics page, in which the worker
//! counts directly. There is one writer and each word is a number of its own, so neither side ever waits; a reader that comes in the
//! middle of a request sees one word of it earlier than another.
//!
//! A pool has a bounded number of rows for commands. A command gets one when it is first seen; when none is left, it is counted in the
//! first, with all others and with what was no command at all.

use crate::histogram::{BUCKETS, Histogram, bucket};
use crate::shm::{AtomicU64, LoadWords, ReadableWords, ShmError, WritableWords};
use crate::statistics::StatisticsLayout;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

/// Rows of a pool, the first of which has what has no row of its own. Clients of one application use a dozen commands. More would cost
/// 1,600 bytes each and as many lines of `/metrics`; with fewer, a pool of several applications would not tell theirs apart.
pub const COMMAND_ROWS: usize = 64;
/// The row of commands without one.
pub const OTHER_ROW: usize = 0;
/// Most servers that have a histogram. More would cost the manager, which reads each once a second, more than a few milliseconds.
pub const SERVER_ROWS_MAX: usize = 1_024;

/// Words for the name of a command: more bytes than any name has.
const NAME_WORDS: usize = 3;
const WORD_BYTES: usize = size_of::<u64>();
/// Most bytes of a command's name; what is longer would be cut off.
pub const NAME_BYTES_MAX: usize = NAME_WORDS * WORD_BYTES;

const REQUESTS: usize = NAME_WORDS;
const ERRORS: usize = REQUESTS + 1;
const REQUEST_BYTES: usize = ERRORS + 1;
const REPLY_BYTES: usize = REQUEST_BYTES + 1;
const SUM_US: usize = REPLY_BYTES + 1;
const FIRST_BUCKET: usize = SUM_US + 1;
/// Words of a row.
pub const ROW_WORDS: usize = FIRST_BUCKET + BUCKETS;
const _: () = assert!(ROW_WORDS.is_multiple_of(8), "rows start on a cache line");

/// Rows of a layout: first those of servers and one for the servers without, then those of each pool.
pub(crate) const fn rows(layout: StatisticsLayout) -> usize {
    first_command(layout) + layout.pools * COMMAND_ROWS
}

const fn first_command(layout: StatisticsLayout) -> usize {
    server_rows(layout) + 1
}

const fn server_rows(layout: StatisticsLayout) -> usize {
    if layout.servers < SERVER_ROWS_MAX {
        layout.servers
    } else {
        SERVER_ROWS_MAX
    }
}

/// The place of a row: the same in every page of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(u32);

/// The worker's side.
#[derive(Debug)]
pub struct Meters {
    words: WritableWords,
    start: usize,
    layout: StatisticsLayout,
}

impl Meters {
    /// Maps the page that the manager made.
    pub fn map(file: impl AsFd, layout: StatisticsLayout) -> Result<Self, ShmError> {
        Ok(Self {
            words: WritableWords::map(file, layout.words())?,
            start: layout.meters(),
            layout,
        })
    }

    /// Counts where nobody sees it.
    pub fn private(layout: StatisticsLayout) -> Self {
        Self {
            words: WritableWords::private(rows(layout) * ROW_WORDS),
            start: 0,
            layout,
        }
    }

    /// The row of a server. Those that stand too far behind in the configuration share one that nobody reads.
    pub fn server(&self, server: usize) -> Row {
        Self::row(server.min(server_rows(self.layout)))
    }

    /// The row of a pool's `index`th command.
    pub fn command(&self, pool: usize, index: usize) -> Row {
        assert!(
            pool < self.layout.pools && index < COMMAND_ROWS,
            "command {index} of pool {pool}"
        );
        Self::row(first_command(self.layout) + pool * COMMAND_ROWS + index)
    }

    fn row(index: usize) -> Row {
        Row((index * ROW_WORDS) as u32)
    }

    fn words(&self, row: Row) -> &[AtomicU64; ROW_WORDS] {
        let start = self.start + row.0 as usize;
        let words = self.words.slice()[start..].first_chunk();
        words.expect("rows are made from the layout, and nothing is behind the last")
    }

    /// Gives a row to a command. Readers see it once its first word is there, which comes last.
    pub fn claim(&self, row: Row, name: &str) {
        let words = self.words(row);
        let mut bytes = [0; NAME_BYTES_MAX];
        let length = name.len().min(NAME_BYTES_MAX);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        for (word, bytes) in words.iter().zip(bytes.chunks_exact(WORD_BYTES)).rev() {
            let value = bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte));
            word.store(value, Ordering::Release);
        }
    }

    /// The row that nobody reads.
    pub fn nobodys(&self) -> Row {
        self.server(usize::MAX)
    }

    /// Pool and number of the command whose row it is. `None`: it is no command's.
    pub fn command_of(&self, row: Row) -> Option<(usize, usize)> {
        let index = row.0 as usize / ROW_WORDS;
        let command = index.checked_sub(first_command(self.layout))?;
        Some((command / COMMAND_ROWS, command % COMMAND_ROWS))
    }

    /// Goes on where another page ended.
    pub fn copy(&self, row: Row, other: &Self, from: Row) {
        let words = self.words(row).iter().zip(other.words(from));
        // The first word, which shows that the row is given away, comes last.
        for (to, from) in words.rev() {
            to.store(from.load(Ordering::Relaxed), Ordering::Release);
        }
    }

    /// Requests of so many bytes were taken.
    pub fn taken(&self, row: Row, requests: u64, bytes: u64) {
        let words = self.words(row);
        add(&words[REQUESTS], requests);
        add(&words[REQUEST_BYTES], bytes);
    }

    /// So many bytes of a request came after it was taken.
    pub fn taken_more(&self, row: Row, bytes: usize) {
        add(&self.words(row)[REQUEST_BYTES], bytes as u64);
    }

    /// It gets an error, or nothing at all in place of one.
    pub fn failed(&self, row: Row) {
        add(&self.words(row)[ERRORS], 1);
    }

    /// Replies of so many bytes in all were delivered, each after the same time. `None`: how long they took is not told.
    pub fn answered(&self, row: Row, replies: u64, bytes: u64, took_us: Option<u64>) {
        let words = self.words(row);
        add(&words[REPLY_BYTES], bytes);
        if let Some(us) = took_us {
            add(&words[SUM_US], us.wrapping_mul(replies));
            add(&words[FIRST_BUCKET + bucket(us)], replies);
        }
    }
}

/// There is one writer, so no instruction has to be atomic.
fn add(word: &AtomicU64, more: u64) {
    word.store(
        word.load(Ordering::Relaxed).wrapping_add(more),
        Ordering::Relaxed,
    );
}

/// What one worker counted of one command of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandMeter {
    /// Its name; of the first row, which has what has none of its own, `other`.
    pub name: String,
    /// Requests taken.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of replies.
    pub reply_bytes: u64,
    /// From a request taken to its reply delivered.
    pub latency: Histogram,
}

/// The name of the first row.
pub const OTHER: &str = "other";

/// Reads the histogram of a server.
pub(crate) fn read_server(
    words: &ReadableWords,
    layout: StatisticsLayout,
    server: usize,
) -> Histogram {
    if server >= server_rows(layout) {
        return Histogram::default();
    }
    read_histogram(words, layout.meters() + server * ROW_WORDS)
}

/// Reads what is known of a pool's commands.
pub(crate) fn read_commands(
    words: &ReadableWords,
    layout: StatisticsLayout,
    pool: usize,
) -> Vec<CommandMeter> {
    let first = first_command(layout) + pool * COMMAND_ROWS;
    let mut commands = Vec::new();
    for index in 0..COMMAND_ROWS {
        let start = layout.meters() + (first + index) * ROW_WORDS;
        let name = match index {
            OTHER_ROW => Some(OTHER.to_owned()),
            _ => read_name(words, start),
        };
        // Rows are given away in order.
        let Some(name) = name else { break };
        let word = |offset| words.load(start + offset, Ordering::Relaxed);
        commands.push(CommandMeter {
            name,
            requests: word(REQUESTS),
            errors: word(ERRORS),
            request_bytes: word(REQUEST_BYTES),
            reply_bytes: word(REPLY_BYTES),
            latency: read_histogram(words, start),
        });
    }
    commands
}

/// The name of a row that was given away. Another process wrote it, so it is made fit to print.
fn read_name(words: &ReadableWords, start: usize) -> Option<String> {
    let first = words.load(start, Ordering::Acquire);
    if first == 0 {
        return None;
    }
    let rest = (1..NAME_WORDS).map(|offset| words.load(start + offset, Ordering::Relaxed));
    let bytes = std::iter::once(first)
        .chain(rest)
        .flat_map(u64::to_le_bytes);
    let printable = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' | b'|' | b'_' | b'-' => char::from(byte),
        _ => '?',
    };
    Some(bytes.take_while(|byte| *byte != 0).map(printable).collect())
}

fn read_histogram(words: &ReadableWords, start: usize) -> Histogram {
    let word = |offset| words.load(start + offset, Ordering::Relaxed);
    Histogram::from_counts(word(SUM_US), (0..BUCKETS).map(|at| word(FIRST_BUCKET + at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::FlowSlots;

    const LAYOUT: StatisticsLayout = StatisticsLayout {
        queues: 1,
        pools: 2,
        servers: 3,
        flows: FlowSlots {
            clients: 0,
            servers: 0,
        },
    };

    #[test]
    fn what_is_counted_is_read() {
        let file = LAYOUT.create().unwrap();
        let meters = Meters::map(&file, LAYOUT).unwrap();
        let words = ReadableWords::map(&file, LAYOUT.words()).unwrap();
        let get = meters.command(1, 1);
        meters.claim(get, "georadiusbymember_ro");
        meters.taken(get, 2, 30);
        meters.taken_more(get, 5);
        meters.failed(get);
        meters.answered(get, 1, 12, Some(250));
        meters.answered(get, 1, 0, None);
        meters.answered(meters.server(2), 3, 0, Some(30));
        let other = meters.command(1, OTHER_ROW);
        meters.taken(other, 1, 7);
        let commands = read_commands(&words, LAYOUT, 1);
        assert_eq!(commands.len(), 2);
        assert_eq!(
            (commands[0].name.as_str(), commands[0].requests),
            (OTHER, 1)
        );
        let read = &commands[1];
        assert_eq!(read.name, "georadiusbymember_ro");
        assert_eq!(
            (
                read.requests,
                read.errors,
                read.request_bytes,
                read.reply_bytes
            ),
            (2, 1, 35, 12)
        );
        assert_eq!((read.latency.count(), read.latency.sum_us), (1, 250));
        assert_eq!(read_server(&words, LAYOUT, 2).sum_us, 90);
        assert_eq!(read_server(&words, LAYOUT, 1), Histogram::default());
        assert_eq!(read_commands(&words, LAYOUT, 0).len(), 1);
    }

    #[test]
    fn rows_do_not_overlap_and_fill_the_page() {
        let meters = Meters::private(LAYOUT);
        let servers = (0..=LAYOUT.servers).map(|server| meters.server(server));
        let commands = (0..LAYOUT.pools)
            .flat_map(|pool| (0..COMMAND_ROWS).map(move |index| (pool, index)))
            .map(|(pool, index)| meters.command(pool, index));
        let rows: Vec<u32> = servers.chain(commands).map(|row| row.0).collect();
        let expected = (0..rows.len()).map(|index| (index * ROW_WORDS) as u32);
        assert_eq!(rows, expected.collect::<Vec<_>>());
        assert_eq!(meters.words.slice().len(), rows.len() * ROW_WORDS);
        assert_eq!(LAYOUT.words(), LAYOUT.meters() + rows.len() * ROW_WORDS);
    }

    #[test]
    fn of_very_many_servers_only_the_first_have_a_histogram() {
        let layout = StatisticsLayout {
            servers: SERVER_ROWS_MAX + 5,
            ..LAYOUT
        };
        let meters = Meters::private(layout);
        let last = meters.server(SERVER_ROWS_MAX - 1);
        let shared = meters.server(SERVER_ROWS_MAX);
        assert_ne!(last, shared);
        assert_eq!(meters.server(SERVER_ROWS_MAX + 4), shared);
        assert_ne!(meters.command(0, 0), shared);
        meters.answered(meters.command(1, COMMAND_ROWS - 1), 1, 0, Some(3));
        assert_eq!(meters.nobodys(), shared);
        assert_eq!(meters.command_of(shared), None);
        assert_eq!(meters.command_of(meters.command(1, 7)), Some((1, 7)));
    }

    #[test]
    fn another_page_goes_on_where_one_ended() {
        let old = Meters::private(LAYOUT);
        old.claim(old.command(1, 1), "get");
        old.taken(old.command(1, 1), 3, 90);
        let file = LAYOUT.create().unwrap();
        let new = Meters::map(&file, LAYOUT).unwrap();
        new.copy(new.command(0, 1), &old, old.command(1, 1));
        let words = ReadableWords::map(&file, LAYOUT.words()).unwrap();
        let commands = read_commands(&words, LAYOUT, 0);
        assert_eq!(
            (commands[1].name.as_str(), commands[1].requests),
            ("get", 3)
        );
    }

    #[test]
    fn a_hostile_page_is_numbers_and_printable_names() {
        let file = LAYOUT.create().unwrap();
        let vandal = WritableWords::map(&file, LAYOUT.words()).unwrap();
        for index in 0..LAYOUT.words() {
            vandal.store(index, u64::MAX, Ordering::Relaxed);
        }
        let words = ReadableWords::map(&file, LAYOUT.words()).unwrap();
        let commands = read_commands(&words, LAYOUT, 1);
        assert_eq!(commands.len(), COMMAND_ROWS);
        assert_eq!(commands[1].name, "?".repeat(NAME_BYTES_MAX));
    }
}
