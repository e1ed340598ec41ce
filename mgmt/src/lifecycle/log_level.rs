//! `tidegate log-level`: another filter for the log, of the manager and of its workers, also of those that are started later.

use crate::control::Answer;
use crate::control::server::Ticket;
use crate::manager::Manager;
use serde::{Deserialize, Serialize};

/// Longest filter. It travels in one message to the workers, and nobody writes a longer one.
const FILTER_BYTES_MAX: usize = 1_024;

/// What to log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLevelRequest {
    /// The filter.
    pub filter: String,
}

/// What was logged before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevelSet {
    /// The filter before.
    pub before: String,
}

/// Changes it, if it is one.
pub fn set(manager: &mut Manager, ticket: Ticket, request: &LogLevelRequest) {
    let filter = &request.filter;
    let set = if filter.len() > FILTER_BYTES_MAX {
        Err(format!("a filter has at most {FILTER_BYTES_MAX} bytes"))
    } else {
        (manager.parts.set_log_filter)(filter)
    };
    if let Err(error) = set {
        let fault = format!(
            "{filter:?} is no filter: {error}; write for example info or tidegate_stack=debug,info"
        );
        manager.parts.control.answer(ticket, &Answer::fault(fault));
        return;
    }
    let mut before = filter.clone();
    for slot in &mut manager.slots {
        before = slot.set_log_filter(filter);
    }
    tracing::info!("log filter: {filter}, before: {before}");
    manager.answer(ticket, &LogLevelSet { before });
}
