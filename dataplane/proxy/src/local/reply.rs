//! Putting a reply together in the dialect of its client, in the memory for replies that wait.

use crate::hold::{Chain, HoldPool};
use crate::links::itoa;

/// Longest part of a request that an error shows, as in Redis.
const SHOWN_BYTES_MAX: usize = 128;

/// A reply that grows at its end.
pub(crate) struct Reply<'a> {
    hold: &'a mut HoldPool,
    chain: Chain,
    is_resp3: bool,
    fits: bool,
}

impl<'a> Reply<'a> {
    /// An empty one.
    pub(crate) fn new(hold: &'a mut HoldPool, is_resp3: bool) -> Self {
        Self {
            hold,
            chain: Chain::EMPTY,
            is_resp3,
            fits: true,
        }
    }

    /// The bytes; `None` if there was no memory for all of them.
    pub(crate) fn finish(mut self) -> Option<Chain> {
        if !self.fits {
            self.hold.clear(&mut self.chain);
        }
        self.fits.then_some(self.chain)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.fits = self.fits && self.hold.append(&mut self.chain, bytes);
    }

    fn counted(&mut self, kind: &[u8], count: usize) {
        self.raw(kind);
        self.raw(itoa(count).bytes());
        self.raw(b"\r\n");
    }

    /// The header of an array.
    pub(crate) fn array(&mut self, elements: usize) {
        self.counted(b"*", elements);
    }

    /// The header of a map, which RESP2 writes as an array.
    pub(crate) fn map(&mut self, pairs: usize) {
        if self.is_resp3 {
            self.counted(b"%", pairs);
        } else {
            self.counted(b"*", 2 * pairs);
        }
    }

    /// A string of any bytes.
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.counted(b"$", bytes.len());
        self.raw(bytes);
        self.raw(b"\r\n");
    }

    /// A text for people, of the length that its `parts` have together.
    pub(crate) fn verbatim(&mut self, parts: &[&[u8]]) {
        let bytes = parts.iter().map(|part| part.len()).sum();
        if self.is_resp3 {
            const FORMAT: &[u8] = b"txt:";
            self.counted(b"=", FORMAT.len() + bytes);
            self.raw(FORMAT);
        } else {
            self.counted(b"$", bytes);
        }
        for part in parts {
            self.raw(part);
        }
        self.raw(b"\r\n");
    }

    /// A number that is not negative.
    pub(crate) fn integer(&mut self, number: u64) {
        self.counted(b":", number as usize);
    }

    /// No value.
    pub(crate) fn null(&mut self) {
        self.raw(if self.is_resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// An error that shows a part of the request. Control characters would end the line, or worse.
    pub(crate) fn error(&mut self, before: &str, shown: &[u8], after: &str) {
        self.raw(before.as_bytes());
        for &byte in shown.iter().take(SHOWN_BYTES_MAX) {
            let printable = (0x20..0x7f).contains(&byte);
            self.raw(&[if printable { byte } else { b'?' }]);
        }
        self.raw(after.as_bytes());
    }
}
