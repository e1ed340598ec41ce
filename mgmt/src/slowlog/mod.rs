//! The slow log: requests that took longer than their pool's `slowlog_us`, the latest `slowlog_entries_max` of them.
//!
//! Workers tell of them in batches; the manager keeps them, so that they outlive a worker, and `tidegate slowlog` asks for them.

pub mod command;
mod table;

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use tidegate_channel::slow::{SLOW_BATCH, SlowEntry};

/// What can be asked of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// The latest entries.
    Get {
        /// How many at most.
        entries: u32,
    },
    /// How many there are.
    Len {},
    /// Forget them.
    Reset {},
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the entries of the instance, so that scripts know which they have seen.
    pub id: u64,
    /// The worker that served it.
    pub worker: u32,
    /// The request.
    #[serde(flatten)]
    pub request: SlowEntry,
}

/// What the log answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Entries in the log.
    pub len: u64,
    /// Most entries of the log.
    pub entries_max: u64,
    /// Slow requests of which no entry was made, because there were too many at once.
    pub lost: u64,
    /// The latest, newest first, as far as they were asked for.
    pub entries: Vec<Entry>,
}

/// The log.
#[derive(Debug)]
pub struct SlowLog {
    entries: VecDeque<Entry>,
    entries_max: usize,
    next_id: u64,
    lost: u64,
}

impl SlowLog {
    /// An empty log of at most so many entries.
    pub fn new(entries_max: u32) -> Self {
        Self {
            entries: VecDeque::new(),
            entries_max: entries_max as usize,
            next_id: 0,
            lost: 0,
        }
    }

    /// From now on at most so many entries are kept.
    pub fn set_max(&mut self, entries_max: u32) {
        self.entries_max = entries_max as usize;
        let surplus = self.entries.len().saturating_sub(self.entries_max);
        self.entries.drain(..surplus);
    }

    /// Takes what a worker told. A worker that tells more than a batch at once is not one of ours: the rest is left out.
    pub fn add(&mut self, worker: usize, entries: Vec<SlowEntry>, lost: u64) {
        self.lost = self.lost.saturating_add(lost);
        for request in entries.into_iter().take(SLOW_BATCH) {
            while self.entries.len() >= self.entries_max {
                self.entries.pop_front();
            }
            self.entries.push_back(Entry {
                id: self.next_id,
                worker: worker as u32,
                request,
            });
            self.next_id += 1;
        }
    }

    /// Does what is asked.
    pub fn answer(&mut self, ask: &Ask) -> Report {
        let wanted = match ask {
            Ask::Get { entries } => *entries as usize,
            Ask::Len {} => 0,
            Ask::Reset {} => {
                self.entries.clear();
                self.lost = 0;
                0
            }
        };
        Report {
            len: self.entries.len() as u64,
            entries_max: self.entries_max as u64,
            lost: self.lost,
            entries: self.entries.iter().rev().take(wanted).cloned().collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tidegate_channel::slow::SlowEnd;

    pub(crate) fn slow(key: &str) -> SlowEntry {
        SlowEntry {
            taken_unix_us: 1_700_000_000_123_456,
            client: "10.0.0.9:4711".into(),
            pool: "cache".into(),
            server: Some("cache-a".into()),
            command: "get".into(),
            key: key.into(),
            key_bytes: key.len() as u32,
            request_bytes: 23,
            reply_bytes: 1_009,
            queue_us: 0,
            server_us: 25_300,
            turn_us: 0,
            client_us: 12,
            end: SlowEnd::Replied,
        }
    }

    fn keys(report: &Report) -> Vec<&str> {
        let entries = report.entries.iter();
        entries.map(|entry| entry.request.key.as_str()).collect()
    }

    #[test]
    fn the_latest_are_kept_and_told_first() {
        let mut log = SlowLog::new(3);
        for key in ["a", "b", "c", "d"] {
            log.add(1, vec![slow(key)], 2);
        }
        let report = log.answer(&Ask::Get { entries: 2 });
        assert_eq!(keys(&report), ["d", "c"]);
        assert_eq!((report.len, report.entries_max, report.lost), (3, 3, 8));
        assert_eq!((report.entries[0].id, report.entries[0].worker), (3, 1));
        assert_eq!(
            keys(&log.answer(&Ask::Get { entries: u32::MAX })),
            ["d", "c", "b"]
        );
    }

    #[test]
    fn a_log_that_was_reset_is_empty_and_goes_on_counting() {
        let mut log = SlowLog::new(3);
        log.add(0, vec![slow("a"), slow("b")], 1);
        assert_eq!(log.answer(&Ask::Len {}).len, 2);
        let report = log.answer(&Ask::Reset {});
        assert_eq!((report.len, report.lost), (0, 0));
        log.add(0, vec![slow("c")], 0);
        assert_eq!(log.answer(&Ask::Get { entries: 9 }).entries[0].id, 2);
    }

    #[test]
    fn a_worker_cannot_fill_it_with_one_message() {
        let mut log = SlowLog::new(100);
        log.add(0, vec![slow("a"); SLOW_BATCH + 5], u64::MAX);
        log.add(0, Vec::new(), 1);
        let report = log.answer(&Ask::Len {});
        assert_eq!((report.len, report.lost), (SLOW_BATCH as u64, u64::MAX));
    }

    #[test]
    fn a_report_survives_the_control_socket() {
        let mut log = SlowLog::new(3);
        log.add(0, vec![slow("a\\xff")], 0);
        let report = log.answer(&Ask::Get { entries: 1 });
        let value = serde_json::to_value(&report).unwrap();
        assert_eq!(value["entries"][0]["server_us"], 25_300);
        assert_eq!(serde_json::from_value::<Report>(value).unwrap(), report);
    }
}
