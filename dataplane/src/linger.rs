//! Waiting a little for a fuller burst, when many replies are owed.
//!
//! With many clients, frames trickle in while the loop turns, and each small burst pays the fixed cost of a turn and of a
//! transmit call. Waiting some microseconds gathers them. With few clients nothing more would come, so there is no wait.

use crate::limits::{LINGER_FRAMES, LINGER_OWED_MIN, LINGER_US};

/// Fixed point: one reply.
const ONE: usize = 64;

/// Decides whether to wait.
#[derive(Debug, Default)]
pub struct Linger {
    /// Replies recently owed, times [`ONE`]: follows a rise at once and forgets it by a sixty-fourth per busy turn.
    load: usize,
    since_us: Option<u64>,
}

impl Linger {
    /// After a busy turn: how many replies are owed now.
    #[inline]
    pub fn observe(&mut self, owed: usize) {
        self.since_us = None;
        self.load = (self.load - self.load.div_ceil(ONE)).max(owed.saturating_mul(ONE));
    }

    /// Whether so many replies are owed that whatever comes next will have company in a moment.
    #[inline]
    pub fn expects_company(&self) -> bool {
        self.load >= LINGER_OWED_MIN * ONE
    }

    /// Whether to leave `waiting` frames in their rings for now. Never waits for the first frame, only for company of one
    /// that is there.
    #[inline]
    pub fn waits(&mut self, now_us: u64, waiting: usize) -> bool {
        if !self.expects_company() || waiting == 0 || waiting >= LINGER_FRAMES {
            self.since_us = None;
            return false;
        }
        now_us.saturating_sub(*self.since_us.get_or_insert(now_us)) < LINGER_US
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_clients_never_wait() {
        let mut linger = Linger::default();
        linger.observe(LINGER_OWED_MIN - 1);
        assert!(!linger.waits(0, 1));
    }

    #[test]
    fn many_clients_wait_for_company_but_not_for_long() {
        let mut linger = Linger::default();
        assert!(!linger.expects_company());
        linger.observe(50);
        assert!(linger.expects_company());
        assert!(
            !linger.waits(100, 0),
            "nothing is there: that is idling, not lingering"
        );
        assert!(linger.waits(100, 1));
        assert!(linger.waits(100 + LINGER_US - 1, 3));
        assert!(!linger.waits(100 + LINGER_US, 3));
        assert!(!linger.waits(101, LINGER_FRAMES));
    }

    #[test]
    fn the_load_is_forgotten() {
        let mut linger = Linger::default();
        linger.observe(50);
        let turns = (0..10_000).take_while(|_| {
            linger.observe(1);
            linger.waits(0, 1)
        });
        let turns = turns.count();
        assert!((20..200).contains(&turns), "forgotten after {turns} turns");
    }
}
