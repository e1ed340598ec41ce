//! What is counted.

use tidegate_channel::counters::LinkCounters;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Echoed,
    Learned,
    Conflicting,
    Malformed,
    NotOurs,
    Ignored,
    Limited,
    TxFull,
}

/// Counts a frame.
pub(crate) fn count(counters: &mut LinkCounters, outcome: Outcome) {
    counters.frames_in += 1;
    *match outcome {
        Outcome::Answered => &mut counters.frames_answered,
        Outcome::Echoed => &mut counters.frames_echoed,
        Outcome::Learned => &mut counters.frames_learned,
        Outcome::Conflicting => &mut counters.frames_conflicting,
        Outcome::Malformed => &mut counters.frames_malformed,
        Outcome::NotOurs => &mut counters.frames_not_ours,
        Outcome::Ignored => &mut counters.frames_ignored,
        Outcome::Limited => &mut counters.frames_limited,
        Outcome::TxFull => &mut counters.frames_tx_full,
    } += 1;
}
