//! SipHash-1-3 over whole 64-bit words.
//!
//! Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012); one compression and three finalisation rounds
//! are what Rust's and Python's own tables use against hash flooding.

/// Hashes `words` under `key`.
#[inline]
pub(crate) fn siphash13<const WORDS: usize>(key: [u64; 2], words: [u64; WORDS]) -> u64 {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in words {
        absorb(&mut state, word);
    }
    // The last block carries the length of the message in its top byte.
    absorb(&mut state, ((WORDS as u64 * 8) & 0xff) << 56);
    state[2] ^= 0xff;
    round(&mut state);
    round(&mut state);
    round(&mut state);
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline]
fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline]
fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::siphash13;
    use std::hash::{DefaultHasher, Hasher};

    fn reference(words: &[u64]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for word in words {
            hasher.write(&word.to_le_bytes());
        }
        hasher.finish()
    }

    #[test]
    fn agrees_with_the_standard_library_under_a_zero_key() {
        assert_eq!(siphash13([0, 0], []), reference(&[]));
        assert_eq!(
            siphash13([0, 0], [0x0123_4567_89ab_cdef]),
            reference(&[0x0123_4567_89ab_cdef])
        );
        let five = [1, u64::MAX, 0x8000_0000_0000_0001, 7, 1 << 40];
        assert_eq!(siphash13([0, 0], five), reference(&five));
    }

    #[test]
    fn another_key_gives_another_hash() {
        assert_ne!(siphash13([0, 1], [42, 43]), siphash13([0, 2], [42, 43]));
    }
}
