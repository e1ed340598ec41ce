//! The totals of the last minute, by monotonic time: close together for the last ten seconds, further apart before.

use super::totals::Totals;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Between two samples.
const FINE: Duration = Duration::from_secs(1);
/// As many as the window of ten seconds needs.
const FINE_SAMPLES: usize = 12;
/// Between two that are kept longer: the window of a minute is as exact as half of it.
const COARSE_EVERY: u32 = 5;
/// As many as the window of a minute needs.
const COARSE_SAMPLES: usize = 14;
const _: () = assert!(FINE_SAMPLES as u64 * FINE.as_secs() > 10);
const _: () = assert!(COARSE_SAMPLES as u64 * COARSE_EVERY as u64 * FINE.as_secs() > 65);

/// The windows that are told, shortest first, the one since the start not among them.
pub const WINDOWS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_mins(1),
];

/// The totals of a moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The moment.
    pub at: Instant,
    /// The totals.
    pub totals: Rc<Totals>,
}

/// What is kept of the past.
#[derive(Debug)]
pub struct History {
    start: Sample,
    fine: VecDeque<Sample>,
    coarse: VecDeque<Sample>,
    until_coarse: u32,
    due: Instant,
}

/// Of a shorter time nothing can be said: workers publish now and then, and what they had before would be taken for its own.
pub const SHORTEST: Duration = Duration::from_millis(250);
const _: () = assert!(SHORTEST.as_millis() < FINE.as_millis());

impl History {
    /// `totals` had been counted before `now`: nothing, unless workers were adopted.
    pub fn new(now: Instant, totals: Totals) -> Self {
        let start = Sample {
            at: now,
            totals: Rc::new(totals),
        };
        Self {
            fine: VecDeque::with_capacity(FINE_SAMPLES),
            coarse: VecDeque::with_capacity(COARSE_SAMPLES),
            until_coarse: COARSE_EVERY,
            due: now + FINE,
            start,
        }
    }

    /// When the next sample is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Keeps the totals of `now`.
    pub fn keep(&mut self, now: Instant, totals: Totals) {
        let sample = Sample {
            at: now,
            totals: Rc::new(totals),
        };
        self.until_coarse -= 1;
        if self.until_coarse == 0 {
            self.until_coarse = COARSE_EVERY;
            push(&mut self.coarse, COARSE_SAMPLES, sample.clone());
        }
        push(&mut self.fine, FINE_SAMPLES, sample);
        // A manager that was stopped for a while does not make up for it.
        self.due = (self.due + FINE).max(now + FINE / 2);
    }

    /// The sample that is nearest to `window` before `now`.
    pub fn before(&self, now: Instant, window: Duration) -> &Sample {
        let samples = self.coarse.iter().chain(&self.fine);
        let distance = |sample: &&Sample| {
            let age = now.saturating_duration_since(sample.at);
            age.abs_diff(window)
        };
        samples
            .chain(std::iter::once(&self.start))
            .filter(|sample| now.saturating_duration_since(sample.at) >= SHORTEST)
            .min_by_key(distance)
            .unwrap_or(&self.start)
    }

    /// The newest totals.
    pub fn last(&self) -> Option<&Totals> {
        self.fine.back().map(|sample| &*sample.totals)
    }

    /// The beginning.
    pub fn start(&self) -> &Sample {
        &self.start
    }
}

fn push(samples: &mut VecDeque<Sample>, most: usize, sample: Sample) {
    if samples.len() == most {
        samples.pop_front();
    }
    samples.push_back(sample);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_as_long_as_they_say_and_the_past_is_bounded() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut history = History::new(start, Totals::default());
        for second in 1..=600 {
            assert!(history.due() <= at(second * 1_000));
            history.keep(at(second * 1_000), Totals::default());
        }
        assert!(history.fine.len() <= FINE_SAMPLES && history.coarse.len() <= COARSE_SAMPLES);
        let now = at(600_300);
        let off = WINDOWS.map(|window| {
            let age = now.duration_since(history.before(now, window).at);
            age.abs_diff(window)
        });
        assert!(off[0] <= Duration::from_millis(500), "{off:?}");
        assert!(off[1] <= Duration::from_millis(500), "{off:?}");
        assert!(off[2] <= Duration::from_millis(2_500), "{off:?}");
    }

    #[test]
    fn at_first_windows_reach_back_to_the_start() {
        let start = Instant::now();
        let mut history = History::new(start, Totals::default());
        let soon = start + Duration::from_millis(10);
        assert_eq!(history.before(soon, WINDOWS[2]).at, start);
        history.keep(start + FINE, Totals::default());
        let now = start + Duration::from_secs(3);
        assert_eq!(history.before(now, WINDOWS[2]).at, start);
        assert_eq!(history.before(now, WINDOWS[0]).at, start + FINE);
    }

    #[test]
    fn a_manager_that_was_stopped_does_not_sample_in_a_hurry() {
        let start = Instant::now();
        let mut history = History::new(start, Totals::default());
        let late = start + Duration::from_secs(100);
        history.keep(late, Totals::default());
        assert!(history.due() > late);
    }
}
