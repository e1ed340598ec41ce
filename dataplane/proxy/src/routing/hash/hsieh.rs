//! Paul Hsieh's `SuperFastHash`, started at 0 instead of at the length.

use super::widen;

pub(super) fn hsieh(key: &[u8]) -> u32 {
    let (words, tail) = key.as_chunks::<4>();
    let mut value = 0_u32;
    for &[a, b, c, d] in words {
        value = value.wrapping_add(half(a, b));
        value = (value << 16) ^ (half(c, d) << 11) ^ value;
        value = value.wrapping_add(value >> 11);
    }
    match *tail {
        [a, b, c] => {
            value = value.wrapping_add(half(a, b));
            value ^= value << 16;
            value ^= widen(c) << 18;
            value = value.wrapping_add(value >> 11);
        }
        [a, b] => {
            value = value.wrapping_add(half(a, b));
            value ^= value << 11;
            value = value.wrapping_add(value >> 17);
        }
        // The only tail that twemproxy reads as unsigned.
        [a] => {
            value = value.wrapping_add(u32::from(a));
            value ^= value << 10;
            value = value.wrapping_add(value >> 1);
        }
        _ => {}
    }
    value ^= value << 3;
    value = value.wrapping_add(value >> 5);
    value ^= value << 4;
    value = value.wrapping_add(value >> 17);
    value ^= value << 25;
    value.wrapping_add(value >> 6)
}

fn half(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}
