//! Fixed tables of reusable entries: reserved at start, handed out by index.

use std::ops::{Index, IndexMut};

/// No entry.
pub const NIL: u32 = u32::MAX;

/// A table of at most `limit` entries.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<T>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slab<T> {
    /// Reserves everything.
    pub fn new(limit: usize) -> Self {
        Self {
            entries: Vec::with_capacity(limit),
            free: Vec::with_capacity(limit),
            limit,
        }
    }

    /// Most entries that can be taken.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Entries that can still be taken.
    #[inline]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.in_use())
    }

    /// Entries that are taken.
    #[inline]
    pub fn in_use(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Takes an entry; `None` when all are taken.
    #[inline]
    pub fn take(&mut self, value: T) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = value;
            return Some(index);
        }
        if self.entries.len() >= self.limit {
            return None;
        }
        self.entries.push(value);
        Some(self.entries.len() as u32 - 1)
    }

    /// From now on at most `limit` entries are taken. `larger` has room for them, unless they fit already, and keeps the old room.
    /// Entries above a lower limit stay until they are given back.
    pub fn set_limit(&mut self, limit: usize, larger: &mut Self) {
        if limit > self.entries.capacity() && larger.entries.capacity() >= limit {
            larger.entries.append(&mut self.entries);
            larger.free.append(&mut self.free);
            std::mem::swap(&mut self.entries, &mut larger.entries);
            std::mem::swap(&mut self.free, &mut larger.free);
        }
        self.limit = limit.min(self.entries.capacity());
    }

    /// Every entry, also those that were given back and not taken again.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut()
    }

    /// Gives an entry back.
    #[inline]
    pub fn give(&mut self, index: u32) {
        debug_assert!(!self.free.contains(&index), "an entry is given back once");
        self.free.push(index);
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.entries[index as usize]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.entries[index as usize]
    }
}
