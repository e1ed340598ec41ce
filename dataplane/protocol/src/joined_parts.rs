//! Looking into the replies of several servers to the same request, which are joined into one.
//!
//! As in [`crate::parse_array_header`] and its like, `Incomplete` asks for more bytes and `Malformed` means that the server does not
//! speak the protocol.

use crate::memcached::reply::is_error;
use crate::reply::{REPLY_LINE_BYTES_MAX, ReplyShape};
use crate::reply_parts::{LineEnd, line_end};
use crate::scan::{NumberLine, number_line};

/// What a reply starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFront {
    /// Not decidable.
    Incomplete,
    /// A value: it can be measured with [`crate::ReplyScanner`].
    Value,
    /// The whole reply is an error line.
    Error {
        /// Bytes of the line, its end included.
        bytes: usize,
    },
    /// Something else.
    Malformed,
}

/// A reply that is one string, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkReply {
    /// Its front is not whole.
    Incomplete,
    /// `$n`: `content_bytes` bytes follow after `bytes` bytes, then CR LF.
    Bulk {
        /// Bytes of the content.
        content_bytes: usize,
        /// Bytes in front of the content.
        bytes: usize,
    },
    /// The same as RESP3's verbatim string, `=n` and a format of three letters with a colon, which counts among `bytes`.
    Verbatim {
        /// Bytes of the content.
        content_bytes: usize,
        /// Bytes in front of the content.
        bytes: usize,
    },
    /// `$-1`, or RESP3's `_`.
    Null {
        /// Bytes of the line, its end included.
        bytes: usize,
    },
    /// An error line.
    Error {
        /// Bytes of the line, its end included.
        bytes: usize,
    },
    /// Something else.
    Malformed,
}

/// The front of the reply to SCAN: an array of two, of which the first is the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanReply {
    /// Not whole.
    Incomplete,
    /// The elements, one array, follow after `bytes` bytes.
    Cursor {
        /// Where the server wants to go on; 0 at the end.
        cursor: u64,
        /// Bytes up to the elements.
        bytes: usize,
    },
    /// An error line.
    Error {
        /// Bytes of the line, its end included.
        bytes: usize,
    },
    /// Something else.
    Malformed,
}

/// Bytes of a verbatim string's format and the colon behind it.
const FORMAT_BYTES: usize = 4;

/// Looks whether the reply at the front of `buf` is an error line.
pub fn parse_reply_front(shape: ReplyShape, buf: &[u8]) -> ReplyFront {
    let is_error = |line: &[u8]| match shape {
        ReplyShape::Resp => true,
        _ => is_error(line),
    };
    match buf.first() {
        None => ReplyFront::Incomplete,
        Some(&first) if shape == ReplyShape::Resp && first != b'-' => ReplyFront::Value,
        Some(first) if shape != ReplyShape::Resp && !first.is_ascii_alphanumeric() => {
            ReplyFront::Malformed
        }
        Some(_) => match line_end(buf, REPLY_LINE_BYTES_MAX) {
            LineEnd::Incomplete => ReplyFront::Incomplete,
            LineEnd::At(bytes) if is_error(&buf[..bytes]) => ReplyFront::Error { bytes },
            LineEnd::At(_) => ReplyFront::Value,
            LineEnd::Malformed => ReplyFront::Malformed,
        },
    }
}

/// Reads the front of a reply of one string, as that to INFO or RANDOMKEY.
pub fn parse_bulk_reply(buf: &[u8]) -> BulkReply {
    match buf.first() {
        None => BulkReply::Incomplete,
        Some(b'$') => match number_line(buf, 1) {
            NumberLine::Incomplete => BulkReply::Incomplete,
            NumberLine::Number { value: -1, end } => BulkReply::Null { bytes: end },
            NumberLine::Number { value, end } if value >= 0 => BulkReply::Bulk {
                content_bytes: value as usize,
                bytes: end,
            },
            NumberLine::Number { .. } | NumberLine::Bad => BulkReply::Malformed,
        },
        Some(b'=') => match number_line(buf, 1) {
            NumberLine::Incomplete => BulkReply::Incomplete,
            NumberLine::Number { value, end } if value >= FORMAT_BYTES as i64 => {
                match buf.get(end + FORMAT_BYTES - 1) {
                    None => BulkReply::Incomplete,
                    Some(b':') => BulkReply::Verbatim {
                        content_bytes: value as usize - FORMAT_BYTES,
                        bytes: end + FORMAT_BYTES,
                    },
                    Some(_) => BulkReply::Malformed,
                }
            }
            NumberLine::Number { .. } | NumberLine::Bad => BulkReply::Malformed,
        },
        Some(b'_') => match buf.get(..3) {
            None if b"_\r\n".starts_with(buf) => BulkReply::Incomplete,
            Some(b"_\r\n") => BulkReply::Null { bytes: 3 },
            None | Some(_) => BulkReply::Malformed,
        },
        Some(b'-') => match line_end(buf, REPLY_LINE_BYTES_MAX) {
            LineEnd::Incomplete => BulkReply::Incomplete,
            LineEnd::At(bytes) => BulkReply::Error { bytes },
            LineEnd::Malformed => BulkReply::Malformed,
        },
        Some(_) => BulkReply::Malformed,
    }
}

/// Reads the front of the reply to SCAN.
pub fn parse_scan_reply(buf: &[u8]) -> ScanReply {
    const PAIR: &[u8] = b"*2\r\n";
    if buf.first() == Some(&b'-') {
        return match line_end(buf, REPLY_LINE_BYTES_MAX) {
            LineEnd::Incomplete => ScanReply::Incomplete,
            LineEnd::At(bytes) => ScanReply::Error { bytes },
            LineEnd::Malformed => ScanReply::Malformed,
        };
    }
    let Some(cursor) = buf.strip_prefix(PAIR) else {
        return if PAIR.starts_with(buf) {
            ScanReply::Incomplete
        } else {
            ScanReply::Malformed
        };
    };
    match parse_bulk_reply(cursor) {
        BulkReply::Incomplete => ScanReply::Incomplete,
        BulkReply::Bulk {
            content_bytes,
            bytes,
        } if content_bytes <= CURSOR_BYTES_MAX => {
            let end = bytes + content_bytes;
            match cursor.get(end..end + 2) {
                None => ScanReply::Incomplete,
                Some(b"\r\n") => {
                    parse_cursor(&cursor[bytes..end]).map_or(ScanReply::Malformed, |cursor| {
                        ScanReply::Cursor {
                            cursor,
                            bytes: PAIR.len() + end + 2,
                        }
                    })
                }
                Some(_) => ScanReply::Malformed,
            }
        }
        _ => ScanReply::Malformed,
    }
}

/// Most digits of a cursor: those of the largest number of 64 bits.
const CURSOR_BYTES_MAX: usize = 20;

/// The cursor of SCAN that `digits` is: any number of 64 bits.
pub fn parse_cursor(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > CURSOR_BYTES_MAX {
        return None;
    }
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
