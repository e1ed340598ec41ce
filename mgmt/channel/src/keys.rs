//! What a worker tells of the keys that it watched.

use serde::{Deserialize, Serialize};

/// Entries of one message, of both kinds together. Why: with the longest names and keys, escaped, they stay below
/// [`MESSAGE_BYTES_MAX`](crate::control::MESSAGE_BYTES_MAX).
pub const KEYS_BATCH: usize = 20;

/// Most bytes of a key that a worker tells, of slow requests as well. Why: enough to know the key by, and no values in disguise.
pub const KEY_BYTES_NOTED: usize = 64;

/// Most of the frequent keys that a worker tells. Why: more than anybody reads, and few messages.
pub const HOT_TOLD: usize = 64;

/// What to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchKeys {
    /// Number of the watch.
    pub id: u64,
    /// The pool, by position in the configuration; `None`: all.
    pub pool: Option<u32>,
    /// One key in so many is counted.
    pub sample: u32,
    /// How long.
    pub lasts_ms: u32,
    /// By which all workers hash keys.
    pub seed: u64,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldKey {
    /// Name of its pool.
    pub pool: String,
    /// Its front, what is not printable escaped.
    pub key: String,
    /// Bytes of all of it.
    pub key_bytes: u32,
    /// Its hash, by the watch's seed.
    pub hash: u64,
}

/// A key that came often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotEntry {
    /// The key.
    #[serde(flatten)]
    pub key: ToldKey,
    /// It was counted at most so often …
    pub count: u64,
    /// … and at most so much less.
    pub error: u64,
}

/// A key with a large value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BigEntry {
    /// The key.
    #[serde(flatten)]
    pub key: ToldKey,
    /// Bytes of the request or reply.
    pub bytes: u64,
    /// The command.
    pub command: String,
}

/// A part of what was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysSeen {
    /// Number of the watch.
    pub id: u64,
    /// Keys that came.
    pub passed: u64,
    /// Keys of those that were counted.
    pub counted: u64,
    /// How often a key may have been counted that is not told.
    pub floor: u64,
    /// Some of the frequent keys.
    pub hot: Vec<HotEntry>,
    /// Some of those with large values.
    pub big: Vec<BigEntry>,
    /// No more parts follow.
    pub last: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::MESSAGE_BYTES_MAX;
    use crate::message::FromWorker;

    #[test]
    fn the_longest_batch_fits_a_message() {
        let key = ToldKey {
            pool: "p".repeat(64),
            key: "\\xff".repeat(64),
            key_bytes: u32::MAX,
            hash: u64::MAX,
        };
        let hot = HotEntry {
            key: key.clone(),
            count: u64::MAX,
            error: u64::MAX,
        };
        let big = BigEntry {
            key,
            bytes: u64::MAX,
            command: "c".repeat(64),
        };
        for hot_part in [0, KEYS_BATCH] {
            let message = FromWorker::Keys(KeysSeen {
                id: u64::MAX,
                passed: u64::MAX,
                counted: u64::MAX,
                floor: u64::MAX,
                hot: vec![hot.clone(); hot_part],
                big: vec![big.clone(); KEYS_BATCH - hot_part],
                last: false,
            });
            let text = serde_json::to_vec(&message).unwrap();
            assert!(text.len() <= MESSAGE_BYTES_MAX, "{} bytes", text.len());
            let back: FromWorker = serde_json::from_slice(&text).unwrap();
            assert_eq!(back, message);
        }
    }
}
