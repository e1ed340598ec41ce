//! Measuring binary replies.

use std::ops::Range;

use crate::reply::{ReplyError, ReplyScan, ReplyScanner};

use super::opcodes::{STAT, loud};
use super::{BINARY_HEADER_BYTES, BinaryHead, Lengths, REPLY_MAGIC, status_of};

/// Most bytes of a reply's body. Values have at most 1 GiB; what says more is not from a cache server.
const BODY_BYTES_MAX: u32 = i32::MAX as u32;

/// Longest frame of a statistic. Names and values have some dozens of bytes; a dump of prefixes is no statistic that can be merged.
pub const STAT_BYTES_MAX: usize = 4096;

/// Moves `scanner` over `buf`: one frame, or all frames of statistics, in answer to the request `head`.
pub(crate) fn scan_frame(
    scanner: &mut ReplyScanner,
    head: BinaryHead,
    buf: &[u8],
) -> Result<ReplyScan, ReplyError> {
    let mut at = 0;
    loop {
        if !scanner.begun {
            match begin_frame(scanner, head, &buf[at..])? {
                0 => break,
                bytes => at += bytes,
            }
        }
        let here = scanner.data_left.min((buf.len() - at) as u64);
        scanner.data_left -= here;
        at += here as usize;
        if scanner.data_left > 0 || scanner.values_left == 0 {
            break;
        }
        scanner.values_left -= 1;
        // A statistic: the next frame belongs to the same reply.
        scanner.begun = scanner.values_left == 0;
    }
    Ok(ReplyScan {
        bytes: at,
        done: scanner.begun && scanner.values_left == 0,
    })
}

/// Begins the frame at the front of `buf`. Returns the bytes of its header; 0 if that is not whole.
fn begin_frame(
    scanner: &mut ReplyScanner,
    head: BinaryHead,
    buf: &[u8],
) -> Result<usize, ReplyError> {
    let Some(header) = buf.first_chunk::<BINARY_HEADER_BYTES>() else {
        return match buf.first() {
            Some(&byte) if byte != REPLY_MAGIC => Err(ReplyError::UnexpectedByte(byte)),
            _ => Ok(0),
        };
    };
    let lengths = checked(header, head, scanner.opaque)?;
    let status = status_of(header);
    let is_statistic = head.opcode == STAT && status == 0 && lengths.body > 0;
    scanner.begun = true;
    scanner.error = is_error(status);
    scanner.data_left = u64::from(lengths.body);
    scanner.values_left = 1 + u64::from(is_statistic);
    Ok(BINARY_HEADER_BYTES)
}

/// The lengths of a reply's header, if it is one in answer to the request `head`, which was sent with `opaque`.
fn checked(
    header: &[u8; BINARY_HEADER_BYTES],
    head: BinaryHead,
    opaque: u32,
) -> Result<Lengths, ReplyError> {
    if header[0] != REPLY_MAGIC {
        return Err(ReplyError::UnexpectedByte(header[0]));
    }
    if header[1] != loud(head.opcode) || header[12..16] != opaque.to_be_bytes() {
        return Err(ReplyError::WrongRequest);
    }
    let lengths = Lengths::of(header);
    if !lengths.are_sound() || lengths.body > BODY_BYTES_MAX {
        return Err(ReplyError::BadLength);
    }
    Ok(lengths)
}

/// Whether a status tells that the request or the server failed, and not only what was found: no such key, another cas unique, not stored.
fn is_error(status: u16) -> bool {
    !matches!(status, 0x00 | 0x01 | 0x02 | 0x05)
}

/// One frame of the reply to a request for statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatFrame {
    /// Not whole.
    Incomplete,
    /// A statistic.
    Stat {
        /// Where its name stands.
        name: Range<usize>,
        /// Where its value stands.
        value: Range<usize>,
        /// Bytes of the frame.
        bytes: usize,
    },
    /// There are no more.
    End {
        /// Bytes of the frame.
        bytes: usize,
    },
    /// There are none, because of this.
    Error {
        /// Where the text of the error stands.
        text: Range<usize>,
        /// Bytes of the frame.
        bytes: usize,
    },
}

/// Reads a frame of the reply to the request for statistics `head`, which was sent with `opaque`.
pub fn parse_stat_frame(
    buf: &[u8],
    head: BinaryHead,
    opaque: u32,
) -> Result<StatFrame, ReplyError> {
    let Some(header) = buf.first_chunk::<BINARY_HEADER_BYTES>() else {
        return match buf.first() {
            Some(&byte) if byte != REPLY_MAGIC => Err(ReplyError::UnexpectedByte(byte)),
            _ => Ok(StatFrame::Incomplete),
        };
    };
    let lengths = checked(header, head, opaque)?;
    let bytes = BINARY_HEADER_BYTES + lengths.body as usize;
    if bytes > STAT_BYTES_MAX {
        return Err(ReplyError::BadLength);
    }
    if buf.len() < bytes {
        return Ok(StatFrame::Incomplete);
    }
    let key = BINARY_HEADER_BYTES + lengths.extras..BINARY_HEADER_BYTES + lengths.front();
    Ok(match status_of(header) {
        0 if lengths.body == 0 => StatFrame::End { bytes },
        0 => StatFrame::Stat {
            value: key.end..bytes,
            name: key,
            bytes,
        },
        _ => StatFrame::Error {
            text: key.end..bytes,
            bytes,
        },
    })
}
