//! Mistakes that a model has to notice.

use std::cell::Cell;
use std::sync::atomic::Ordering;

/// One mistake: what the named place of the product would do if it were written wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The producer shows its frames without releasing them.
    HeadStore,
    /// The consumer looks at the producer's index without acquiring what is behind it.
    HeadLoad,
    /// The consumer gives slots back without releasing them.
    TailStore,
    /// The producer looks at the consumer's index without acquiring what is behind it.
    TailLoad,
    /// There is no fence between a side's store and its look at what the other stored.
    NoFence,
    /// There is one, and it does not keep a store in front of a load.
    WeakFence,
    /// The consumer says that it sleeps after it has looked for frames, not before.
    SleepsLate,
    /// The last store of a sequence lock does not release its values.
    SequenceStore,
    /// The first load of a sequence lock does not acquire them.
    SequenceLoad,
    /// Nothing keeps the values of a sequence lock behind its odd number.
    NoWritersFence,
    /// Nothing keeps the last look at a sequence lock behind its values.
    NoReadersFence,
}

impl Mistake {
    /// Makes it until the end of the test.
    pub fn make(self) {
        MADE.set(Some(self));
    }

    pub(crate) fn is_made(self) -> bool {
        MADE.get() == Some(self)
    }

    /// What is left of `ordering`.
    pub(crate) fn leaves(self, ordering: Ordering) -> Ordering {
        if self.is_made() {
            Ordering::Relaxed
        } else {
            ordering
        }
    }
}

thread_local! {
    // Loom's threads are all of one thread of the system, so all of a model see it, and no other test does.
    static MADE: Cell<Option<Mistake>> = const { Cell::new(None) };
}
