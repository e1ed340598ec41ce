//! The largest values of many, each under its key.

use crate::notes::NotedKey;

/// The largest request or reply that was seen of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BigKey {
    /// Its pool, by position in the configuration.
    pub pool: u16,
    /// The key.
    pub key: NotedKey,
    /// Tells keys apart whose fronts are the same.
    pub hash: u64,
    /// Bytes of the request or reply, the protocol's own among them.
    pub bytes: u64,
    /// The command.
    pub command: &'static str,
}

/// The keys with the largest values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BigKeys {
    keys: Vec<BigKey>,
    places: usize,
    /// Bytes of the smallest, once every place is taken.
    floor: u64,
}

impl BigKeys {
    /// Reserves so many places, at least one.
    pub fn new(places: usize) -> Self {
        let places = places.max(1);
        Self {
            keys: Vec::with_capacity(places),
            places,
            floor: 0,
        }
    }

    /// Notes a value, if it is among the largest. Keys with the same hash are taken for one.
    #[inline]
    pub fn see(&mut self, seen: &BigKey) {
        if seen.bytes > self.floor {
            self.put(seen);
        }
    }

    fn put(&mut self, seen: &BigKey) {
        if let Some(place) = self.keys.iter().position(|key| key.hash == seen.hash) {
            if self.keys[place].bytes >= seen.bytes {
                return;
            }
            self.keys[place] = *seen;
        } else if self.keys.len() < self.places {
            self.keys.push(*seen);
        } else if let Some(place) = self.smallest() {
            self.keys[place] = *seen;
        }
        if self.keys.len() == self.places {
            self.floor = self.smallest().map_or(0, |place| self.keys[place].bytes);
        }
    }

    fn smallest(&self) -> Option<usize> {
        let keys = self.keys.iter().enumerate();
        keys.min_by_key(|(_, key)| key.bytes)
            .map(|(place, _)| place)
    }

    /// Pools have other numbers now.
    pub fn translate(&mut self, pool: impl Fn(u16) -> u16) {
        self.keys
            .iter_mut()
            .for_each(|key| key.pool = pool(key.pool));
    }

    /// The noted values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = BigKey> {
        self.keys.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::hash_of;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn the_largest_of_different_keys_are_kept(
            places in 1..10usize,
            stream in prop::collection::vec((0..30u8, 1..1000u64), 0..300),
        ) {
            let mut sketch = BigKeys::new(places);
            let mut truth: HashMap<u8, u64> = HashMap::new();
            for &(key, bytes) in &stream {
                let hash = hash_of(7, &[key]);
                let seen = BigKey { pool: 0, key: NotedKey::new(&[key]), hash, bytes, command: "get" };
                sketch.see(&seen);
                let largest = truth.entry(key).or_default();
                *largest = bytes.max(*largest);
            }
            let mut expected: Vec<u64> = truth.values().copied().collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            expected.truncate(places);
            let mut kept: Vec<u64> = sketch.iter().map(|key| key.bytes).collect();
            kept.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(kept, expected);
            for key in sketch.iter() {
                prop_assert_eq!(truth[&key.key.front()[0]], key.bytes);
            }
        }
    }
}
