//! Measuring memcached's replies to retrievals.

use crate::reply::{ReplyError, ReplyScan, ReplyScanner};
use crate::reply_parts::{ValueHeader, parse_value_header};

/// Whether the line at the front of `line` is one of memcached's errors.
#[inline]
pub(crate) fn is_error(line: &[u8]) -> bool {
    [&b"ERROR"[..], b"CLIENT_ERROR", b"SERVER_ERROR"]
        .iter()
        .any(|error| line.starts_with(error))
}

/// Moves `scanner` over `buf`.
#[inline]
pub(crate) fn scan_values(scanner: &mut ReplyScanner, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
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
