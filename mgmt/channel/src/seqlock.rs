//! A sequence lock over shared words: one writer, any number of readers, nobody waits.
//!
//! A block is a sequence word followed by its values. The writer makes the sequence odd, writes, and makes it even
//! again; a reader that saw an odd or a changed sequence read a mixture and tries again. The order of memory accesses is
//! that of H.-J. Boehm, "Can seqlocks get along with programming language memory models?" (MSPC 2012).

use crate::limits::READ_TRIES;
use crate::shm::{LoadWords, WritableWords, fence};
use std::sync::atomic::Ordering;

/// Replaces the values of the block at `start`. Only one thread of one process may write a block.
#[inline]
pub fn write(words: &WritableWords, start: usize, values: &[u64]) {
    // A writer that died half-way left an odd number, from which the next one goes on.
    let odd = words.load(start, Ordering::Relaxed) | 1;
    words.store(start, odd, Ordering::Relaxed);
    fence(Ordering::Release);
    for (offset, value) in values.iter().enumerate() {
        words.store(start + 1 + offset, *value, Ordering::Relaxed);
    }
    words.store(start, odd.wrapping_add(1), Ordering::Release);
}

/// Copies the values of the block at `start` into `values`; returns its sequence number, or `None` when the writer never
/// left it alone, in which case `values` holds a mixture.
#[inline]
pub fn read(words: &impl LoadWords, start: usize, values: &mut [u64]) -> Option<u64> {
    for _ in 0..READ_TRIES {
        let before = words.load(start, Ordering::Acquire);
        if before & 1 == 1 {
            std::hint::spin_loop();
            continue;
        }
        for (offset, value) in values.iter_mut().enumerate() {
            *value = words.load(start + 1 + offset, Ordering::Relaxed);
        }
        fence(Ordering::Acquire);
        if words.load(start, Ordering::Relaxed) == before {
            return Some(before);
        }
    }
    None
}
