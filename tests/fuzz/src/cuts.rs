//! Where a stream is cut, and other choices that are random but follow from the input.

/// A small generator; the same input gives the same choices, so that what was found is found again.
pub(crate) struct Choices(u64);

impl Choices {
    pub(crate) fn new(input: &[u8]) -> Self {
        Self(hash(input) | 1)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// FNV-1a.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Pieces of random length; most are short.
pub(crate) fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut choices = Choices::new(input);
    let mut rest = input;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let most = [1, 3, 12, 40, 300, 4_000][choices.below(6)];
        let (piece, later) = rest.split_at((1 + choices.below(most)).min(rest.len()));
        pieces.push(piece);
        rest = later;
    }
    pieces
}
