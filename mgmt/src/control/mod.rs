//! The control socket: how commands speak with a running manager.
//!
//! `control.sock` in the instance's runtime directory takes one request per connection: a line of JSON, answered by a line of JSON,
//! then the manager closes. A request is one of [`request::Request`], for example `{"status":{}}`; an answer is `{"ok":…}` or
//! `{"error":{"faults":["…"]}}`. Some answers come with file descriptors.
//!
//! The file can be opened by its owner alone, and who connects has to be that user or root. Everything a client can make the manager
//! hold is bounded: see [`server`].

pub mod client;
pub mod request;
pub mod server;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most descriptors of an answer. Why: one per worker, and a few.
pub const DESCRIPTORS_MAX: usize = 96;
/// Bytes that those take beside the answer.
const DESCRIPTOR_SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));

/// What a request brings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It was done.
    Ok(Value),
    /// It was not, and nothing was changed.
    Error {
        /// Everything that is wrong.
        faults: Vec<String>,
    },
}

impl Answer {
    /// What was asked for.
    pub fn of(value: &impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::fault(format!("the answer cannot be written: {error}")),
        }
    }

    /// One fault.
    pub fn fault(text: impl Into<String>) -> Self {
        Self::Error {
            faults: vec![text.into()],
        }
    }
}
