//! Measuring the replies to meta commands.

use crate::reply::{REPLY_TOKEN_BYTES_MAX, ReplyError, ReplyScan, ReplyScanner};
use crate::scan::{find_byte, unsigned};

/// What a reply with a data block starts with.
const VALUE: &[u8] = b"VA ";

/// Most digits of a data block's length.
const LENGTH_DIGITS_MAX: usize = 10;

/// Moves `scanner` over `buf`.
pub(crate) fn scan_meta(scanner: &mut ReplyScanner, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
    let mut at = 0;
    if !scanner.begun {
        if !buf.starts_with(VALUE) {
            return if VALUE.starts_with(buf) {
                Ok(ReplyScan {
                    bytes: 0,
                    done: false,
                })
            } else {
                scanner.scan_any_line(buf)
            };
        }
        let Some(end) = header_end(buf)? else {
            return Ok(ReplyScan {
                bytes: 0,
                done: false,
            });
        };
        scanner.begun = true;
        scanner.data_left = data_bytes(&buf[VALUE.len()..end])? + 2;
        at = end;
    }
    if scanner.data_left == 0 {
        return scanner.scan_any_line(buf);
    }
    at = scanner.scan_data(buf, at)?;
    let done = scanner.data_left == 0;
    if done {
        scanner.values_left = 0;
    }
    Ok(ReplyScan { bytes: at, done })
}

/// Where the line at the front of `buf` ends, its line end included.
fn header_end(buf: &[u8]) -> Result<Option<usize>, ReplyError> {
    match find_byte(buf, 0, b'\n') {
        Some(end) if buf[end - 1] == b'\r' && end < REPLY_TOKEN_BYTES_MAX => Ok(Some(end + 1)),
        Some(_) => Err(ReplyError::BadLine),
        None if buf.len() >= REPLY_TOKEN_BYTES_MAX => Err(ReplyError::BadLine),
        None => Ok(None),
    }
}

/// The length at the front of `line`.
fn data_bytes(line: &[u8]) -> Result<u64, ReplyError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_word = matches!(line.get(digits), Some(b' ' | b'\r'));
    match unsigned(&line[..digits]) {
        Some(bytes) if is_word && digits <= LENGTH_DIGITS_MAX => Ok(bytes),
        _ => Err(ReplyError::BadLength),
    }
}
