//! The loops over single bytes, which all parsers of this crate share.

/// Eight copies of the lowest bit of a byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// Eight copies of the highest bit of a byte.
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Most digits that a number may have: 18 of them never overflow an `i64`.
const DIGITS_MAX: usize = 18;

/// A decimal number that a CR LF ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberLine {
    /// More bytes are needed to tell.
    Incomplete,
    /// The number, and the position after its CR LF.
    Number { value: i64, end: usize },
    /// Whatever follows, this is not a number line.
    Bad,
}

/// Reads the number line that starts at `at`.
///
/// It is as strict as Redis is about lengths (no plus sign, no leading zero, no blank) and stricter about the line end: what
/// is passed on to a server must be framed there exactly as it was framed here.
#[inline(always)]
#[allow(clippy::inline_always)] // Three or four times per request, each a dozen instructions.
pub(crate) fn number_line(buf: &[u8], at: usize) -> NumberLine {
    match word_at(buf, at).and_then(short_number) {
        Some((value, bytes)) => NumberLine::Number {
            value: i64::from(value),
            end: at + bytes,
        },
        None => long_number_line(buf, at),
    }
}

/// A number of up to three digits at the front of `word`, and its bytes with the CR LF behind it. Most lengths have no more digits.
#[inline(always)]
#[allow(clippy::inline_always)]
pub(crate) fn short_number(word: u64) -> Option<(u32, usize)> {
    let digit = |place: u32| ((word >> (8 * place)) as u8).wrapping_sub(b'0');
    let (first, second, third) = (digit(0), digit(1), digit(2));
    if word & 0x00ff_ff00 == 0x000a_0d00 {
        return (first <= 9).then_some((u32::from(first), 3));
    }
    // A leading zero is for the general case to refuse.
    if first.wrapping_sub(1) > 8 || second > 9 {
        return None;
    }
    let two = u32::from(first) * 10 + u32::from(second);
    if word & 0xffff_0000 == 0x0a0d_0000 {
        return Some((two, 4));
    }
    let is_three = third <= 9 && word & 0x00ff_ff00_0000 == 0x000a_0d00_0000;
    is_three.then_some((two * 10 + u32::from(third), 5))
}

/// The general case of [`number_line`].
fn long_number_line(buf: &[u8], at: usize) -> NumberLine {
    let negative = buf.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let mut position = first;
    let mut value: i64 = 0;
    let end = loop {
        let Some(&byte) = buf.get(position) else {
            return NumberLine::Incomplete;
        };
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break byte;
        }
        if position - first == DIGITS_MAX {
            return NumberLine::Bad;
        }
        value = value * 10 + i64::from(digit);
        position += 1;
    };
    let digits = position - first;
    let padded = digits > 1 && buf[first] == b'0';
    if digits == 0 || padded || end != b'\r' || (negative && value == 0) {
        return NumberLine::Bad;
    }
    match buf.get(position + 1) {
        None => NumberLine::Incomplete,
        Some(b'\n') => NumberLine::Number {
            value: if negative { -value } else { value },
            end: position + 2,
        },
        Some(_) => NumberLine::Bad,
    }
}

/// The highest bit of the first byte of `word` that is zero, and perhaps of bytes after it.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The eight bytes at `at`, if there are so many.
#[inline]
pub(crate) fn word_at(buf: &[u8], at: usize) -> Option<u64> {
    let bytes = buf.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*bytes))
}

/// The position of the first byte at or after `at` that cannot be part of a memcached token: a blank, a control character or
/// DEL. The length of `buf` when there is none.
#[inline]
pub(crate) fn token_end(buf: &[u8], mut at: usize) -> usize {
    while let Some(word) = word_at(buf, at) {
        // A byte below 0x21 borrows into its highest bit. A borrow reaches only bytes after the first such byte.
        let low = word.wrapping_sub(ONES * 0x21) & !word & HIGHS;
        let found = low | zero_bytes(word ^ (ONES * 0x7f));
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(&byte) = buf.get(at) {
        if byte <= b' ' || byte == 0x7f {
            return at;
        }
        at += 1;
    }
    buf.len()
}

/// The position of the first `wanted` at or after `at`.
#[inline]
pub(crate) fn find_byte(buf: &[u8], mut at: usize, wanted: u8) -> Option<usize> {
    while let Some(word) = word_at(buf, at) {
        let found = zero_bytes(word ^ (ONES * u64::from(wanted)));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    while let Some(&byte) = buf.get(at) {
        if byte == wanted {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// The unsigned decimal number that `digits` is, if it is one of at most 18 digits.
#[inline]
pub(crate) fn unsigned(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut value = 0;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
