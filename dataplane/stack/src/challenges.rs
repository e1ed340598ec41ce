//! How many challenge acknowledgements leave.

use crate::limits::CHALLENGES_PER_SECOND;
use crate::stack::split_mix;

/// What may be sent in this second.
///
/// RFC 5961, section 7, asks for a throttle. One that every connection counts against, and whose size is known, tells a stranger
/// whether a challenge went to somebody else: he forges a segment, has the rest of the budget sent to himself and counts (Cao et al.,
/// "Off-Path TCP Exploits: Global Rate Limit Considered Dangerous", 2016). So nobody knows the size, and it is another each second.
pub(crate) struct Challenges {
    left: u32,
    second: u64,
    seed: u64,
}

impl Challenges {
    pub(crate) fn new(seed: u64) -> Self {
        let second = u64::MAX;
        let mut challenges = Self {
            left: 0,
            second,
            seed,
        };
        challenges.refill(0);
        challenges
    }

    /// Begins another second, if it has.
    #[inline]
    pub(crate) fn refill(&mut self, now_us: u64) {
        let second = now_us / 1_000_000;
        if second != self.second {
            self.second = second;
            let some = split_mix(&mut self.seed) % u64::from(CHALLENGES_PER_SECOND);
            self.left = CHALLENGES_PER_SECOND / 2 + some as u32;
        }
    }

    /// Whether one more may leave, which it then does.
    pub(crate) fn take(&mut self) -> bool {
        let some = self.left > 0;
        self.left -= u32::from(some);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::Challenges;
    use crate::limits::CHALLENGES_PER_SECOND;
    use std::collections::HashSet;

    /// What is left in each of `seconds` seconds.
    fn sizes(seed: u64, seconds: u64) -> Vec<usize> {
        let mut challenges = Challenges::new(seed);
        let size = |second: u64| {
            challenges.refill(second * 1_000_000);
            std::iter::repeat_with(|| challenges.take())
                .take_while(|taken| *taken)
                .count()
        };
        (0..seconds).map(size).collect()
    }

    #[test]
    fn the_size_is_bounded_and_nobody_knows_it() {
        let middle = CHALLENGES_PER_SECOND as usize;
        let seen = sizes(1, 100);
        let bounds = middle / 2..middle * 3 / 2;
        assert!(seen.iter().all(|size| bounds.contains(size)), "{seen:?}");
        assert!(seen.iter().collect::<HashSet<_>>().len() > 90, "{seen:?}");
        assert_eq!(seen, sizes(1, 100));
        assert_ne!(seen, sizes(2, 100));
    }

    #[test]
    fn a_second_that_goes_on_brings_nothing() {
        let mut challenges = Challenges::new(1);
        while challenges.take() {}
        challenges.refill(999_999);
        assert!(!challenges.take());
        challenges.refill(1_000_000);
        assert!(challenges.take());
    }
}
