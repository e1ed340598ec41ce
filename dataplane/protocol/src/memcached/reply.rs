//! Measuring memcached's replies to retrievals.

use super::MEMCACHED_KEY_BYTES_MAX;
use crate::reply::{ReplyError, ReplyScan, ReplyScanner};
use crate::reply_parts::{ValueHeader, parse_value_header, value_line_is_sound};
use crate::scan::{NumberLine, number_line, short_number, token_end, word_at};

/// Whether the line at the front of `line` is one of memcached's errors.
#[inline]
pub(crate) fn is_error(line: &[u8]) -> bool {
    [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"]
        .iter()
        .any(|error| line.starts_with(error))
}

/// `VALUE` and a blank, as a word of which the last two bytes are left out.
const VALUE: u64 = u64::from_le_bytes(*b"VALUE \0\0");
const VALUE_BYTES: usize = 6;

/// Flags of 0 with a blank on both sides: those of clients that have no use for flags.
const NO_FLAGS: u64 = 0x0020_3020;

/// What follows the data of the last VALUE block.
const LAST: &[u8; 7] = b"\r\nEND\r\n";

/// Moves `scanner` over `buf`.
#[inline]
pub(crate) fn scan_values(scanner: &mut ReplyScanner, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
    if !scanner.begun
        && let Some(bytes) = whole_single_value(buf)
    {
        scanner.begun = true;
        scanner.values_left = 0;
        return Ok(ReplyScan { bytes, done: true });
    }
    scan_blocks(scanner, buf)
}

/// The bytes of the reply at the front of `buf` if it is whole and has one VALUE block without cas unique: that to most reads.
#[inline]
fn whole_single_value(buf: &[u8]) -> Option<usize> {
    if word_at(buf, 0)? & (u64::MAX >> 16) != VALUE {
        return None;
    }
    let key_end = token_end(buf, VALUE_BYTES);
    let word = word_at(buf, key_end)?;
    if word & 0x00ff_ffff == NO_FLAGS
        && let Some((data_bytes, bytes)) = short_number(word >> 24)
    {
        let is_key = (VALUE_BYTES + 1..=VALUE_BYTES + MEMCACHED_KEY_BYTES_MAX).contains(&key_end);
        let content_end = key_end + 3 + bytes + data_bytes as usize;
        return (is_key && is_last(buf, content_end)?).then_some(content_end + LAST.len());
    }
    let flags_end = token_end(buf, key_end + 1);
    let NumberLine::Number { value, end } = number_line(buf, flags_end + 1) else {
        return None;
    };
    let content_end = end.checked_add(usize::try_from(value).ok()?)?;
    let is_last = is_last(buf, content_end)?;
    (is_last && value_line_is_sound(buf, key_end, flags_end, end))
        .then_some(content_end + LAST.len())
}

/// Whether the data that ends at `content_end` is that of the last block; `None` when that cannot be seen yet.
#[inline]
fn is_last(buf: &[u8], content_end: usize) -> Option<bool> {
    Some(buf.get(content_end..content_end.checked_add(LAST.len())?)? == LAST)
}

/// The general case: moves over any blocks.
fn scan_blocks(scanner: &mut ReplyScanner, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
    let mut at = 0;
    loop {
        if scanner.data_left > 0 {
            at = scanner.scan_data(buf, at)?;
            if scanner.data_left > 0 {
                return Ok(ReplyScan {
                    bytes: at,
                    done: false,
                });
            }
        }
        if scanner.is_within_line() {
            at = scanner.scan_line(buf, at)?;
            return Ok(ReplyScan {
                bytes: at,
                done: !scanner.is_within_line(),
            });
        }
        if scanner.values_left == 0 {
            return Ok(ReplyScan {
                bytes: at,
                done: true,
            });
        }
        match buf.get(at) {
            None => {
                return Ok(ReplyScan {
                    bytes: at,
                    done: false,
                });
            }
            Some(b'V' | b'E') => {}
            Some(b'C' | b'S') => return scan_error(scanner, buf, at),
            Some(&byte) => return Err(ReplyError::UnexpectedByte(byte)),
        }
        match parse_value_header(&buf[at..]) {
            ValueHeader::Incomplete => {
                return Ok(ReplyScan {
                    bytes: at,
                    done: false,
                });
            }
            ValueHeader::Value {
                header_bytes,
                data_bytes,
                ..
            } => {
                scanner.begun = true;
                at += header_bytes;
                scanner.data_left = data_bytes as u64 + 2;
            }
            ValueHeader::End { bytes } => {
                scanner.values_left = 0;
                return Ok(ReplyScan {
                    bytes: at + bytes,
                    done: true,
                });
            }
            ValueHeader::Error { bytes } => {
                scanner.values_left = 0;
                scanner.error = true;
                return Ok(ReplyScan {
                    bytes: at + bytes,
                    done: true,
                });
            }
            ValueHeader::Malformed => return Err(ReplyError::BadLine),
        }
    }
}

/// Moves over an error line, which may be long.
#[cold]
fn scan_error(scanner: &mut ReplyScanner, buf: &[u8], at: usize) -> Result<ReplyScan, ReplyError> {
    let stopped = scanner.scan_line(buf, at)?;
    if stopped > at {
        scanner.begun = true;
        if !is_error(&buf[at..]) {
            return Err(ReplyError::BadLine);
        }
        scanner.error = true;
        scanner.values_left = 0;
    }
    Ok(ReplyScan {
        bytes: stopped,
        done: stopped > at && !scanner.is_within_line(),
    })
}
