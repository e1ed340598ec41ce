//! Bytes that come in at one end and are taken from the other, and lie in one piece all the time.

/// A queue of bytes. Taking some moves none: what was taken is dropped when all of it was, so it is for as many bytes as one input brings.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    front: usize,
}

impl Queue {
    /// What is in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.front..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.front
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The end, for who writes there himself.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn take(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "only what is there is taken");
        self.front += bytes;
        if self.is_empty() {
            self.bytes.clear();
            self.front = 0;
        }
    }

    /// Puts bytes in front of the others, where there may be room from what was taken.
    pub(crate) fn put_in_front(&mut self, bytes: &[u8]) {
        if let Some(start) = self.front.checked_sub(bytes.len()) {
            self.bytes[start..self.front].copy_from_slice(bytes);
            self.front = start;
        } else {
            self.bytes.splice(..self.front, bytes.iter().copied());
            self.front = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_and_can_be_put_back() {
        let mut queue = Queue::default();
        queue.push(b"one two");
        queue.take(4);
        assert_eq!(queue.bytes(), b"two");
        queue.put_in_front(b"a ");
        assert_eq!(queue.bytes(), b"a two");
        queue.put_in_front(b"much more than was taken ");
        assert_eq!(queue.bytes(), b"much more than was taken a two");
        queue.end().extend(b"!");
        queue.take(queue.len());
        assert!(queue.is_empty() && queue.bytes().is_empty());
        queue.put_in_front(b"x");
        queue.push(b"y");
        assert_eq!(queue.bytes(), b"xy");
    }
}
