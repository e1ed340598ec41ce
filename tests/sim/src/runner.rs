//! Many seeds, each on a thread to itself; a panic is a promise broken.

use crate::books::Tally;
use crate::scenario::Scenario;
use crate::world::play;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

thread_local! {
    /// What the last panic of this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What came of a scenario.
#[derive(Debug)]
pub enum Verdict {
    /// Every promise was kept.
    Kept {
        /// The sums.
        tally: Tally,
        /// A hash over everything that happened.
        hash: u64,
        /// How long it took, in simulated microseconds.
        took_us: u64,
    },
    /// One was not.
    Broken {
        /// Which, and when.
        how: String,
        /// The last that happened, if it was recorded.
        lines: Vec<String>,
    },
}

/// Panics are noted, and not printed: shrinking makes hundreds.
fn hear_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            SAID.with(|said| *said.borrow_mut() = info.to_string());
        }));
    });
}

/// Plays a scenario.
pub fn try_out(scenario: &Scenario, records: bool) -> Verdict {
    hear_panics();
    match catch_unwind(AssertUnwindSafe(|| play(scenario, records))) {
        Ok(Ok(outcome)) => match outcome.broken {
            None => Verdict::Kept {
                tally: outcome.tally,
                hash: outcome.hash,
                took_us: outcome.took_us,
            },
            Some(broken) => Verdict::Broken {
                how: broken.to_string(),
                lines: outcome.lines,
            },
        },
        Ok(Err(error)) => Verdict::Broken {
            how: format!("the world could not go on: {error:#}"),
            lines: Vec::new(),
        },
        Err(_) => Verdict::Broken {
            how: SAID.with(|said| said.borrow().clone()),
            lines: Vec::new(),
        },
    }
}

/// Which seeds to play, and how.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first seed; the others follow.
    pub first: u64,
    /// How many, at the most.
    pub seeds: u64,
    /// How long, at the most.
    pub time: Option<Duration>,
    /// Requests of each seed, about.
    pub requests: u32,
    /// Seeds at once.
    pub jobs: usize,
    /// Goes on after a seed that fails, and prints each.
    pub keep_going: bool,
}

/// What came of a run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Seeds whose promises were kept.
    pub kept: u64,
    /// The sums over all seeds.
    pub tally: Tally,
    /// Simulated time, in microseconds.
    pub took_us: u64,
    /// The seed that was found to fail, and how.
    pub broken: Option<(u64, String)>,
}

impl Report {
    /// Adds what came of other seeds.
    pub fn add(&mut self, other: Self) {
        self.kept += other.kept;
        self.took_us += other.took_us;
        self.tally.add(&other.tally);
        // The lowest seed, so that as many threads as there may be find the same.
        let first = [self.broken.take(), other.broken].into_iter().flatten();
        self.broken = first.min_by_key(|(seed, _)| *seed);
    }
}

/// Plays seeds until one fails.
pub fn run(run: Run) -> Report {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let report = Mutex::new(Report::default());
    let end = run.time.map(|time| Instant::now() + time);
    let work = || {
        while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= run.seeds {
                return;
            }
            let seed = run.first.wrapping_add(number);
            let verdict = try_out(&Scenario::of(seed, run.requests), false);
            // Poisoned only by a panic that has been reported.
            let Ok(mut report) = report.lock() else {
                return;
            };
            let mut one = Report::default();
            match verdict {
                Verdict::Kept { tally, took_us, .. } => {
                    one.kept = 1;
                    one.took_us = took_us;
                    one.tally = tally;
                }
                Verdict::Broken { how, .. } => {
                    if run.keep_going {
                        eprintln!("seed {seed} breaks a promise {how}");
                    } else {
                        stop.store(true, Ordering::Relaxed);
                    }
                    one.broken = Some((seed, how));
                }
            }
            report.add(one);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..run.jobs.max(1) {
            scope.spawn(work);
        }
    });
    report.into_inner().unwrap_or_default()
}
