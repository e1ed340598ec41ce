//! When a flow has to be looked at although no frame arrives for it.
//!
//! A hashed wheel (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987, scheme 6) of one turn: a deadline
//! beyond it is put at its end and looked at again there. A flow is in the wheel at most once; moving and cancelling are
//! constant time and nothing is allocated after the start.

const TICK_SHIFT: u32 = 12;
/// Width of a bucket: a TCP timer that is 4 ms late harms nobody, its smallest value is 1 s.
const TICK_US: u64 = 1 << TICK_SHIFT;
/// One turn takes 33 s: all timers but the longest keep-alives fit, and the bucket heads fit in 32 KiB.
const BUCKETS: usize = 8_192;
const MASK: u64 = BUCKETS as u64 - 1;
const NONE: u32 = u32::MAX;
const NO_BUCKET: u16 = u16::MAX;

const _: () = assert!(BUCKETS.is_power_of_two() && BUCKETS < NO_BUCKET as usize);

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    bucket: u16,
}

/// Deadlines of slots `0..slots`.
pub(crate) struct TimerWheel {
    links: Box<[Link]>,
    heads: Box<[u32]>,
    /// One bit per bucket that is not empty.
    occupied: [u64; BUCKETS / 64],
    /// The first tick that has not been expired completely.
    tick: u64,
    /// No bucket before this tick is occupied: what makes an idle turn cost nothing.
    earliest: u64,
    len: usize,
}

impl TimerWheel {
    /// Memory for each slot.
    pub(crate) const BYTES_PER_SLOT: usize = size_of::<Link>();

    pub(crate) fn new(slots: usize, now_us: u64) -> Self {
        let alone = Link {
            previous: NONE,
            next: NONE,
            bucket: NO_BUCKET,
        };
        Self {
            links: vec![alone; slots].into_boxed_slice(),
            heads: vec![NONE; BUCKETS].into_boxed_slice(),
            occupied: [0; BUCKETS / 64],
            tick: now_us >> TICK_SHIFT,
            earliest: u64::MAX,
            len: 0,
        }
    }

    /// Sets the deadline of `slot`, in place of any it had. It expires up to one bucket late, or earlier when it lies
    /// beyond the turn.
    pub(crate) fn arm(&mut self, slot: u32, at_us: u64) {
        self.disarm(slot);
        let tick = (at_us >> TICK_SHIFT)
            .saturating_add(1)
            .clamp(self.tick, self.tick + MASK);
        self.earliest = self.earliest.min(tick);
        let bucket = (tick & MASK) as usize;
        let next = self.heads[bucket];
        if let Some(link) = self.links.get_mut(next as usize) {
            link.previous = slot;
        }
        self.links[slot as usize] = Link {
            previous: NONE,
            next,
            bucket: bucket as u16,
        };
        self.heads[bucket] = slot;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.len += 1;
    }

    /// Removes the deadline of `slot`, if it has one.
    pub(crate) fn disarm(&mut self, slot: u32) {
        let Link {
            previous,
            next,
            bucket,
        } = self.links[slot as usize];
        if bucket == NO_BUCKET {
            return;
        }
        let bucket = usize::from(bucket);
        if let Some(link) = self.links.get_mut(next as usize) {
            link.previous = previous;
        }
        if let Some(link) = self.links.get_mut(previous as usize) {
            link.next = next;
        } else {
            self.heads[bucket] = next;
            if next == NONE {
                self.occupied[bucket / 64] &= !(1 << (bucket % 64));
            }
        }
        self.links[slot as usize].bucket = NO_BUCKET;
        self.len -= 1;
    }

    /// One slot whose bucket is due, which it leaves; call until `None`.
    pub(crate) fn pop_expired(&mut self, now_us: u64) -> Option<u32> {
        let now = now_us >> TICK_SHIFT;
        if now >= self.earliest {
            match self.next_occupied() {
                Some(tick) if tick <= now => {
                    self.tick = tick;
                    let slot = self.heads[(tick & MASK) as usize];
                    self.disarm(slot);
                    return Some(slot);
                }
                next => self.earliest = next.unwrap_or(u64::MAX),
            }
        }
        // The current tick stays open: a deadline may still be put into it.
        self.tick = self.tick.max(now);
        None
    }

    /// A time at which something may be due, never later than the first deadline's bucket.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.next_occupied().map(|tick| tick * TICK_US)
    }

    /// The first tick at or after `self.tick` whose bucket is not empty.
    fn next_occupied(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let start = (self.tick & MASK) as usize;
        let words = self.occupied.len();
        let mut word = self.occupied[start / 64] & (u64::MAX << (start % 64));
        for step in 0..=words {
            if word != 0 {
                let bucket = ((start / 64 + step) % words) * 64 + word.trailing_zeros() as usize;
                return Some(self.tick + ((bucket as u64).wrapping_sub(start as u64) & MASK));
            }
            word = self.occupied[(start / 64 + step + 1) % words];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, TICK_US, TimerWheel};
    use proptest::prelude::*;

    fn expired(wheel: &mut TimerWheel, now_us: u64) -> Vec<u32> {
        let mut slots: Vec<u32> = std::iter::from_fn(|| wheel.pop_expired(now_us)).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn nothing_expires_early_or_more_than_a_bucket_late() {
        let mut wheel = TimerWheel::new(1, 1_000_000);
        wheel.arm(0, 2_000_000);
        assert!(expired(&mut wheel, 2_000_000 - 1).is_empty());
        assert_eq!(expired(&mut wheel, 2_000_000 + 2 * TICK_US), [0]);
        assert!(expired(&mut wheel, 9_000_000).is_empty());
    }

    #[test]
    fn a_deadline_beyond_the_turn_comes_up_within_it() {
        let mut wheel = TimerWheel::new(1, 0);
        wheel.arm(0, u64::MAX);
        assert_eq!(expired(&mut wheel, BUCKETS as u64 * TICK_US), [0]);
    }

    #[test]
    fn a_disarmed_slot_never_expires() {
        let mut wheel = TimerWheel::new(3, 0);
        for slot in 0..3 {
            wheel.arm(slot, 10_000);
        }
        wheel.disarm(1);
        assert_eq!(expired(&mut wheel, 1_000_000), [0, 2]);
        assert_eq!(wheel.next_us(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn expires_what_a_sorted_list_would(steps in proptest::collection::vec((0u32..8, 0u64..40_000_000, 0u64..500_000), 1..200)) {
            let mut now = 5_000_000;
            let mut wheel = TimerWheel::new(8, now);
            let mut model = [None; 8];
            for (slot, delay, pause) in steps {
                wheel.arm(slot, now + delay);
                model[slot as usize] = Some(now + delay);
                now += pause;
                let next = wheel.next_us().expect("one is armed");
                for slot in expired(&mut wheel, now) {
                    let at = model[slot as usize].take().expect("it was armed");
                    // Later than one turn may come up early; everything else is due.
                    prop_assert!(at <= now || at + pause > 33_000_000);
                    prop_assert!(next <= now);
                }
                for at in model.iter().flatten() {
                    prop_assert!(*at + 2 * TICK_US > now, "overdue");
                }
            }
        }
    }
}
