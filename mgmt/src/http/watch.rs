//! What only a comparison of two moments shows, for the log and so for the events of the page: servers that workers gave up or took
//! back. Workers decide that each for itself and say nothing.

use crate::stats::model::{ServerStats, Stats};

/// Most lines of one comparison. Why: a whole site that goes away is one event, not hundreds.
const LINES_MAX: usize = 8;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether it is for the worse.
    pub worse: bool,
    /// What it is.
    pub text: String,
}

/// Logs what changed between two moments.
pub fn log(before: &Stats, after: &Stats) {
    let changes = changes(before, after);
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

/// Servers that nobody had ejected before and somebody has now, and the other way round.
fn changes(before: &Stats, after: &Stats) -> Vec<Change> {
    let mut found = Vec::new();
    for pool in &after.pools {
        let Some(old) = before.pools.iter().find(|old| old.name == pool.name) else {
            continue;
        };
        for (place, server) in pool.servers.iter().enumerate() {
            let is_it =
                |old: &&ServerStats| old.name == server.name && old.address == server.address;
            // Nearly always it is where it was.
            let same_place = old.servers.get(place).filter(is_it);
            let Some(old) = same_place.or_else(|| old.servers.iter().find(is_it)) else {
                continue;
            };
            let (was, is) = (old.counters.ejected, server.counters.ejected);
            let (pool, server) = (&pool.name, &server.name);
            if was == 0 && is > 0 {
                let workers = after.workers.len();
                found.push(Change {
                    worse: true,
                    text: format!(
                        "pool {pool}: server {server} is ejected by {is} of {workers} workers"
                    ),
                });
            } else if was > 0 && is == 0 {
                found.push(Change {
                    worse: false,
                    text: format!("pool {pool}: server {server} is back"),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::sample;

    fn change(worse: bool, text: &str) -> Change {
        Change {
            worse,
            text: text.into(),
        }
    }

    #[test]
    fn servers_that_go_and_come_back_are_told_once() {
        let before = sample::stats();
        assert_eq!(changes(&before, &before), []);
        let mut after = before.clone();
        after.pools[0].servers[0].counters.ejected = 1;
        after.pools[0].servers[1].counters.ejected = 0;
        let expected = [
            change(
                true,
                "pool sessions: server cache-a is ejected by 1 of 2 workers",
            ),
            change(false, "pool sessions: server cache-b is back"),
        ];
        assert_eq!(changes(&before, &after), expected);
        let mut later = after.clone();
        later.pools[0].servers[0].counters.ejected = 2;
        assert_eq!(changes(&after, &later), []);
    }

    #[test]
    fn servers_are_known_by_name_and_address_wherever_they_stand() {
        let before = sample::stats();
        let mut after = before.clone();
        after.pools[0].servers.reverse();
        after.pools.reverse();
        assert_eq!(changes(&before, &after), []);
        after.pools[1].servers[1].name = "new".into();
        after.pools[1].servers[0].counters.ejected = 1;
        let expected = "pool sessions: server cache-e is ejected by 1 of 2 workers";
        assert_eq!(changes(&before, &after), [change(true, expected)]);
        after.pools[1].name = "other".into();
        assert_eq!(changes(&before, &after), []);
    }
}
