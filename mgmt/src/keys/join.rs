//! What several workers saw, as one.

use super::Report;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use tidegate_channel::keys::{BigEntry, HOT_TOLD, HotEntry, KeysSeen};

/// Most entries of each kind that one worker tells: a worker that says more is not one of ours.
const OF_WORKER_MAX: usize = 1_024;

/// Adds a part of what a worker saw to those before it.
pub(super) fn add_part(sofar: &mut KeysSeen, part: KeysSeen) {
    sofar.hot.extend(part.hot);
    sofar.hot.truncate(OF_WORKER_MAX);
    sofar.big.extend(part.big);
    sofar.big.truncate(OF_WORKER_MAX);
}

/// Joins what workers saw. Every listed key came at most `count` times and at least `error` fewer, every other at most `floor` times.
pub(super) fn report(
    seconds: u32,
    missing: &BTreeSet<usize>,
    seen: &[(usize, KeysSeen)],
) -> Report {
    let sum = |number: fn(&KeysSeen) -> u64| {
        let numbers = seen.iter().map(|(_, seen)| number(seen));
        numbers.fold(0, u64::saturating_add)
    };
    let (hot, cut) = hot(seen);
    Report {
        seconds,
        missing: missing.iter().map(|worker| *worker as u32).collect(),
        passed: sum(|seen| seen.passed),
        counted: sum(|seen| seen.counted),
        floor: sum(|seen| seen.floor).max(cut),
        hot,
        big: big(seen),
    }
}

/// The most frequent keys, and how often one that is left out may have come. A worker that does not tell of a key may have counted it as often as
/// its floor says.
fn hot(seen: &[(usize, KeysSeen)]) -> (Vec<HotEntry>, u64) {
    let mut keys: BTreeMap<u64, HotEntry> = BTreeMap::new();
    for (_, of_worker) in seen {
        for entry in &of_worker.hot {
            keys.entry(entry.key.hash).or_insert_with(|| HotEntry {
                count: 0,
                error: 0,
                ..entry.clone()
            });
        }
    }
    for (_, of_worker) in seen {
        let told: BTreeMap<u64, &HotEntry> = of_worker
            .hot
            .iter()
            .map(|key| (key.key.hash, key))
            .collect();
        for (hash, key) in &mut keys {
            let (count, error) = told
                .get(hash)
                .map_or((of_worker.floor, of_worker.floor), |told| {
                    (told.count, told.error)
                });
            key.count = key.count.saturating_add(count);
            key.error = key.error.saturating_add(error);
        }
    }
    let mut keys: Vec<HotEntry> = keys.into_values().collect();
    keys.sort_by_key(|key| Reverse((key.count, key.key.hash)));
    let cut = keys.get(HOT_TOLD).map_or(0, |key| key.count);
    keys.truncate(HOT_TOLD);
    (keys, cut)
}

fn big(seen: &[(usize, KeysSeen)]) -> Vec<BigEntry> {
    let mut keys: BTreeMap<u64, BigEntry> = BTreeMap::new();
    for entry in seen.iter().flat_map(|(_, seen)| &seen.big) {
        let largest = keys.entry(entry.key.hash).or_insert_with(|| entry.clone());
        if largest.bytes < entry.bytes {
            *largest = entry.clone();
        }
    }
    let mut keys: Vec<BigEntry> = keys.into_values().collect();
    keys.sort_by_key(|key| Reverse((key.bytes, key.key.hash)));
    keys.truncate(HOT_TOLD);
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_channel::keys::ToldKey;

    fn key(name: &str) -> ToldKey {
        ToldKey {
            pool: "a".into(),
            key: name.into(),
            key_bytes: name.len() as u32,
            hash: u64::from(name.as_bytes()[0]),
        }
    }

    fn hot(name: &str, count: u64, error: u64) -> HotEntry {
        HotEntry {
            key: key(name),
            count,
            error,
        }
    }

    fn big(name: &str, bytes: u64) -> BigEntry {
        BigEntry {
            key: key(name),
            bytes,
            command: "get".into(),
        }
    }

    #[test]
    fn counts_are_added_and_what_a_worker_does_not_tell_is_in_the_error() {
        let one = KeysSeen {
            passed: 100,
            counted: 50,
            floor: 3,
            hot: vec![hot("x", 30, 1), hot("y", 10, 0)],
            big: vec![big("x", 10), big("y", 50)],
            ..KeysSeen::default()
        };
        let other = KeysSeen {
            passed: 20,
            counted: 10,
            floor: 2,
            hot: vec![hot("x", 5, 0), hot("z", 4, 2)],
            big: vec![big("x", 90)],
            ..KeysSeen::default()
        };
        let joined = report(5, &BTreeSet::from([7]), &[(0, one), (1, other)]);
        assert_eq!(
            joined.hot,
            [hot("x", 35, 1), hot("y", 12, 2), hot("z", 7, 5)]
        );
        assert_eq!(joined.big, [big("x", 90), big("y", 50)]);
        assert_eq!((joined.passed, joined.counted, joined.floor), (120, 60, 5));
        assert_eq!(joined.missing, [7]);
    }

    #[test]
    fn the_floor_is_not_below_a_key_that_is_left_out() {
        let keys = |of_worker: u64| KeysSeen {
            floor: 1,
            hot: (0..HOT_TOLD as u64)
                .map(|number| HotEntry {
                    key: ToldKey {
                        hash: 1_000 * of_worker + number,
                        ..key("k")
                    },
                    count: 100 - number,
                    error: 0,
                })
                .collect(),
            ..KeysSeen::default()
        };
        let joined = report(5, &BTreeSet::new(), &[(0, keys(0)), (1, keys(1))]);
        assert_eq!(joined.hot.len(), HOT_TOLD);
        // Of each worker the 32 most frequent, and one more for what the other may have counted: at least 70. The next has 69.
        assert_eq!(joined.hot.last().map(|key| key.count), Some(70));
        assert_eq!(joined.floor, 69);
    }

    #[test]
    fn parts_are_put_together_up_to_a_limit() {
        let part = || KeysSeen {
            hot: vec![hot("x", 1, 0); 20],
            ..KeysSeen::default()
        };
        let mut sofar = part();
        for _ in 0..100 {
            add_part(&mut sofar, part());
        }
        assert_eq!(sofar.hot.len(), OF_WORKER_MAX);
    }
}
