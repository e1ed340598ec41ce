//! What can be asked of a manager.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long the manager may take for what it knows: it answers within a turn of its loop.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A request. Each has a body in braces, so that it can gain fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The report of this moment: [`crate::status::report::Report`].
    Status {},
    /// What was counted and how long it took: [`crate::stats::model::Stats`].
    Stats {},
    /// The slow log: [`crate::slowlog::Report`].
    Slowlog(crate::slowlog::Ask),
}

impl Request {
    /// How long a client waits for the answer.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Status {} | Self::Stats {} | Self::Slowlog(_) => AT_ONCE,
        }
    }
}
