//! Servers that workers gave up or took back. Workers decide that each for itself and say nothing: only a comparison of two moments shows
//! it, for the models, for the log, and so for the events of the status page.

use super::totals::Totals;
use crate::units::unix_ms;
use std::collections::BTreeMap;

/// Most lines of one comparison. Why: a whole site that goes away is one event, not hundreds.
const LINES_MAX: usize = 8;

/// Pool, name and address of a server.
pub type Place = (String, String, String);

/// When each server was last seen to go out of its distribution: milliseconds since 1970.
#[derive(Debug, Default)]
pub struct Ejections {
    last: BTreeMap<Place, u64>,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    /// Whether it is for the worse.
    worse: bool,
    /// What it is.
    text: String,
}

impl Ejections {
    /// When a server was last seen to go out; 0: never.
    pub fn last(&self, place: &Place) -> u64 {
        self.last.get(place).copied().unwrap_or(0)
    }

    /// Notes and logs what changed between two moments.
    pub fn look(&mut self, before: Option<&Totals>, now: &Totals) {
        let changes = self.note(before, now);
        let more = changes.len().saturating_sub(LINES_MAX);
        for Change { worse, text } in changes.into_iter().take(LINES_MAX) {
            if worse {
                tracing::warn!("{text}");
            } else {
                tracing::info!("{text}");
            }
        }
        if more > 0 {
            tracing::warn!("{more} more servers were ejected or are back");
        }
    }

    /// Servers that nobody had ejected before and somebody has now, and the other way round. Of those that were not there before nothing
    /// can be said but how they are.
    fn note(&mut self, before: Option<&Totals>, now: &Totals) -> Vec<Change> {
        let mut changes = Vec::new();
        for (pool_name, pool) in &now.pools {
            let old = before.and_then(|before| before.pools.get(pool_name));
            for (key, server) in &pool.servers {
                let (name, address) = key;
                let is = server.counters.ejected;
                let was = old.and_then(|old| old.servers.get(key));
                let was = was.map(|server| server.counters.ejected);
                if is > 0 && was.unwrap_or(0) == 0 {
                    let place = (pool_name.clone(), name.clone(), address.clone());
                    self.last.insert(place, unix_ms());
                }
                let workers = now.workers.len();
                let text = match was {
                    Some(0) if is > 0 => format!("is ejected by {is} of {workers} workers"),
                    Some(1..) if is == 0 => "is back".to_owned(),
                    _ => continue,
                };
                changes.push(Change {
                    worse: is > 0,
                    text: format!("pool {pool_name}: server {name} {text}"),
                });
            }
        }
        // Those that are configured no more are forgotten.
        self.last.retain(|(pool, name, address), _| {
            let pool = now.pools.get(pool);
            pool.is_some_and(|pool| {
                let key = (name.clone(), address.clone());
                pool.servers.contains_key(&key)
            })
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::totals::tests::{config, counted};

    /// Two workers, of which so many have ejected the second server.
    fn out(ejected: u64) -> Totals {
        let config = config();
        let mut totals = Totals::default();
        for worker in 0..2 {
            let mut counted = counted(1, 1);
            counted.servers[1].ejected = u64::from(u64::from(worker) < ejected);
            totals.add(&config, worker, &counted);
        }
        totals
    }

    fn place() -> Place {
        ["sessions", "b", "127.0.0.1:6380"]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn servers_that_go_and_come_back_are_told_once() {
        let mut ejections = Ejections::default();
        let mut changes = |before: u64, now: u64| {
            let changes = ejections.note(Some(&out(before)), &out(now));
            let told = changes
                .into_iter()
                .map(|change| (change.worse, change.text));
            told.collect::<Vec<_>>()
        };
        assert_eq!(changes(0, 0), []);
        let gone = "pool sessions: server b is ejected by 1 of 2 workers";
        assert_eq!(changes(0, 1), [(true, gone.to_owned())]);
        assert_eq!(changes(1, 2), []);
        let back = "pool sessions: server b is back";
        assert_eq!(changes(2, 0), [(false, back.to_owned())]);
    }

    #[test]
    fn the_moment_of_an_ejection_is_kept_until_the_next() {
        let mut ejections = Ejections::default();
        ejections.note(Some(&out(0)), &out(0));
        assert_eq!(ejections.last(&place()), 0);
        ejections.note(Some(&out(0)), &out(1));
        assert!(ejections.last(&place()) > 0);
        ejections.last.insert(place(), 5);
        ejections.note(Some(&out(1)), &out(1));
        assert_eq!(ejections.last(&place()), 5, "it is still the same one");
        ejections.note(Some(&out(1)), &Totals::default());
        assert_eq!(ejections.last(&place()), 0, "a server that is no more");
    }

    #[test]
    fn one_that_was_out_when_it_was_first_seen_is_noted_and_not_told() {
        let mut ejections = Ejections::default();
        assert_eq!(ejections.note(None, &out(1)), []);
        assert!(ejections.last(&place()) > 0);
    }
}
