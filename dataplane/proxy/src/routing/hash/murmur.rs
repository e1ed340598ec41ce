//! Austin Appleby's `MurmurHash2`, seeded by the length.

const MIX: u32 = 0x5bd1_e995;
const SEED: u32 = 0xdead_beef;

pub(super) fn murmur(key: &[u8]) -> u32 {
    let length = key.len() as u32;
    let mut value = SEED.wrapping_mul(length) ^ length;
    let (words, tail) = key.as_chunks::<4>();
    for &word in words {
        let mut mixed = u32::from_le_bytes(word).wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        mixed = mixed.wrapping_mul(MIX);
        value = value.wrapping_mul(MIX) ^ mixed;
    }
    if !tail.is_empty() {
        for (position, &byte) in tail.iter().enumerate() {
            value ^= u32::from(byte) << (8 * position);
        }
        value = value.wrapping_mul(MIX);
    }
    value ^= value >> 13;
    value = value.wrapping_mul(MIX);
    value ^ (value >> 15)
}
