//! The most frequent of many keys, in bounded memory.
//!
//! This is Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005): a
//! key that is not among the counted ones takes the place of the least frequent and inherits its count, which may be too much by that.
//! After `n` keys every count is too high by at most `n / places`, never too low, and every key that came more often than that is
//! counted.

use crate::notes::NotedKey;

/// How often a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// Its pool, by position in the configuration.
    pub pool: u16,
    /// The key.
    pub key: NotedKey,
    /// Tells keys apart whose fronts are the same.
    pub hash: u64,
    /// At most so often …
    pub count: u64,
    /// … and at most so much less.
    pub error: u64,
}

/// The counted keys. Places are few, so they are searched one by one; hashes and counts stand apart for that.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HotKeys {
    hashes: Vec<u64>,
    counts: Vec<u64>,
    keys: Vec<HotKey>,
    places: usize,
    total: u64,
}

impl HotKeys {
    /// Reserves so many places, at least one.
    pub fn new(places: usize) -> Self {
        let places = places.max(1);
        Self {
            hashes: Vec::with_capacity(places),
            counts: Vec::with_capacity(places),
            keys: Vec::with_capacity(places),
            places,
            total: 0,
        }
    }

    /// Counts a key. Keys with the same hash are taken for one.
    pub fn add(&mut self, pool: u16, hash: u64, key: &[u8]) {
        self.total += 1;
        if let Some(place) = self.hashes.iter().position(|&other| other == hash) {
            self.counts[place] += 1;
            return;
        }
        let new = |error| HotKey {
            pool,
            key: NotedKey::new(key),
            hash,
            count: 0,
            error,
        };
        if self.keys.len() < self.places {
            self.hashes.push(hash);
            self.counts.push(1);
            self.keys.push(new(0));
            return;
        }
        let (place, least) = self.least();
        self.hashes[place] = hash;
        self.counts[place] = least + 1;
        self.keys[place] = new(least);
    }

    /// Pools have other numbers now.
    pub fn translate(&mut self, pool: impl Fn(u16) -> u16) {
        self.keys
            .iter_mut()
            .for_each(|key| key.pool = pool(key.pool));
    }

    /// The place with the lowest count, and that count.
    fn least(&self) -> (usize, u64) {
        let mut least = (0, u64::MAX);
        for (place, &count) in self.counts.iter().enumerate() {
            if count < least.1 {
                least = (place, count);
            }
        }
        least
    }

    /// Keys counted so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How often a key may have come that is not among the counted ones.
    pub fn floor(&self) -> u64 {
        if self.keys.len() < self.places {
            0
        } else {
            self.least().1
        }
    }

    /// The counted keys, in no order.
    pub fn iter(&self) -> impl Iterator<Item = HotKey> {
        let counts = self.keys.iter().zip(&self.counts);
        counts.map(|(key, &count)| HotKey { count, ..*key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::hash_of;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn counted(keys: &HotKeys) -> HashMap<Vec<u8>, HotKey> {
        keys.iter()
            .map(|hot| (hot.key.front().to_vec(), hot))
            .collect()
    }

    proptest! {
        /// The bounds of the algorithm, for few places and keys of which some come often.
        #[test]
        fn counts_are_within_their_error_and_no_frequent_key_is_missing(
            places in 1..20usize,
            stream in prop::collection::vec((0..40u8, 0..40u8), 0..600),
        ) {
            let mut sketch = HotKeys::new(places);
            let mut truth: HashMap<Vec<u8>, u64> = HashMap::new();
            for (one, other) in &stream {
                // The lower of two is more often low.
                let key = vec![*one.min(other)];
                sketch.add(0, hash_of(7, &key), &key);
                *truth.entry(key).or_default() += 1;
            }
            let total = stream.len() as u64;
            prop_assert_eq!(sketch.total(), total);
            let bound = total / places as u64;
            let counted = counted(&sketch);
            prop_assert!(counted.len() <= places);
            for (key, hot) in &counted {
                let came = truth[key];
                prop_assert!(came <= hot.count, "{hot:?} came {came} times");
                prop_assert!(hot.count - hot.error <= came, "{hot:?} came {came} times");
                prop_assert!(hot.error <= bound, "{hot:?} of {total}");
            }
            for (key, came) in &truth {
                if !counted.contains_key(key) {
                    prop_assert!(*came <= sketch.floor() && sketch.floor() <= bound, "{key:?} came {came} times");
                }
            }
            prop_assert_eq!(counted.values().map(|hot| hot.count).sum::<u64>(), total);
        }
    }

    #[test]
    fn with_a_place_for_each_key_every_count_is_exact() {
        let mut sketch = HotKeys::new(3);
        for key in [b"a", b"b", b"a", b"c", b"a"] {
            sketch.add(4, hash_of(7, key), key);
        }
        let counted = counted(&sketch);
        let a = counted[&b"a".to_vec()];
        assert_eq!((a.pool, a.count, a.error), (4, 3, 0));
        assert_eq!(sketch.floor(), 1);
    }
}
