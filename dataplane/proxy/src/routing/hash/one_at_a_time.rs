//! Bob Jenkins' one-at-a-time hash.

use super::widen;

pub(super) fn one_at_a_time(key: &[u8]) -> u32 {
    let mut value = 0_u32;
    for &byte in key {
        value = value.wrapping_add(widen(byte));
        value = value.wrapping_add(value << 10);
        value ^= value >> 6;
    }
    value = value.wrapping_add(value << 3);
    value ^= value >> 11;
    value.wrapping_add(value << 15)
}
