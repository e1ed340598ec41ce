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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::{ReadableWords, create};
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_reader_never_sees_a_mixture() {
        let file = create("test", 16).unwrap();
        let writer = WritableWords::map(&file, 16).unwrap();
        let reader = ReadableWords::map(&file, 16).unwrap();
        let finished = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..200_000_u64 {
                    write(&writer, 3, &[round, round * 3, round * 7, !round]);
                }
                finished.store(true, Ordering::Release);
            });
            let mut reads = 0;
            while !finished.load(Ordering::Acquire) {
                let mut values = [0; 4];
                if read(&reader, 3, &mut values).is_some() && values[0] != 0 {
                    let round = values[0];
                    assert_eq!(values, [round, round * 3, round * 7, !round]);
                    reads += 1;
                }
            }
            let mut values = [0; 4];
            assert!(
                read(&reader, 3, &mut values).is_some(),
                "after {reads} reads beside the writer"
            );
            assert_eq!(values[0], 199_999);
        });
    }

    #[test]
    fn a_writer_that_died_half_way_is_no_news_and_its_successor_goes_on() {
        let file = create("test", 8).unwrap();
        let words = WritableWords::map(&file, 8).unwrap();
        words.store(0, 7, Ordering::Relaxed);
        let mut values = [0; 2];
        assert_eq!(read(&words, 0, &mut values), None);
        write(&words, 0, &[1, 2]);
        assert_eq!(read(&words, 0, &mut values), Some(8));
        assert_eq!(values, [1, 2]);
    }

    #[test]
    fn the_sequence_wraps() {
        let file = create("test", 8).unwrap();
        let words = WritableWords::map(&file, 8).unwrap();
        words.store(0, u64::MAX - 1, Ordering::Relaxed);
        write(&words, 0, &[9]);
        let mut values = [0];
        assert_eq!(read(&words, 0, &mut values), Some(0));
        assert_eq!(values, [9]);
    }
}
