//! The last ten minutes in few numbers, so that a page that was just opened has something to draw.

use super::limits::{HISTORY_POOLS_MAX, HISTORY_WORKERS_MAX, POINTS_MAX};
use crate::stats::model::{Rates, Stats};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// What happened in one second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Its number. They are never used twice.
    pub seq: u64,
    /// When it ended, milliseconds since 1970.
    pub at_ms: u64,
    /// Over all pools.
    pub total: Pace,
    /// The first pools, with their names.
    pub pools: Vec<(String, Pace)>,
    /// How busy the first workers were, per cent.
    pub busy: Vec<f32>,
}

/// How much was asked for, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pace {
    /// Requests per second.
    pub requests: f32,
    /// Those answered with an error.
    pub errors: f32,
    /// Median of their times in microseconds; `None`: there were no replies.
    pub p50_us: Option<u64>,
    /// What 99 of 100 took at most.
    pub p99_us: Option<u64>,
    /// What 999 of 1,000 took at most.
    pub p999_us: Option<u64>,
}

impl Pace {
    fn of(rates: &Rates) -> Self {
        let latency = rates.latency.as_ref();
        // What a plot shows does not need a hundredth of a request.
        let rounded = |rate: f64| (rate * 10.0).round() as f32 / 10.0;
        Self {
            requests: rounded(rates.requests_per_s),
            errors: rounded(rates.errors_per_s),
            p50_us: latency.map(|latency| latency.p50_us),
            p99_us: latency.map(|latency| latency.p99_us),
            p999_us: latency.map(|latency| latency.p99_9_us),
        }
    }
}

/// The points there are, oldest first.
#[derive(Debug, Default)]
pub struct History {
    points: VecDeque<Arc<Point>>,
    next: u64,
}

impl History {
    /// Keeps what the last second of `stats` was like.
    pub fn keep(&mut self, stats: &Stats) {
        let pools = stats.pools.iter().take(HISTORY_POOLS_MAX);
        let workers = stats.workers.iter().take(HISTORY_WORKERS_MAX);
        let point = Point {
            seq: self.next,
            at_ms: stats.unix_ms,
            total: Pace::of(&stats.total.rates.second),
            pools: pools
                .map(|pool| (pool.name.clone(), Pace::of(&pool.rates.second)))
                .collect(),
            busy: workers
                .map(|worker| (worker.rates.second.busy_percent * 10.0).round() as f32 / 10.0)
                .collect(),
        };
        self.next += 1;
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Arc::new(point));
    }

    /// Points from number `from` on.
    pub fn since(&self, from: u64) -> Vec<Arc<Point>> {
        let known = self.points.partition_point(|point| point.seq < from);
        self.points.iter().skip(known).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::sample;

    #[test]
    fn the_past_is_bounded_and_told_once() {
        let mut history = History::default();
        let stats = sample::stats();
        for _ in 0..POINTS_MAX + 50 {
            history.keep(&stats);
        }
        let all = history.since(0);
        assert_eq!(all.len(), POINTS_MAX);
        assert_eq!(all[0].seq, 50);
        let last = all[POINTS_MAX - 1].seq;
        assert_eq!(history.since(last).len(), 1);
        assert!(history.since(last + 1).is_empty());
        assert!(history.since(u64::MAX).is_empty());
    }

    #[test]
    fn a_point_has_the_last_second_of_everything() {
        let mut history = History::default();
        let stats = sample::stats();
        history.keep(&stats);
        let point = &history.since(0)[0];
        assert_eq!(point.pools.len(), stats.pools.len());
        assert_eq!(point.busy.len(), stats.workers.len());
        let latency = stats.total.rates.second.latency.unwrap();
        assert_eq!(point.total.p99_us, Some(latency.p99_us));
    }
}
