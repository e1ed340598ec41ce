//! Bytes that are nearly right: one of several that are, bent as an input says.

/// Most bytes of what comes out: more than any message may have.
const BYTES_MAX: usize = 20 * 1024;

/// An input that is read from its front; behind its end there are zeros.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let (&byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        byte
    }

    pub(crate) fn word(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    /// Its next bytes, as many as its first says.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let count = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// One of `right`, with what the input does to it; or, if its first byte names none, what it says itself.
    pub(crate) fn bent(&mut self, right: &[Vec<u8>]) -> Vec<u8> {
        let Some(right) = right.get(usize::from(self.byte())) else {
            return self.rest().to_vec();
        };
        let mut bytes = right.clone();
        while !self.is_over() && bytes.len() <= BYTES_MAX {
            let what = self.byte();
            let at = self.word() % (bytes.len() + 1);
            match what % 5 {
                0 => {
                    let other = self.byte();
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = other;
                    }
                }
                1 => drop(bytes.splice(at..at, self.bytes().iter().copied())),
                2 => drop(bytes.drain(at..(at + self.word()).min(bytes.len()))),
                3 => {
                    let piece = bytes[at..(at + self.word()).min(bytes.len())].to_vec();
                    let times = 1 + usize::from(self.byte());
                    let room = BYTES_MAX.saturating_sub(bytes.len());
                    let times = times.min(room / piece.len().max(1));
                    drop(bytes.splice(at..at, piece.repeat(times)));
                }
                // A number that nobody expects.
                _ => {
                    let end = bytes[at..].iter().position(|byte| !byte.is_ascii_digit());
                    let end = end.map_or(bytes.len(), |digits| at + digits);
                    let others: [&[u8]; 4] =
                        [b"18446744073709551615", b"4294967295", b"-1", b"1e99"];
                    let other = others[usize::from(what / 5) % others.len()];
                    drop(bytes.splice(at..end, other.iter().copied()));
                }
            }
        }
        bytes
    }
}
