//! What a manager and a worker that were not started by each other have to agree on.
//!
//! A worker outlives its manager, and the next one may be of another build. It can take the worker over only if both mean the same by
//! every message, by every word of the statistics page and by every entry of the path table. [`PROTOCOL`] is a number that differs when
//! one of those does: most of it follows from the tables themselves, so that nobody has to remember it.

use crate::counters::{
    CounterRow, LinkCounters, LoopCounters, PoolCounters, QueueCounters, ServerCounters,
    SocketCounters, StackCounters,
};
use crate::flows::FlowSlots;
use crate::paths;
use crate::statistics::StatisticsLayout;

/// Raised by hand when messages, descriptors or the meaning of a counter change. A configuration that cannot be read shows by itself.
const REVISION: u64 = 6;

/// What this build speaks.
pub const PROTOCOL: u64 = {
    let layout = StatisticsLayout {
        queues: 1,
        pools: 1,
        servers: 1,
        flows: FlowSlots {
            clients: 1,
            servers: 1,
        },
    };
    let mut hash = mix(FNV_OFFSET, REVISION);
    hash = mix(hash, layout.words() as u64);
    hash = mix(hash, paths::ENTRY_WORDS as u64);
    hash = rows(hash, LoopCounters::ROWS);
    hash = rows(hash, StackCounters::ROWS);
    hash = rows(hash, SocketCounters::ROWS);
    hash = rows(hash, LinkCounters::ROWS);
    hash = rows(hash, QueueCounters::ROWS);
    hash = rows(hash, PoolCounters::ROWS);
    rows(hash, ServerCounters::ROWS)
};

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

const fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(FNV_PRIME)
}

/// The names in their order: a counter that is added, taken away or moved changes it.
const fn rows(mut hash: u64, rows: &[CounterRow]) -> u64 {
    let mut row = 0;
    while row < rows.len() {
        let name = rows[row].name.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            hash = mix(hash, name[byte] as u64);
            byte += 1;
        }
        // No byte of a name: two names never run into each other.
        hash = mix(hash, 0x100);
        row += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(names: &[&'static str]) -> u64 {
        let usual = LoopCounters::ROWS[0];
        let named = |name: &&'static str| CounterRow { name, ..usual };
        let list: Vec<CounterRow> = names.iter().map(named).collect();
        rows(FNV_OFFSET, &list)
    }

    #[test]
    fn a_table_that_changes_in_any_way_is_another_protocol() {
        let usual = hash(&["turns", "sleeps"]);
        for other in [
            &["sleeps", "turns"][..],
            &["turns"],
            &["turns", "sleeps", "pauses"],
            &["turnss", "leeps"],
        ] {
            assert_ne!(hash(other), usual, "{other:?}");
        }
    }
}
