//! The lists that slots wait in: free, half-open, connecting, closing, TIME-WAIT.
//!
//! A slot is in one list or in none. The links are one array made at start, so every operation is constant time and none
//! allocates. Where all members of a list wait equally long, its order is the order of their deadlines.

/// What a slot waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// A client connection.
    FreeClients,
    /// A server connection.
    FreeServers,
    /// The last segment of a client's handshake.
    HalfOpen,
    /// The server's SYN-ACK.
    Connecting,
    /// The end of a connection that we have finished.
    Closing,
    /// The end of TIME-WAIT, or a client that needs the slot more.
    TimeWaitClients,
    /// The same of server connections.
    TimeWaitServers,
}

const LISTS: usize = 7;
const NONE: u32 = u32::MAX;
const NO_LIST: u8 = u8::MAX;

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    list: u8,
}

#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
    len: usize,
}

/// All lists over slots `0..slots`.
pub(crate) struct SlotLists {
    links: Box<[Link]>,
    ends: [Ends; LISTS],
}

impl SlotLists {
    /// Memory for each slot.
    pub(crate) const BYTES_PER_SLOT: usize = size_of::<Link>();

    pub(crate) fn new(slots: usize) -> Self {
        let alone = Link {
            previous: NONE,
            next: NONE,
            list: NO_LIST,
        };
        let empty = Ends {
            first: NONE,
            last: NONE,
            len: 0,
        };
        Self {
            links: vec![alone; slots].into_boxed_slice(),
            ends: [empty; LISTS],
        }
    }

    pub(crate) fn len(&self, list: List) -> usize {
        self.ends[list as usize].len
    }

    pub(crate) fn first(&self, list: List) -> Option<u32> {
        let first = self.ends[list as usize].first;
        (first != NONE).then_some(first)
    }

    pub(crate) fn is_in(&self, slot: u32, list: List) -> bool {
        self.links[slot as usize].list == list as u8
    }

    /// Moves `slot` to the end of `list`, out of whatever list it was in.
    pub(crate) fn push_back(&mut self, list: List, slot: u32) {
        self.remove(slot);
        let last = self.ends[list as usize].last;
        self.join(list, last, NONE, slot);
    }

    /// Moves `slot` to the front of `list`: free slots are reused while they are still in the cache.
    pub(crate) fn push_front(&mut self, list: List, slot: u32) {
        self.remove(slot);
        let first = self.ends[list as usize].first;
        self.join(list, NONE, first, slot);
    }

    fn join(&mut self, list: List, previous: u32, next: u32, slot: u32) {
        self.links[slot as usize] = Link {
            previous,
            next,
            list: list as u8,
        };
        let ends = &mut self.ends[list as usize];
        ends.len += 1;
        match self.links.get_mut(previous as usize) {
            Some(link) => link.next = slot,
            None => ends.first = slot,
        }
        match self.links.get_mut(next as usize) {
            Some(link) => link.previous = slot,
            None => ends.last = slot,
        }
    }

    /// Takes `slot` out of its list, if it is in one.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Link {
            previous,
            next,
            list,
        } = self.links[slot as usize];
        if list == NO_LIST {
            return;
        }
        let ends = &mut self.ends[list as usize];
        ends.len -= 1;
        match self.links.get_mut(previous as usize) {
            Some(link) => link.next = next,
            None => ends.first = next,
        }
        match self.links.get_mut(next as usize) {
            Some(link) => link.previous = previous,
            None => ends.last = previous,
        }
        self.links[slot as usize].list = NO_LIST;
    }
}

#[cfg(test)]
mod tests {
    use super::{List, SlotLists};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const LISTS: [List; 3] = [List::FreeClients, List::HalfOpen, List::Closing];

    fn contents(lists: &mut SlotLists, list: List) -> Vec<u32> {
        let mut seen = Vec::new();
        while let Some(slot) = lists.first(list) {
            seen.push(slot);
            lists.remove(slot);
        }
        seen
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn behaves_as_queues(steps in proptest::collection::vec((0u32..12, 0usize..7), 0..200)) {
            let mut lists = SlotLists::new(12);
            let mut model: [VecDeque<u32>; 3] = Default::default();
            for (slot, action) in steps {
                for queue in &mut model {
                    queue.retain(|&other| other != slot);
                }
                match action {
                    0..3 => {
                        lists.push_back(LISTS[action], slot);
                        model[action].push_back(slot);
                    }
                    3..6 => {
                        lists.push_front(LISTS[action - 3], slot);
                        model[action - 3].push_front(slot);
                    }
                    _ => lists.remove(slot),
                }
                for (list, queue) in LISTS.into_iter().zip(&model) {
                    prop_assert_eq!(lists.len(list), queue.len());
                    prop_assert_eq!(lists.first(list), queue.front().copied());
                    prop_assert_eq!(lists.is_in(slot, list), queue.contains(&slot));
                }
            }
            for (list, queue) in LISTS.into_iter().zip(&model) {
                prop_assert_eq!(contents(&mut lists, list), queue.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
