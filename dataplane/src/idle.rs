//! What an idle loop does: spin, then pause, then sleep.

use crate::limits::{IDLE_AWAKE_US, IDLE_SPIN_US, NAP_POLLED_US};
use crossbeam::utils::Backoff;
use std::time::Duration;
use tidegate_config::IdleMode;

/// What to do until the next look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Look again at once.
    Spin,
    /// Let others run, then look again.
    Pause,
    /// Sleep until a descriptor or a timer wakes the loop.
    Sleep,
}

/// How long the loop has been idle, and what follows from it.
#[derive(Debug)]
pub struct Idle {
    mode: IdleMode,
    looks_are_free: bool,
    since_us: Option<u64>,
    backoff: Backoff,
}

impl Idle {
    /// Starts busy. `looks_are_free`: see
    /// [`Network::LOOKS_ARE_FREE`](crate::network::Network::LOOKS_ARE_FREE).
    pub fn new(mode: IdleMode, looks_are_free: bool) -> Self {
        Self {
            mode,
            looks_are_free,
            since_us: None,
            backoff: Backoff::new(),
        }
    }

    /// Rests in this mode from now on.
    pub fn set_mode(&mut self, mode: IdleMode) {
        self.mode = mode;
    }

    /// The turn found something to do.
    #[inline]
    pub fn busy(&mut self) {
        if self.since_us.take().is_some() {
            self.backoff.reset();
        }
    }

    /// The turn found nothing to do.
    #[inline]
    pub fn rest(&mut self, now_us: u64) -> Rest {
        let idle_us = now_us.saturating_sub(*self.since_us.get_or_insert(now_us));
        match self.mode {
            IdleMode::Spin => Rest::Spin,
            IdleMode::Adaptive if !self.looks_are_free => Rest::Sleep,
            IdleMode::Adaptive if idle_us < IDLE_SPIN_US => Rest::Spin,
            IdleMode::Adaptive if idle_us < IDLE_AWAKE_US => Rest::Pause,
            IdleMode::Adaptive => Rest::Sleep,
        }
    }

    /// Gives way: a few processor pauses at first, the rest of the time slice later.
    pub fn pause(&self) {
        self.backoff.snooze();
    }

    /// Sleeps a moment where nothing could wake the loop.
    pub fn nap(&self) {
        std::thread::sleep(Duration::from_micros(NAP_POLLED_US));
    }

    /// Slept: being awake starts again.
    pub fn slept(&mut self) {
        self.busy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_loop_spins_then_pauses_then_sleeps_and_begins_anew() {
        let mut idle = Idle::new(IdleMode::Adaptive, true);
        assert_eq!(idle.rest(1_000), Rest::Spin);
        assert_eq!(idle.rest(1_000 + IDLE_SPIN_US - 1), Rest::Spin);
        assert_eq!(idle.rest(1_000 + IDLE_SPIN_US), Rest::Pause);
        assert_eq!(idle.rest(1_000 + IDLE_AWAKE_US), Rest::Sleep);
        idle.slept();
        assert_eq!(idle.rest(1_000 + IDLE_AWAKE_US), Rest::Spin);
        idle.busy();
        assert_eq!(idle.rest(9_000_000), Rest::Spin);
    }

    #[test]
    fn a_dedicated_core_never_rests() {
        for looks_are_free in [true, false] {
            let mut idle = Idle::new(IdleMode::Spin, looks_are_free);
            assert_eq!(idle.rest(0), Rest::Spin);
            assert_eq!(idle.rest(u64::MAX), Rest::Spin);
        }
    }

    #[test]
    fn where_a_look_is_a_system_call_the_first_one_waits() {
        let mut idle = Idle::new(IdleMode::Adaptive, false);
        assert_eq!(idle.rest(1_000), Rest::Sleep);
        idle.slept();
        assert_eq!(idle.rest(1_000), Rest::Sleep);
    }
}
