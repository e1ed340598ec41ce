//! The three cyclic redundancy checks, of which only `crc32a` is a standard one.

/// Polynomial of XMODEM's CRC-16, most significant bit first.
const POLYNOMIAL_16: u32 = 0x1021;
/// Polynomial of CRC-32, least significant bit first.
const POLYNOMIAL_32: u32 = 0xedb8_8320;

const TABLE_16: [u32; 256] = table_16();
const TABLE_32: [u32; 256] = table_32();

/// XMODEM's CRC-16 in a 32-bit accumulator that nobody masks: what is shifted out of the low half stays in the value.
pub(super) fn crc16(key: &[u8]) -> u32 {
    key.iter().fold(0, |crc, &byte| {
        (crc << 8) ^ TABLE_16[usize::from((crc >> 8) as u8 ^ byte)]
    })
}

/// Fifteen bits out of the middle of the CRC-32, as libmemcached takes them: the value is below 32,768.
pub(super) fn crc32(key: &[u8]) -> u32 {
    (crc32a(key) >> 16) & 0x7fff
}

/// The standard CRC-32.
pub(super) fn crc32a(key: &[u8]) -> u32 {
    let crc = key.iter().fold(u32::MAX, |crc, &byte| {
        (crc >> 8) ^ TABLE_32[usize::from(crc as u8 ^ byte)]
    });
    !crc
}

const fn table_16() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = (index as u32) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc = (crc << 1) & 0xffff;
            if carry {
                crc ^= POLYNOMIAL_16;
            }
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

const fn table_32() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 1 != 0;
            crc >>= 1;
            if carry {
                crc ^= POLYNOMIAL_32;
            }
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}
