//! What happens next: the only order that there is in a simulated world.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// A frame reaches the appliance's card.
    ToAppliance(Vec<u8>),
    /// A frame reaches a host.
    ToHost(usize, Vec<u8>),
    /// A worker's loop turns.
    Turn(usize),
    /// A host has something to do.
    Wake(usize),
    /// An event of the scenario begins.
    Begins(usize),
    /// It is over.
    Ends(usize),
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at_us: u64,
    serial: u64,
    what: What,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.serial).cmp(&(other.at_us, other.serial))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// All that is due, by time; of the same time, what was entered first.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    serial: u64,
}

impl Agenda {
    /// Enters something.
    pub fn add(&mut self, at_us: u64, what: What) {
        self.serial += 1;
        self.entries.push(Reverse(Entry {
            at_us,
            serial: self.serial,
            what,
        }));
    }

    /// Takes what is due next, if that is not after `until_us`.
    pub fn next(&mut self, until_us: u64) -> Option<(u64, What)> {
        if self.entries.peek()?.0.at_us > until_us {
            return None;
        }
        let Reverse(entry) = self.entries.pop()?;
        Some((entry.at_us, entry.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_same_time_the_first_entered_comes_first() {
        let mut agenda = Agenda::default();
        agenda.add(5, What::Turn(1));
        agenda.add(5, What::Wake(2));
        agenda.add(4, What::Turn(3));
        assert_eq!(agenda.next(4), Some((4, What::Turn(3))));
        assert_eq!(agenda.next(4), None);
        assert_eq!(agenda.next(9), Some((5, What::Turn(1))));
        assert_eq!(agenda.next(9), Some((5, What::Wake(2))));
    }
}
