//! What can be asked of a manager.

use crate::lifecycle::drain::{DEADLINE_MS_MAX, DrainRequest};
use crate::lifecycle::log_level::LogLevelRequest;
use crate::lifecycle::upgrade::UpgradeRequest;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the manager may take for what it knows: it answers within a turn of its loop.
const AT_ONCE: Duration = Duration::from_secs(5);

/// How long a worker may take to start.
const A_START: Duration = Duration::from_secs(40);

/// How long a reload may take: workers make ready, then take up.
const RELOAD: Duration = Duration::from_secs(40);

/// A request. Each has a body in braces, so that it can gain fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The report of this moment: [`crate::status::report::Report`].
    Status {},
    /// Finish what is owed, then end: the instance or a worker, [`crate::lifecycle::drain::Drained`].
    Drain(DrainRequest),
    /// Become the program on disk: [`crate::lifecycle::upgrade::Upgrading`].
    Upgrade(UpgradeRequest),
    /// Log by another filter: [`crate::lifecycle::log_level::LogLevelSet`].
    LogLevel(LogLevelRequest),
    /// What was counted and how long it took: [`crate::stats::model::Stats`].
    Stats {},
    /// Read the file again and take it up: [`crate::reload::Outcome`].
    Reload {
        /// Only say what would change.
        dry_run: bool,
    },
    /// Move running workers: the same.
    Queues {
        /// The port.
        port: String,
        /// Queue → core, of those that are to move.
        cores: std::collections::BTreeMap<u32, u32>,
        /// Write it into the file, too.
        #[serde(default)]
        save: bool,
    },
    /// Change settings: the same.
    Set {
        /// What is changed.
        edits: Vec<crate::reload::edit::Edit>,
        /// Write it into the file, too.
        #[serde(default)]
        save: bool,
    },
    /// The slow log: [`crate::slowlog::Report`].
    Slowlog(crate::slowlog::Ask),
    /// Copies of frames, with the descriptors that they come through: [`crate::capture::Begun`].
    Capture(crate::capture::Ask),
    /// Hot and big keys, once they were watched: [`crate::keys::Report`].
    Keys(crate::keys::Ask),
}

impl Request {
    /// How long a client waits for the answer.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Status {}
            | Self::Stats {}
            | Self::Slowlog(_)
            | Self::LogLevel(_)
            | Self::Capture(_)
            | Self::Upgrade(_) => AT_ONCE,
            // A worker is answered for when its successor serves.
            Self::Drain(_) => Duration::from_millis(DEADLINE_MS_MAX.into()) + A_START,
            Self::Keys(ask) => AT_ONCE + Duration::from_secs(ask.seconds.into()),
            Self::Reload { .. } | Self::Queues { .. } | Self::Set { .. } => RELOAD,
        }
    }
}
