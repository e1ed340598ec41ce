//! Key → number, with twemproxy's values bit for bit, so that a fleet moves over without losing its cache.
//!
//! Where twemproxy differs from the textbook, it is because its keys are C `char`, which is signed on amd64: a byte of
//! 0x80 or more is sign-extended before it is mixed in. [`widen`] stands wherever that happens; hashes without it read bytes
//! as unsigned there as well.

mod crc;
mod fnv;
mod hsieh;
mod jenkins;
mod murmur;
mod one_at_a_time;

use md5::{Digest, Md5};
use tidegate_config::HashKind;

/// The hash value of `key`.
pub fn hash(kind: HashKind, key: &[u8]) -> u32 {
    match kind {
        HashKind::OneAtATime => one_at_a_time::one_at_a_time(key),
        HashKind::Md5 => md5(key),
        HashKind::Crc16 => crc::crc16(key),
        HashKind::Crc32 => crc::crc32(key),
        HashKind::Crc32a => crc::crc32a(key),
        HashKind::Fnv1_64 => fnv::fnv1_64(key),
        HashKind::Fnv1a64 => fnv::fnv1a_64(key),
        HashKind::Fnv1_32 => fnv::fnv1_32(key),
        HashKind::Fnv1a32 => fnv::fnv1a_32(key),
        HashKind::Hsieh => hsieh::hsieh(key),
        HashKind::Murmur => murmur::murmur(key),
        HashKind::Jenkins => jenkins::jenkins(key),
    }
}

/// A byte as C's `(uint32_t)(char)` sees it on amd64: sign-extended.
const fn widen(byte: u8) -> u32 {
    byte.cast_signed() as u32
}

/// The first four bytes of the MD5 digest, little-endian.
fn md5(key: &[u8]) -> u32 {
    let digest = Md5::digest(key);
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests;
