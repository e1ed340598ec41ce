//! Faults that the simulator puts into the product to see that it finds them.
//!
//! Without the feature `mutants`, which no build of the product has, [`has`] is a constant and what stands behind it is not compiled in.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The late reply to a request that was given up is taken for that to the next.
    SkipsTombstones,
    /// The own connection of a client that is gone is used again, whatever it owes.
    ReusesOwing,
    /// What is sent again is lost.
    DropsRetransmits,
    /// The bytes of a segment that comes twice are taken twice.
    TakesDuplicates,
    /// Frames with a wrong checksum are not counted.
    ForgetsCounter,
    /// Connections that a dead worker left open are not ended.
    LeavesOrphans,
}

impl Mutant {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("skips-tombstones", Self::SkipsTombstones),
        ("reuses-owing", Self::ReusesOwing),
        ("drops-retransmits", Self::DropsRetransmits),
        ("takes-duplicates", Self::TakesDuplicates),
        ("forgets-counter", Self::ForgetsCounter),
        ("leaves-orphans", Self::LeavesOrphans),
    ];
}

/// Whether the product has this fault: never.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn has(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use chosen::{choose, has};

#[cfg(feature = "mutants")]
mod chosen {
    use super::Mutant;
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Mutant> = OnceLock::new();

    /// From now on every worker of this process has this fault. The first choice stays.
    pub fn choose(mutant: Mutant) {
        let _chosen_before = CHOSEN.set(mutant);
    }

    /// Whether this fault was chosen.
    pub fn has(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(&mutant)
    }
}
