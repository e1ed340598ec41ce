//! What happens to a server again and again is told once, and then summed up: a server that resets every connection would otherwise fill
//! the log, and nobody would find anything else in it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate_proxy::Fault;
use tidegate_proxy::streams::ServerId;

/// The shortest time between two lines about one server. What an operator looks at changes within seconds; shorter fills the log, longer
/// hides that it has not ended.
const INTERVAL: Duration = Duration::from_secs(10);

/// When something was told of a server, and how often it has happened since.
#[derive(Clone, Copy, Debug)]
struct Lately {
    fault: Fault,
    told: Instant,
    held: u64,
}

/// Failures that were held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) server: ServerId,
    /// How many.
    pub(super) count: u64,
    /// Since when.
    pub(super) within: Duration,
    /// Which.
    pub(super) fault: Fault,
}

/// What was told of each server lately: at most one entry for each that the configuration has and each way to fail, so that a new one is
/// told at once.
#[derive(Debug, Default)]
pub(super) struct Repeats(BTreeMap<(u16, u8), Lately>);

impl Repeats {
    /// A connection to a server failed. Whether that is to be told now; otherwise it is held back.
    pub(super) fn is_new(&mut self, server: ServerId, fault: Fault, now: Instant) -> bool {
        let key = (server.0, fault as u8);
        if let Some(lately) = self.0.get_mut(&key) {
            lately.held += 1;
            return false;
        }
        let lately = Lately {
            fault,
            told: now,
            held: 0,
        };
        self.0.insert(key, lately);
        true
    }

    /// What was held back for long enough. What did not happen again is forgotten: the next time is news again.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Held> {
        let mut due = Vec::new();
        self.0.retain(|(server, _), lately| {
            if now.saturating_duration_since(lately.told) < INTERVAL {
                return true;
            }
            let held = held(*server, lately, now);
            due.extend(held);
            lately.told = now;
            lately.held = 0;
            held.is_some()
        });
        due
    }

    /// All that is held back: from here on servers have other numbers.
    pub(super) fn take_all(&mut self, now: Instant) -> Vec<Held> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.filter_map(|((server, _), lately)| held(server, &lately, now))
            .collect()
    }

    /// When [`Self::due`] has something to do.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let told = self.0.values().map(|lately| lately.told).min()?;
        Some((told + INTERVAL).saturating_duration_since(now))
    }
}

fn held(server: u16, lately: &Lately, now: Instant) -> Option<Held> {
    (lately.held > 0).then(|| Held {
        server: ServerId(server),
        count: lately.held,
        within: now.saturating_duration_since(lately.told),
        fault: lately.fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId(3);
    const OTHER: ServerId = ServerId(4);

    #[test]
    fn the_first_is_told_and_the_rest_are_summed_up() {
        let mut repeats = Repeats::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(repeats.is_new(SERVER, Fault::Closed, at(0)));
        for ms in 1..1_000 {
            assert!(!repeats.is_new(SERVER, Fault::Closed, at(ms)));
        }
        for (server, fault) in [(OTHER, Fault::Closed), (SERVER, Fault::Unauthorized)] {
            assert!(repeats.is_new(server, fault, at(500)), "each for itself");
        }
        assert_eq!(repeats.due(at(9_999)), []);
        assert_eq!(repeats.wait(at(9_000)), Some(Duration::from_secs(1)));
        let held = Held {
            server: SERVER,
            count: 999,
            within: INTERVAL,
            fault: Fault::Closed,
        };
        assert_eq!(repeats.due(at(10_000)), [held]);
        assert!(!repeats.is_new(SERVER, Fault::Closed, at(10_001)));
        assert_eq!(repeats.due(at(20_000)).len(), 1, "the others are forgotten");
        assert_eq!(repeats.due(at(30_000)), [], "nothing more happened");
        assert_eq!(repeats.wait(at(30_000)), None);
        assert!(
            repeats.is_new(SERVER, Fault::Closed, at(30_001)),
            "news again"
        );
    }

    #[test]
    fn nothing_that_was_held_back_is_lost_when_numbers_change() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        assert!(repeats.is_new(SERVER, Fault::Closed, now));
        assert!(!repeats.is_new(SERVER, Fault::Closed, now));
        let all = repeats.take_all(now);
        assert_eq!((all.len(), all[0].count), (1, 1));
        assert!(repeats.is_new(SERVER, Fault::Closed, now));
    }
}
