//! So many a second, and no more.

use crate::limits::ECHOES_PER_SECOND;

const SECOND_US: u64 = 1_000_000;

/// Counts the echo requests of the present second.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    ends_us: u64,
    left: u32,
}

impl Throttle {
    /// Whether one more may be answered now.
    pub(crate) fn allows(&mut self, now_us: u64) -> bool {
        if now_us >= self.ends_us {
            self.ends_us = now_us + SECOND_US;
            self.left = ECHOES_PER_SECOND;
        }
        let allows = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allows
    }
}
