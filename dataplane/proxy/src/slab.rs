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
        self.limit - self.in_use()
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
        if self.entries.len() == self.limit {
            return None;
        }
        self.entries.push(value);
        Some(self.entries.len() as u32 - 1)
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
