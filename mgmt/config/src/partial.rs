//! `partial`: what a reply that is put together from several servers becomes when one of them fails.

use serde::{Deserialize, Serialize};

/// What a reply of several servers becomes when one of them fails. The client's connection stays in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Partial {
    /// An error for the whole request: a client that takes a miss for "nobody has written this" must not be told so by a failure.
    #[default]
    Error,
    /// What the other servers have. The failed one's keys are misses in `MGET` and in a memcached retrieval of several keys, and it
    /// has no part in `DBSIZE`, `KEYS`, `SCAN`, `INFO` and the like. A request of one key, and one that changes something, gets its
    /// error all the same; so does one that no server answered.
    Misses,
}

impl Partial {
    /// Every choice with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("error", Partial::Error), ("misses", Partial::Misses)];
}
