//! Slots that all wait equally long: the order in which they began is the order of their deadlines.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    due_us: u64,
    waits: bool,
}

/// A list over slots, linked within one array made at start: every operation takes constant time.
pub(crate) struct Deadlines {
    wait_us: u64,
    links: Box<[Link]>,
    first: u32,
    last: u32,
}

impl Deadlines {
    pub(crate) fn new(slots: usize, wait_us: u64) -> Self {
        let alone = Link {
            previous: NONE,
            next: NONE,
            due_us: 0,
            waits: false,
        };
        Self {
            wait_us,
            links: vec![alone; slots].into_boxed_slice(),
            first: NONE,
            last: NONE,
        }
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.links[slot as usize].waits
    }

    /// Lets the slot wait from now on, whether it did before or not.
    pub(crate) fn start(&mut self, slot: u32, now_us: u64) {
        self.remove(slot);
        self.links[slot as usize] = Link {
            previous: self.last,
            next: NONE,
            due_us: now_us.saturating_add(self.wait_us),
            waits: true,
        };
        match self.links.get_mut(self.last as usize) {
            Some(link) => link.next = slot,
            None => self.first = slot,
        }
        self.last = slot;
    }

    pub(crate) fn remove(&mut self, slot: u32) {
        let link = self.links[slot as usize];
        if !link.waits {
            return;
        }
        self.links[slot as usize].waits = false;
        match self.links.get_mut(link.previous as usize) {
            Some(previous) => previous.next = link.next,
            None => self.first = link.next,
        }
        match self.links.get_mut(link.next as usize) {
            Some(next) => next.previous = link.previous,
            None => self.last = link.previous,
        }
    }

    /// Takes a slot whose deadline has passed.
    pub(crate) fn pop_due(&mut self, now_us: u64) -> Option<u32> {
        let slot = self.first;
        if self.next_us()? > now_us {
            return None;
        }
        self.remove(slot);
        Some(slot)
    }

    /// The next deadline.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.links.get(self.first as usize).map(|link| link.due_us)
    }
}

#[cfg(test)]
mod tests {
    use super::Deadlines;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn behaves_as_a_queue(steps in proptest::collection::vec((0u32..8, 0usize..4), 0..200)) {
            let mut deadlines = Deadlines::new(8, 10);
            let mut model: Vec<(u32, u64)> = Vec::new();
            for (now_us, (slot, action)) in (0..).zip(steps) {
                if action == 0 {
                    let due = model.first().is_some_and(|&(_, due_us)| due_us <= now_us);
                    let expected = due.then(|| model.remove(0).0);
                    prop_assert_eq!(deadlines.pop_due(now_us), expected);
                } else {
                    model.retain(|&(waiting, _)| waiting != slot);
                    if action == 1 {
                        deadlines.remove(slot);
                    } else {
                        deadlines.start(slot, now_us);
                        model.push((slot, now_us + 10));
                    }
                }
                prop_assert_eq!(deadlines.next_us(), model.first().map(|&(_, due_us)| due_us));
                prop_assert!((0..8).all(|s| deadlines.contains(s) == model.iter().any(|&(w, _)| w == s)));
            }
        }
    }
}
