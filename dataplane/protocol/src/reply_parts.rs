//! Looking into the replies to the parts of a split request, which are merged into one.
//!
//! Each function looks at the front of the bytes that are there. `Incomplete` asks for more of them, `Malformed` means that the
//! server does not speak the protocol and its connection has to be closed.

use std::ops::Range;

use crate::memcached::MEMCACHED_KEY_BYTES_MAX;
use crate::memcached::reply::is_error;
use crate::reply::{REPLY_LINE_BYTES_MAX, REPLY_TOKEN_BYTES_MAX};
use crate::scan::{NumberLine, find_byte, number_line, token_end, unsigned};

/// The front of an array reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayHeader {
    /// Not whole.
    Incomplete,
    /// `elements` values follow after `bytes` bytes: each can be measured with [`crate::ReplyScanner`].
    Array {
        /// Number of elements.
        elements: u64,
        /// Bytes of the header.
        bytes: usize,
    },
    /// An error line instead of an array.
    Error {
        /// Bytes of the line, its end included.
        bytes: usize,
    },
    /// Something else.
    Malformed,
}

/// A reply of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineReply<T> {
    /// Not whole.
    Incomplete,
    /// What was expected.
    Value {
        /// What the line says.
        value: T,
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

/// What stands where memcached answers a retrieval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueHeader {
    /// Not whole.
    Incomplete,
    /// `VALUE <key> <flags> <bytes> [<cas unique>]`.
    Value {
        /// Where the key stands.
        key: Range<usize>,
        /// Bytes of the line, its end included.
        header_bytes: usize,
        /// Bytes of data that follow, without the CR LF behind them.
        data_bytes: usize,
    },
    /// `END`.
    End {
        /// Bytes of the line, its end included.
        bytes: usize,
    },
    /// `ERROR`, `CLIENT_ERROR` or `SERVER_ERROR`.
    Error {
        /// Bytes of the line, its end included.
        bytes: usize,
    },
    /// Something else.
    Malformed,
}

/// How a line at the front of a buffer ends.
pub(crate) enum LineEnd {
    Incomplete,
    At(usize),
    Malformed,
}

pub(crate) fn line_end(buf: &[u8], bytes_max: usize) -> LineEnd {
    match find_byte(buf, 0, b'\n') {
        Some(end) if end > 0 && buf[end - 1] == b'\r' && end < bytes_max => LineEnd::At(end + 1),
        Some(_) => LineEnd::Malformed,
        None if buf.len() >= bytes_max => LineEnd::Malformed,
        None => LineEnd::Incomplete,
    }
}

/// Reads the front of the reply to MGET: `*n` or an error.
pub fn parse_array_header(buf: &[u8]) -> ArrayHeader {
    match buf.first() {
        None => ArrayHeader::Incomplete,
        Some(b'*') => match number_line(buf, 1) {
            NumberLine::Incomplete => ArrayHeader::Incomplete,
            NumberLine::Number { value, end } if value >= 0 => ArrayHeader::Array {
                elements: value as u64,
                bytes: end,
            },
            NumberLine::Number { .. } | NumberLine::Bad => ArrayHeader::Malformed,
        },
        Some(b'-') => match line_end(buf, REPLY_LINE_BYTES_MAX) {
            LineEnd::Incomplete => ArrayHeader::Incomplete,
            LineEnd::At(bytes) => ArrayHeader::Error { bytes },
            LineEnd::Malformed => ArrayHeader::Malformed,
        },
        Some(_) => ArrayHeader::Malformed,
    }
}

/// Reads an integer reply: `:n` or an error.
pub fn parse_integer_reply(buf: &[u8]) -> LineReply<i64> {
    match buf.first() {
        None => LineReply::Incomplete,
        Some(b':') => match number_line(buf, 1) {
            NumberLine::Incomplete => LineReply::Incomplete,
            NumberLine::Number { value, end } => LineReply::Value { value, bytes: end },
            NumberLine::Bad => LineReply::Malformed,
        },
        Some(b'-') => error_line(buf),
        Some(_) => LineReply::Malformed,
    }
}

/// Reads a status reply: `+OK` or the like, or an error.
pub fn parse_status_reply(buf: &[u8]) -> LineReply<()> {
    match buf.first() {
        None => LineReply::Incomplete,
        Some(b'+') => match line_end(buf, REPLY_LINE_BYTES_MAX) {
            LineEnd::Incomplete => LineReply::Incomplete,
            LineEnd::At(bytes) => LineReply::Value { value: (), bytes },
            LineEnd::Malformed => LineReply::Malformed,
        },
        Some(b'-') => error_line(buf),
        Some(_) => LineReply::Malformed,
    }
}

fn error_line<T>(buf: &[u8]) -> LineReply<T> {
    match line_end(buf, REPLY_LINE_BYTES_MAX) {
        LineEnd::Incomplete => LineReply::Incomplete,
        LineEnd::At(bytes) => LineReply::Error { bytes },
        LineEnd::Malformed => LineReply::Malformed,
    }
}

/// Reads what stands at the front of the reply to a retrieval, or behind the data of its last VALUE block.
#[inline]
pub fn parse_value_header(buf: &[u8]) -> ValueHeader {
    if buf.starts_with(b"VALUE ") {
        return parse_value_line(buf);
    }
    if buf.starts_with(b"END\r\n") {
        return ValueHeader::End { bytes: 5 };
    }
    if b"VALUE ".starts_with(buf) || b"END\r\n".starts_with(buf) {
        return ValueHeader::Incomplete;
    }
    parse_error_line(buf)
}

#[inline]
fn parse_value_line(buf: &[u8]) -> ValueHeader {
    let key_end = token_end(buf, 6);
    let flags_end = token_end(buf, key_end + 1);
    if let NumberLine::Number { value, end } = number_line(buf, flags_end + 1)
        && value_line_is_sound(buf, key_end, flags_end, end)
        && value >= 0
    {
        return ValueHeader::Value {
            key: 6..key_end,
            header_bytes: end,
            data_bytes: value as usize,
        };
    }
    parse_value_line_with_cas(buf, key_end, flags_end)
}

/// The line that gets and gats are answered with: `VALUE <key> <flags> <bytes> <cas unique>`.
fn parse_value_line_with_cas(buf: &[u8], key_end: usize, flags_end: usize) -> ValueHeader {
    let bytes_end = token_end(buf, flags_end + 1);
    // No one has to read the cas unique.
    let cas_end = token_end(buf, bytes_end + 1);
    let Some(line_end) = buf.get(cas_end..cas_end + 2) else {
        return incomplete_value_line(buf);
    };
    match unsigned(&buf[flags_end + 1..bytes_end]) {
        Some(data_bytes)
            if buf[bytes_end] == b' '
                && line_end == b"\r\n"
                && value_line_is_sound(buf, key_end, flags_end, cas_end + 2) =>
        {
            ValueHeader::Value {
                key: 6..key_end,
                header_bytes: cas_end + 2,
                data_bytes: data_bytes as usize,
            }
        }
        _ => ValueHeader::Malformed,
    }
}

/// Whether a VALUE line has its words where they should be, the key up to `key_end` and the flags up to `flags_end`.
#[inline]
pub(crate) fn value_line_is_sound(
    buf: &[u8],
    key_end: usize,
    flags_end: usize,
    line_bytes: usize,
) -> bool {
    (7..=6 + MEMCACHED_KEY_BYTES_MAX).contains(&key_end)
        && buf.get(key_end) == Some(&b' ')
        && buf.get(flags_end) == Some(&b' ')
        && line_bytes <= REPLY_TOKEN_BYTES_MAX
}

/// The line has no end yet: is it worth waiting for?
#[cold]
fn incomplete_value_line(buf: &[u8]) -> ValueHeader {
    if buf.len() >= REPLY_TOKEN_BYTES_MAX || find_byte(buf, 0, b'\n').is_some() {
        ValueHeader::Malformed
    } else {
        ValueHeader::Incomplete
    }
}

#[cold]
fn parse_error_line(buf: &[u8]) -> ValueHeader {
    // `ERROR` stands alone; only the other two are followed by a text. Who waited for the end of a long line that starts like it, or
    // like a VALUE, would wait for more than a buffer holds.
    let bytes_max = match buf.first() {
        Some(b'C' | b'S') => REPLY_LINE_BYTES_MAX,
        _ => REPLY_TOKEN_BYTES_MAX,
    };
    match line_end(buf, bytes_max) {
        LineEnd::At(bytes) if is_error(buf) => ValueHeader::Error { bytes },
        LineEnd::Incomplete => ValueHeader::Incomplete,
        LineEnd::At(_) | LineEnd::Malformed => ValueHeader::Malformed,
    }
}
