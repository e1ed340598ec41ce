//! Waiting a little for a fuller burst, when many replies are owed.
//!
//! With many clients, frames trickle in while the loop turns, and each small burst pays the fixed cost of a turn and of a
//! transmit call. Waiting some microseconds gathers them. With few clients nothing more would come, so there is no wait.
//!
//! Over frames the loop is awake and leaves them in their rings a little longer ([`Linger::waits`]). Over sockets it is asleep,
//! and every arrival alone would wake it: there it naps before it looks ([`Linger::nap_us`]).

use crate::limits::{
    LINGER_FRAMES, LINGER_OWED_MIN, LINGER_US, NAP_MAX_US, NAP_MIN_US, NAP_PART_DIVISOR,
    NAP_REQUESTS_MIN,
};

/// Fixed point: one reply, request or microsecond.
const ONE: usize = 64;

/// The part of what is known about the pace that every sleep replaces, as a divisor.
const PACE_DIVISOR: u64 = 8;

/// Decides whether to wait.
#[derive(Debug, Default)]
pub struct Linger {
    /// Replies recently owed, times [`ONE`]: follows a rise at once and forgets it by a sixty-fourth per busy turn.
    load: usize,
    since_us: Option<u64>,
    /// Requests until the last sleep, and when that began.
    asked: u64,
    slept_us: u64,
    /// Since many replies are owed.
    pace: Option<Pace>,
}

/// How fast requests come: sums over the last sleeps and the turns between them, times [`ONE`], of which older ones count less.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    requests: u64,
    time_us: u64,
}

impl Pace {
    fn count(&mut self, requests: u64, time_us: u64) {
        let add = |sum: &mut u64, one: u64| *sum = *sum - *sum / PACE_DIVISOR + one * ONE as u64;
        add(&mut self.requests, requests);
        add(&mut self.time_us, time_us);
    }
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

    /// The loop is about to sleep, `asked` requests after its start: how long it does well to look at nothing.
    ///
    /// Replies that are owed, times the time between two requests, is what a reply takes at this pace; a nap adds a small part
    /// of that at most. Where hardly anybody would come meanwhile, it would only add latency.
    pub fn nap_us(&mut self, now_us: u64, asked: u64) -> u64 {
        let requests = asked - std::mem::replace(&mut self.asked, asked);
        let time_us = now_us.saturating_sub(std::mem::replace(&mut self.slept_us, now_us));
        if !self.expects_company() {
            self.pace = None;
            return 0;
        }
        let Some(pace) = &mut self.pace else {
            // The time before says nothing about the rush that has just begun.
            self.pace = Some(Pace::default());
            return 0;
        };
        pace.count(requests, time_us);
        let owed = (self.load / ONE) as u64;
        let reply_us = owed.saturating_mul(pace.time_us) / pace.requests.max(1);
        let nap_us = (reply_us / NAP_PART_DIVISOR).min(NAP_MAX_US);
        let company = nap_us * pace.requests >= NAP_REQUESTS_MIN * pace.time_us;
        if company && nap_us >= NAP_MIN_US {
            nap_us
        } else {
            0
        }
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

    /// What is napped in the end, with `requests` coming in every `time_us`.
    fn nap_at(owed: usize, requests: u64, time_us: u64) -> u64 {
        let mut linger = Linger::default();
        (1..200).fold(0, |_, sleep| {
            linger.observe(owed);
            linger.nap_us(sleep * time_us, sleep * requests)
        })
    }

    #[test]
    fn a_nap_is_a_small_part_of_what_a_reply_takes() {
        // A request every 10 µs, so with 32 of them a reply takes 320 µs.
        assert_eq!(nap_at(32, 1, 10), 40);
        assert_eq!(nap_at(32, 4, 40), 40);
        assert_eq!(nap_at(1_000, 1, 10), NAP_MAX_US);
        assert_eq!(nap_at(16, 1, 1), 0, "not worth it");
    }

    #[test]
    fn nobody_naps_who_would_be_alone() {
        assert_eq!(nap_at(LINGER_OWED_MIN - 1, 1, 10), 0, "few clients");
        assert_eq!(nap_at(16, 1, NAP_MAX_US - 10), NAP_MAX_US);
        assert_eq!(nap_at(16, 1, NAP_MAX_US + 10), 0, "somebody is slow");
        assert_eq!(nap_at(16, 0, 10), 0, "nothing comes");
    }

    #[test]
    fn the_time_before_a_rush_is_no_measure_for_it() {
        let mut linger = Linger::default();
        linger.observe(1);
        assert_eq!(linger.nap_us(0, 0), 0);
        linger.observe(100);
        assert_eq!(linger.nap_us(1_000_000, 100), 0, "asleep until now");
        assert_eq!(linger.nap_us(1_000_100, 200), 12);
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
