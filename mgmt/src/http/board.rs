//! Where the manager leaves what the HTTP thread tells. Either holds the lock for as long as it takes to copy a pointer.

use super::history::{History, Point};
use crate::slowlog;
use crate::stats::model::Stats;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Everything about a moment.
#[derive(Debug)]
pub struct Snapshot {
    /// When it was put together.
    pub at: Instant,
    /// Its number.
    pub number: u64,
    /// What was counted, and how workers are.
    pub stats: Stats,
    /// Requests that took long, the latest of them.
    pub slow: slowlog::Report,
}

/// The board.
#[derive(Debug, Default)]
pub struct Board(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    snapshot: Option<Arc<Snapshot>>,
    history: History,
}

impl Board {
    /// Puts the moment up in place of the one before.
    pub fn publish(&self, at: Instant, stats: Stats, slow: slowlog::Report) {
        let mut kept = self.kept();
        kept.history.keep(&stats);
        let number = kept.snapshot.as_ref().map_or(0, |last| last.number + 1);
        let snapshot = Arc::new(Snapshot {
            at,
            number,
            stats,
            slow,
        });
        let before = kept.snapshot.replace(snapshot);
        drop(kept);
        // It may be large, and nobody waits for its end any more.
        drop(before);
    }

    /// The latest moment; `None`: there was none yet.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.kept().snapshot.clone()
    }

    /// Points of the history from number `from` on.
    pub fn history(&self, from: u64) -> Vec<Arc<Point>> {
        self.kept().history.since(from)
    }

    /// A thread that panicked while it held the lock left a board that is whole: each field is replaced at once.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
