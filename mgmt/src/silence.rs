//! For how long a worker's heartbeat has stayed away.

use std::time::{Duration, Instant};

/// A silence is counted in steps of at most this, so that a manager that was stopped itself does not blame its workers.
const SILENCE_STEP: Duration = Duration::from_secs(1);

/// How long a heartbeat has not changed although the process had a core, or wanted none.
#[derive(Debug)]
pub struct Silence {
    heartbeat: u64,
    lasted: Duration,
    looked: Instant,
    /// How long the process has waited for a core in all its life.
    waited: Duration,
}

impl Silence {
    /// None so far.
    pub fn from(now: Instant) -> Self {
        Self {
            heartbeat: 0,
            lasted: Duration::ZERO,
            looked: now,
            waited: Duration::ZERO,
        }
    }

    /// A worker that is kept from its core by others does not hang: killing it would only cost its connections.
    pub fn observe(&mut self, heartbeat: u64, waited: Duration, now: Instant) -> Duration {
        let step = now.saturating_duration_since(self.looked).min(SILENCE_STEP);
        let waiting = waited.saturating_sub(self.waited);
        self.looked = now;
        self.waited = waited;
        if heartbeat == self.heartbeat {
            self.lasted += step.saturating_sub(waiting);
        } else {
            self.heartbeat = heartbeat;
            self.lasted = Duration::ZERO;
        }
        self.lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_grows_by_small_steps_and_ends_with_a_beat() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut silence = Silence::from(start);
        let none = Duration::ZERO;
        assert_eq!(silence.observe(0, none, at(1)), Duration::from_secs(1));
        assert_eq!(
            silence.observe(0, none, at(60)),
            Duration::from_secs(2),
            "the manager itself was away"
        );
        assert_eq!(silence.observe(1, none, at(61)), Duration::ZERO);
        assert_eq!(silence.observe(1, none, at(62)), Duration::from_secs(1));
    }

    #[test]
    fn a_worker_that_waits_for_its_core_is_not_silent() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut silence = Silence::from(start);
        let waited = Duration::from_millis;
        assert_eq!(silence.observe(0, waited(900), at(1)), waited(100));
        assert_eq!(silence.observe(0, waited(1_900), at(2)), waited(100));
        assert_eq!(silence.observe(0, waited(1_900), at(3)), waited(1_100));
    }
}
