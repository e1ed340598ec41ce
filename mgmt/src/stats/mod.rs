//! `tidegate stats` and `/metrics`: how much is asked for, how long it takes, and everything that is counted, over all workers and
//! over their restarts.
//!
//! The manager takes a [`totals::Totals`] of all pages once a second and keeps those of the last minute ([`history`]). Whoever asks
//! gets a [`model::Stats`], which has the sums of this moment and what came in the last second, ten seconds, minute, and since the
//! start. [`table`], [`prometheus`] and [`twemproxy`] are functions of that model and of nothing else.

pub mod client;
pub mod ejections;
pub mod gather;
pub mod history;
mod left;
mod limits;
pub mod listener;
pub mod model;
pub mod prometheus;
pub mod table;
pub mod totals;
pub mod twemproxy;

use crate::supervisor::Counted;
use ejections::Ejections;
use history::History;
use std::time::Instant;
use tidegate_channel::statistics::WorkerStatistics;
use tidegate_config::Config;
use totals::Totals;

/// What the manager remembers.
pub struct Memory {
    /// What processes counted that have ended, or of pools and servers that are configured no more.
    ended: Totals,
    /// The last minute.
    history: History,
    /// Servers that are out of their distribution.
    ejections: Ejections,
}

impl Memory {
    /// Of a manager that started at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            ended: Totals::default(),
            history: History::new(now, Totals::default()),
            ejections: Ejections::default(),
        }
    }

    /// A process of `worker` ended: its counts go on in the sums.
    pub fn ended(&mut self, in_force: &Config, worker: u32, counted: &Counted<WorkerStatistics>) {
        self.keep(
            in_force,
            worker,
            counted.config(in_force),
            &counted.statistics,
        );
    }

    /// A process of `worker` counts in another page from now on, which has no place for what is not `in_force`: that goes on in the sums.
    pub fn left(&mut self, in_force: &Config, worker: u32, counted: &Counted<WorkerStatistics>) {
        let by = counted.config(in_force);
        let left = left::of_page(by, in_force, &counted.statistics);
        self.keep(in_force, worker, by, &left);
    }

    fn keep(&mut self, in_force: &Config, worker: u32, by: &Config, counted: &WorkerStatistics) {
        self.ended.add(by, worker, counted);
        self.ended.clear_gauges();
        self.ended.fold(in_force);
    }

    /// What processes counted that have ended: the next manager goes on with it.
    pub fn of_ended(&self) -> &Totals {
        &self.ended
    }

    /// Goes on with what an earlier manager remembered.
    pub fn recall(&mut self, ended: Totals) {
        self.ended = ended;
    }

    /// Workers were adopted, and all that was counted before `now` is `totals`: it came in no window of this manager.
    pub fn begin(&mut self, now: Instant, totals: Totals) {
        self.history = History::new(now, totals);
    }

    /// When the next sample is due.
    pub fn due(&self) -> Instant {
        self.history.due()
    }
}
