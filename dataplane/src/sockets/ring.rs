//! Where the bytes of one direction stand in their part of the slab.

/// A ring's cursors. The memory is passed to every call, so that all rings share one slab.
///
/// An empty ring starts again at the front: a connection with small requests never touches more than the first page.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ring {
    start: u32,
    len: u32,
}

impl Ring {
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.len == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The contents, in their two parts.
    #[inline]
    pub(crate) fn parts(self, memory: &[u8]) -> (&[u8], &[u8]) {
        let (start, len) = (self.start as usize, self.len());
        let first = len.min(memory.len() - start);
        (&memory[start..start + first], &memory[..len - first])
    }

    /// The free memory, in its two parts.
    #[inline]
    pub(crate) fn free_parts(self, memory: &mut [u8]) -> (&mut [u8], &mut [u8]) {
        let (start, len, capacity) = (self.start as usize, self.len(), memory.len());
        let end = start + len;
        if end >= capacity {
            return (&mut memory[end - capacity..start], &mut []);
        }
        let (front, back) = memory.split_at_mut(end);
        (back, &mut front[..start])
    }

    /// `bytes` of the free memory were filled.
    #[inline]
    pub(crate) fn fill(&mut self, bytes: usize) {
        self.len += bytes as u32;
    }

    /// Copies as much of `bytes` as there is room for; returns how much that was.
    #[inline]
    pub(crate) fn push(&mut self, memory: &mut [u8], bytes: &[u8]) -> usize {
        let (first, second) = self.free_parts(memory);
        let in_first = bytes.len().min(first.len());
        let in_second = (bytes.len() - in_first).min(second.len());
        first[..in_first].copy_from_slice(&bytes[..in_first]);
        second[..in_second].copy_from_slice(&bytes[in_first..in_first + in_second]);
        self.fill(in_first + in_second);
        in_first + in_second
    }

    /// Copies contents from the front without taking them; returns how many bytes.
    pub(crate) fn copy(self, memory: &[u8], out: &mut [u8]) -> usize {
        let (first, second) = self.parts(memory);
        let from_first = first.len().min(out.len());
        let from_second = second.len().min(out.len() - from_first);
        out[..from_first].copy_from_slice(&first[..from_first]);
        out[from_first..from_first + from_second].copy_from_slice(&second[..from_second]);
        from_first + from_second
    }

    /// Drops bytes from the front, at most all.
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize, capacity: usize) {
        debug_assert!(bytes <= self.len(), "consumed more than there is");
        let bytes = bytes.min(self.len());
        self.len -= bytes as u32;
        let start = self.start as usize + bytes;
        self.start = match () {
            () if self.len == 0 => 0,
            () if start >= capacity => (start - capacity) as u32,
            () => start as u32,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::Ring;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn behaves_as_a_queue_of_bytes(steps in proptest::collection::vec((any::<bool>(), 0usize..20), 0..200)) {
            let mut memory = [0; 13];
            let mut ring = Ring::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            let mut next = 0u8;
            for (push, bytes) in steps {
                if push {
                    let data: Vec<u8> = (0..bytes).map(|i| next.wrapping_add(i as u8)).collect();
                    let taken = ring.push(&mut memory, &data);
                    prop_assert_eq!(taken, bytes.min(memory.len() - model.len()));
                    model.extend(&data[..taken]);
                    next = next.wrapping_add(taken as u8);
                } else {
                    let bytes = bytes.min(ring.len());
                    ring.consume(bytes, memory.len());
                    model.drain(..bytes);
                }
                let mut out = [0; 13];
                let copied = ring.copy(&memory, &mut out);
                prop_assert!(out[..copied].iter().eq(model.iter()));
                let (first, second) = ring.parts(&memory);
                prop_assert!(first.iter().chain(second).eq(model.iter()));
                prop_assert!(!first.is_empty() || model.is_empty());
                let (first, second) = ring.free_parts(&mut memory);
                prop_assert_eq!(first.len() + second.len(), memory.len() - model.len());
            }
        }
    }

    #[test]
    fn an_empty_ring_starts_again_at_the_front() {
        let mut memory = [0; 8];
        let mut ring = Ring::default();
        for _ in 0..10 {
            assert_eq!(ring.push(&mut memory, b"abcde"), 5);
            assert_eq!(ring.parts(&memory), (&b"abcde"[..], &b""[..]));
            ring.consume(2, 8);
            ring.consume(3, 8);
        }
    }
}
