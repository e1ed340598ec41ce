//! A watch on keys: for a while, which come most often and which have the largest values.
//!
//! It is made outside of the loop, put in with [`Proxy::watch_keys`](crate::Proxy::watch_keys), and comes out when its time is over.
//! While there is none, a request costs what it does without.

mod big;
mod hot;

pub use big::BigKey;
pub use hot::HotKey;

use crate::limits::{BIG_KEYS, HOT_KEYS};
use crate::notes::{NEVER_SLOW, Noting};
use crate::proxy::Proxy;
use crate::split::hash_of;
use big::BigKeys;
use hot::HotKeys;
use tidegate_protocol::{Request, Route};

/// What is watched, and what was seen.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyWatch {
    /// The manager's number of it.
    id: u64,
    /// `None`: every pool.
    pool: Option<u16>,
    until_us: u64,
    seed: u64,
    /// One key in so many is counted.
    sample: u32,
    /// Keys that pass before the next is counted.
    skip: u32,
    random: u64,
    hot: HotKeys,
    big: BigKeys,
    /// Keys that came.
    passed: u64,
}

impl KeyWatch {
    /// A watch on `pool`, or on all, that counts one key in `sample`. Allocates; `seed` keeps anybody from choosing keys that
    /// count as one.
    pub fn new(id: u64, pool: Option<u16>, sample: u32, seed: u64) -> Self {
        Self {
            id,
            pool,
            until_us: 0,
            seed,
            sample: sample.max(1),
            skip: 0,
            random: seed | 1,
            hot: HotKeys::new(HOT_KEYS),
            big: BigKeys::new(BIG_KEYS),
            passed: 0,
        }
    }

    /// The manager's number of it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Keys that came while it watched.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Keys of those that were counted.
    pub fn counted(&self) -> u64 {
        self.hot.total()
    }

    /// How often a key may have been counted that is not among [`KeyWatch::hot`].
    pub fn floor(&self) -> u64 {
        self.hot.floor()
    }

    /// The most frequent keys, in no order.
    pub fn hot(&self) -> impl Iterator<Item = HotKey> {
        self.hot.iter()
    }

    /// The keys with the largest values, in no order.
    pub fn big(&self) -> impl Iterator<Item = BigKey> {
        self.big.iter()
    }

    fn watches(&self, pool: u16) -> bool {
        self.pool.is_none_or(|watched| watched == pool)
    }

    fn hash(&self, pool: u16, key: &[u8]) -> u64 {
        hash_of(self.seed ^ u64::from(pool), key)
    }

    /// A key came.
    #[inline]
    fn count(&mut self, pool: u16, key: &[u8]) {
        self.passed += 1;
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        // Gaps of random length: with a fixed one, traffic with the same rhythm would show only some of its keys.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let gaps = u64::from(self.sample) * 2 - 1;
        self.skip = (self.random % gaps) as u32;
        self.hot.add(pool, self.hash(pool, key), key);
    }

    /// The keys of a request come.
    pub(crate) fn count_keys(&mut self, pool: u16, request: &Request, bytes: &[u8]) {
        if !self.watches(pool) {
            return;
        }
        match request.route {
            Route::Key | Route::Base64Key => {
                self.count(pool, bytes.get(request.key.clone()).unwrap_or_default());
            }
            Route::Split(_) | Route::Together | Route::Pinned(_) => {
                for part in request.keys(bytes) {
                    self.count(pool, bytes.get(part.key).unwrap_or_default());
                }
            }
            _ => {}
        }
    }

    /// The hash of a request's key, if that is its only one. 0: it has several, or none.
    pub(crate) fn hash_of_only(&self, pool: u16, request: &Request, bytes: &[u8]) -> u64 {
        match request.route {
            Route::Key | Route::Base64Key if self.watches(pool) => {
                let key = bytes.get(request.key.clone()).unwrap_or_default();
                self.hash(pool, key).max(1)
            }
            _ => 0,
        }
    }

    /// Pools have other numbers now. A key of one that moved counts as another from here on: its hash is one of its pool.
    pub(crate) fn translate(&mut self, pool: impl Fn(u16) -> u16) {
        self.pool = self.pool.map(&pool);
        self.hot.translate(&pool);
        self.big.translate(&pool);
    }

    /// A request was answered that has one key.
    #[inline]
    pub(crate) fn see(&mut self, seen: &BigKey) {
        self.big.see(seen);
    }
}

impl Proxy {
    /// Begins to watch keys, until `until_us`. A watch under way is over: it is returned.
    pub fn watch_keys(&mut self, mut watch: Box<KeyWatch>, until_us: u64) -> Option<Box<KeyWatch>> {
        watch.until_us = until_us;
        let replaced = self.key_watch.replace(watch);
        self.set_notes();
        replaced
    }

    /// The watch whose time is over.
    pub fn take_watched(&mut self) -> Option<Box<KeyWatch>> {
        let over = |watch: &mut Box<KeyWatch>| watch.until_us <= self.now_us;
        let watched = self.key_watch.take_if(over)?;
        self.set_notes();
        Some(watched)
    }

    /// When the watch under way is over.
    pub(crate) fn watched_until_us(&self) -> Option<u64> {
        self.key_watch.as_ref().map(|watch| watch.until_us)
    }

    /// Notes are taken where somebody wants to know.
    pub(crate) fn set_notes(&mut self) {
        for (index, pool) in self.pools.iter_mut().enumerate() {
            let watch = self.key_watch.as_ref();
            pool.noting = if watch.is_some_and(|watch| watch.watches(index as u16)) {
                Noting::Keys
            } else if pool.slow_us != NEVER_SLOW {
                Noting::Slow
            } else {
                Noting::Nothing
            };
        }
    }
}
