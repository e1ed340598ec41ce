//! Fowler–Noll–Vo hashes, in the four shapes of twemproxy.

use super::widen;

const OFFSET_64: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME_64: u64 = 0x0000_0100_0000_01b3;
const OFFSET_32: u32 = 0x811c_9dc5;
const PRIME_32: u32 = 0x0100_0193;

/// FNV-1 with 64 bits of state, of which the low 32 are the value.
pub(super) fn fnv1_64(key: &[u8]) -> u32 {
    let state = key.iter().fold(OFFSET_64, |state, &byte| {
        state.wrapping_mul(PRIME_64) ^ byte.cast_signed() as u64
    });
    state as u32
}

/// Called "64" for its constants alone: twemproxy keeps 32 bits of state and the low halves of offset and prime.
pub(super) fn fnv1a_64(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_64 as u32, |state, &byte| {
        (state ^ widen(byte)).wrapping_mul(PRIME_64 as u32)
    })
}

/// FNV-1 with 32 bits of state.
pub(super) fn fnv1_32(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_32, |state, &byte| {
        state.wrapping_mul(PRIME_32) ^ widen(byte)
    })
}

/// FNV-1a with 32 bits of state.
pub(super) fn fnv1a_32(key: &[u8]) -> u32 {
    key.iter().fold(OFFSET_32, |state, &byte| {
        (state ^ widen(byte)).wrapping_mul(PRIME_32)
    })
}
