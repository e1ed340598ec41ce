//! Measuring replies. What only RESP3 has is in [`super::reply3`].

use crate::reply::{ARRAYS_IN_A_ROW_MAX, ReplyError, ReplyScan, ReplyScanner};
use crate::scan::{NumberLine, number_line};

use super::reply3;

/// Moves `scanner` over `buf`.
#[inline]
pub(crate) fn scan_resp(scanner: &mut ReplyScanner, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
    if !scanner.begun
        && let Some(bytes) = whole_frequent(buf)
    {
        scanner.begun = true;
        scanner.values_left = 0;
        return Ok(ReplyScan { bytes, done: true });
    }
    scan_values(scanner, buf)
}

/// The bytes of the reply at the front of `buf` if it is whole and one of the two by far most frequent: a bulk for most
/// reads, `+OK` for most writes.
#[inline]
fn whole_frequent(buf: &[u8]) -> Option<usize> {
    if *buf.first()? != b'$' {
        return buf.starts_with(b"+OK\r\n").then_some(5);
    }
    let NumberLine::Number { value, end } = number_line(buf, 1) else {
        return None;
    };
    let content_end = end.checked_add(usize::try_from(value).ok()?)?;
    (buf.get(content_end..content_end.checked_add(2)?)? == b"\r\n").then_some(content_end + 2)
}

/// The general case: moves over any values.
fn scan_values(scanner: &mut ReplyScanner, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
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
            let stopped = scanner.scan_line(buf, at)?;
            if scanner.is_within_line() {
                return Ok(ReplyScan {
                    bytes: stopped,
                    done: false,
                });
            }
            at = stopped;
        }
        if scanner.values_left == 0 {
            return Ok(ReplyScan {
                bytes: at,
                done: true,
            });
        }
        let Some(&kind) = buf.get(at) else {
            return Ok(ReplyScan {
                bytes: at,
                done: false,
            });
        };
        let next = match kind {
            b'$' | b'*' => begin_counted(scanner, buf, at, kind)?,
            b'+' | b'-' | b':' => begin_line(scanner, buf, at, kind)?,
            other => reply3::begin(scanner, buf, at, other)?,
        };
        if next == at {
            return Ok(ReplyScan {
                bytes: at,
                done: false,
            });
        }
        scanner.begun = true;
        at = next;
    }
}

/// Begins the bulk or array at `at` and returns the position behind its header; `at` when that is not whole.
#[inline]
fn begin_counted(
    scanner: &mut ReplyScanner,
    buf: &[u8],
    at: usize,
    kind: u8,
) -> Result<usize, ReplyError> {
    let (count, end) = match number_line(buf, at + 1) {
        NumberLine::Incomplete => return Ok(at),
        NumberLine::Number { value, end } if value >= -1 => (value, end),
        NumberLine::Number { .. } | NumberLine::Bad => return Err(ReplyError::BadLength),
    };
    scanner.values_left -= 1;
    // -1 is the null bulk or the null array: nothing follows.
    note_depth(scanner, kind == b'*' && count > 0)?;
    if count >= 0 && kind == b'$' {
        scanner.data_left = count as u64 + 2;
    } else if count >= 0 {
        scanner.values_left = scanner
            .values_left
            .checked_add(count as u64)
            .ok_or(ReplyError::BadLength)?;
    }
    Ok(end)
}

/// Counts headers that follow each other.
#[inline]
pub(super) fn note_depth(scanner: &mut ReplyScanner, opens: bool) -> Result<(), ReplyError> {
    scanner.arrays_in_a_row = if opens {
        scanner.arrays_in_a_row + 1
    } else {
        0
    };
    if scanner.arrays_in_a_row > ARRAYS_IN_A_ROW_MAX {
        return Err(ReplyError::TooDeep);
    }
    Ok(())
}

/// Begins the line at `at` and returns where it stopped; `at` when more of it should be there first.
#[inline]
pub(super) fn begin_line(
    scanner: &mut ReplyScanner,
    buf: &[u8],
    at: usize,
    kind: u8,
) -> Result<usize, ReplyError> {
    let stopped = scanner.scan_line(buf, at)?;
    if stopped > at {
        scanner.arrays_in_a_row = 0;
        scanner.values_left -= 1;
        // An error inside an array belongs to the array: the command itself did its work.
        if kind == b'-' && !scanner.begun {
            scanner.error = true;
            scanner.server_failure = is_redis_server_failure(&buf[at..stopped]);
        }
    }
    Ok(stopped)
}

/// Whether an error line tells that a Redis server cannot serve: `-OOM`, `-BUSY` or `-LOADING`.
pub fn is_redis_server_failure(line: &[u8]) -> bool {
    let word_end = line
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\r'))
        .unwrap_or(line.len());
    matches!(&line[..word_end], b"-OOM" | b"-BUSY" | b"-LOADING")
}
