//! When to start a worker again.

use std::time::{Duration, Instant};

/// First delay after a restart that did not help. Short: a queue without a worker drops everything.
const FIRST: Duration = Duration::from_millis(50);
/// Longest delay: a worker that cannot start costs a process start every five seconds, and comes back within five seconds
/// of the cause going away.
const LONGEST: Duration = Duration::from_secs(5);
/// After living this long a worker counts as healthy, and the next restart is immediate again.
const HEALTHY: Duration = Duration::from_secs(30);

/// Exponential back-off: at once, then 50 ms, 100 ms, … 5 s.
#[derive(Debug, Default)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The worker that started at `started` ended at `ended`: how long to wait.
    pub fn after(&mut self, started: Instant, ended: Instant) -> Duration {
        if ended.saturating_duration_since(started) >= HEALTHY {
            self.next = Duration::ZERO;
        }
        let delay = self.next;
        self.next = (delay * 2).clamp(FIRST, LONGEST);
        delay
    }

    /// The worker says that trying again is pointless: the longest delay at once.
    pub fn give_time(&mut self) -> Duration {
        self.next = LONGEST;
        LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_the_rest_are_ever_slower() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        let delays: Vec<u64> = (0..10)
            .map(|_| backoff.after(start, start).as_millis() as u64)
            .collect();
        assert_eq!(
            delays,
            [0, 50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
        );
    }

    #[test]
    fn health_is_forgiveness() {
        let mut backoff = Backoff::default();
        let start = Instant::now();
        backoff.after(start, start);
        assert_eq!(backoff.after(start, start), FIRST);
        assert_eq!(backoff.after(start, start + HEALTHY), Duration::ZERO);
        assert_eq!(backoff.after(start, start + Duration::from_secs(29)), FIRST);
        assert_eq!(backoff.give_time(), LONGEST);
    }
}
