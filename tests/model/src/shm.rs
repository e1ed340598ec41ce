//! Words of loom's in the place of shared memory. Which of them a descriptor means, the number of its file says.

use crate::mistake::Mistake;
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
pub use tidegate_channel::shm::{ShmError, check_owner, create, keep_to_owner};

pub use loom::sync::atomic::AtomicU64;

/// The fence of both sides: the writer's releases, the reader's acquires.
pub fn fence(ordering: Ordering) {
    let mistake = match ordering {
        Ordering::Release => Mistake::NoWritersFence,
        _ => Mistake::NoReadersFence,
    };
    if !mistake.is_made() {
        loom::sync::atomic::fence(ordering);
    }
}

type Words = Arc<[AtomicU64]>;

thread_local! {
    // All of loom's threads see it, as all processes see a file.
    static FILES: RefCell<HashMap<u64, Words>> = RefCell::default();
}

/// Forgets the files of the run before.
pub(crate) fn forget() {
    FILES.take();
}

fn zeros(words: usize) -> Words {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

fn words_of(file: impl AsFd, words: usize) -> Result<Words, ShmError> {
    let stat = rustix::fs::fstat(file).map_err(|error| ShmError::System {
        call: "fstat",
        error,
    })?;
    Ok(FILES.with_borrow_mut(|files| {
        let file = files.entry(stat.st_ino);
        file.or_insert_with(|| zeros(words)).clone()
    }))
}

/// As the product's.
pub trait LoadWords {
    /// One word.
    fn load(&self, index: usize, ordering: Ordering) -> u64;
    /// Number of words.
    fn words(&self) -> usize;
}

/// As the product's.
#[derive(Clone, Debug)]
pub struct ReadableWords(Words);

impl ReadableWords {
    /// As the product's.
    pub fn map(file: impl AsFd, words: usize) -> Result<Self, ShmError> {
        words_of(file, words).map(Self)
    }
}

impl LoadWords for ReadableWords {
    fn load(&self, index: usize, ordering: Ordering) -> u64 {
        self.0[index].load(Mistake::SequenceLoad.leaves(ordering))
    }

    fn words(&self) -> usize {
        self.0.len()
    }
}

/// As the product's.
#[derive(Clone, Debug)]
pub struct WritableWords(Words);

impl WritableWords {
    /// As the product's.
    pub fn map(file: impl AsFd, words: usize) -> Result<Self, ShmError> {
        words_of(file, words).map(Self)
    }

    /// Words that need no file, for both sides.
    pub fn pair(words: usize) -> (Self, ReadableWords) {
        let words = zeros(words);
        (Self(words.clone()), ReadableWords(words))
    }

    /// As the product's.
    pub fn store(&self, index: usize, value: u64, ordering: Ordering) {
        self.0[index].store(value, Mistake::SequenceStore.leaves(ordering));
    }
}

impl LoadWords for WritableWords {
    fn load(&self, index: usize, ordering: Ordering) -> u64 {
        self.0[index].load(ordering)
    }

    fn words(&self) -> usize {
        self.0.len()
    }
}
