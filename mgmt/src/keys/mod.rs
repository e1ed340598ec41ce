//! Hot and big keys: for some seconds every worker watches the keys of its requests, then the manager joins what they saw.

pub mod command;
mod join;
mod table;

use crate::control::Answer;
use crate::control::server::Ticket;
use crate::supervisor::Slot;
use crate::worker_process::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tidegate_channel::keys::{BigEntry, HotEntry, KeysSeen, WatchKeys};
use tidegate_channel::message::ToWorker;
use tidegate_config::Config;

/// Longest watch. Why: a person waits for it; longer tells no more.
pub const SECONDS_MAX: u32 = 300;
/// Fewest of which one is counted. Why: of fewer keys nothing would be left.
pub const SAMPLE_MAX: u32 = 10_000;
/// What workers get beyond the time of the watch to tell of it.
const GRACE: Duration = Duration::from_secs(2);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Name of the pool; `None`: all.
    pub pool: Option<String>,
    /// How long.
    pub seconds: u32,
    /// One key in so many is counted.
    pub sample: u32,
}

/// What was seen of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How long it was looked.
    pub seconds: u32,
    /// Workers that did not tell what they saw.
    pub missing: Vec<u32>,
    /// Keys of all requests.
    pub passed: u64,
    /// Keys of those that were counted.
    pub counted: u64,
    /// How often a key may have been counted that is not listed.
    pub floor: u64,
    /// The most frequent, most frequent first.
    pub hot: Vec<HotEntry>,
    /// Those with the largest requests or replies, largest first.
    pub big: Vec<BigEntry>,
}

/// A watch under way.
#[derive(Debug)]
struct Watch {
    id: u64,
    ticket: Ticket,
    seconds: u32,
    deadline: Instant,
    /// Workers that have not told all.
    awaited: BTreeSet<usize>,
    /// What each told so far.
    seen: Vec<(usize, KeysSeen)>,
}

/// The watch of the instance, if there is one.
#[derive(Debug, Default)]
pub struct Keys {
    ids: u64,
    watch: Option<Watch>,
}

/// An answer that is due.
pub type Due = (Ticket, Answer);

impl Keys {
    /// Begins a watch. A request that is wrong, and a watch that is over by this, are answered.
    pub fn begin(
        &mut self,
        ticket: Ticket,
        ask: &Ask,
        config: &Config,
        slots: &mut [Slot],
        seed: u64,
    ) -> Vec<Due> {
        let pool = match check(ask, config) {
            Ok(pool) => pool,
            Err(faults) => return vec![(ticket, Answer::Error { faults })],
        };
        let replaced = self.watch.take().map(|watch| {
            let text = "another watch on keys was begun before this one was over";
            (watch.ticket, Answer::fault(text))
        });
        self.ids += 1;
        let message = WatchKeys {
            id: self.ids,
            pool,
            sample: ask.sample,
            lasts_ms: ask.seconds * 1_000,
            seed,
        };
        let mut awaited = BTreeSet::new();
        for slot in slots {
            if let Some(process) = &mut slot.process
                && process.stage == Stage::Running
            {
                process.send(ToWorker::WatchKeys(message), &[]);
                awaited.insert(slot.worker);
            }
        }
        self.watch = Some(Watch {
            id: self.ids,
            ticket,
            seconds: ask.seconds,
            deadline: Instant::now() + Duration::from_secs(ask.seconds.into()) + GRACE,
            awaited,
            seen: Vec::new(),
        });
        replaced.into_iter().collect()
    }

    /// Takes what a worker told.
    pub fn take(&mut self, worker: usize, seen: KeysSeen) {
        let Some(watch) = &mut self.watch else {
            return;
        };
        if watch.id != seen.id || !watch.awaited.contains(&worker) {
            return;
        }
        if seen.last {
            watch.awaited.remove(&worker);
        }
        let place = watch.seen.iter_mut().find(|(other, _)| *other == worker);
        match place {
            Some((_, sofar)) => join::add_part(sofar, seen),
            None => watch.seen.push((worker, seen)),
        }
    }

    /// When the watch under way is given up.
    pub fn due(&self) -> Option<Instant> {
        self.watch.as_ref().map(|watch| watch.deadline)
    }

    /// The answer, once every worker has told or the time is over.
    pub fn finish(&mut self, now: Instant) -> Option<Due> {
        let over = |watch: &mut Watch| watch.awaited.is_empty() || now >= watch.deadline;
        let watch = self.watch.take_if(over)?;
        let report = join::report(watch.seconds, &watch.awaited, &watch.seen);
        Some((watch.ticket, Answer::of(&report)))
    }
}

/// The position of the pool, or all that is wrong.
fn check(ask: &Ask, config: &Config) -> Result<Option<u32>, Vec<String>> {
    let mut faults = Vec::new();
    let mut within = |what: &str, number: u32, max: u32| {
        if !(1..=max).contains(&number) {
            faults.push(format!("{what} = {number} must be between 1 and {max}"));
        }
    };
    within("seconds", ask.seconds, SECONDS_MAX);
    within("sample", ask.sample, SAMPLE_MAX);
    let pool = ask.pool.as_ref().map(|name| {
        let found = config.pools.iter().position(|pool| pool.name == *name);
        found.map(|index| index as u32).ok_or_else(|| {
            let names: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
            format!("there is no pool {name:?}, only {}", names.join(", "))
        })
    });
    match pool.transpose() {
        Ok(pool) if faults.is_empty() => Ok(pool),
        Ok(_) => Err(faults),
        Err(fault) => {
            faults.push(fault);
            Err(faults)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.1:1\"\n\
                    servers = [\"192.0.2.2:1\"]\n[[pool]]\nname = \"b\"\nprotocol = \"redis\"\nlisten = \"192.0.2.1:2\"\n\
                    servers = [\"192.0.2.2:1\"]\n";
        Config::parse(text, "test").unwrap()
    }

    #[test]
    fn everything_that_is_wrong_with_a_request_is_said_at_once() {
        let ask = |pool: Option<&str>, seconds, sample| Ask {
            pool: pool.map(str::to_owned),
            seconds,
            sample,
        };
        let config = config();
        assert_eq!(check(&ask(None, 1, 1), &config), Ok(None));
        assert_eq!(check(&ask(Some("b"), 300, 10_000), &config), Ok(Some(1)));
        let faults = check(&ask(Some("c"), 301, 0), &config).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(faults[2], "there is no pool \"c\", only a, b");
    }
}
