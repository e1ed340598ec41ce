//! Measuring the values that only RESP3 has.
//!
//! Whether a server may use them on a connection is not looked at here: it does so only where it was asked to. Aggregates without a
//! count (`*?`) are not taken: no server sends them.

use crate::reply::{ReplyError, ReplyScanner};
use crate::scan::{NumberLine, number_line};

use super::reply::{begin_line, note_depth};

/// Begins the value at `at`, whose first byte is `kind`, and returns where it stopped; `at` when more of it should be there first.
#[cold]
pub(super) fn begin(
    scanner: &mut ReplyScanner,
    buf: &[u8],
    at: usize,
    kind: u8,
) -> Result<usize, ReplyError> {
    match kind {
        b'%' => begin_aggregate(scanner, buf, at, 2),
        b'~' | b'>' => begin_aggregate(scanner, buf, at, 1),
        b'|' => begin_attribute(scanner, buf, at),
        b'=' | b'!' => begin_blob(scanner, buf, at, kind),
        b',' | b'(' => begin_line(scanner, buf, at, kind),
        b'_' => begin_word(scanner, buf, at, &[b"_\r\n"]),
        b'#' => begin_word(scanner, buf, at, &[b"#t\r\n", b"#f\r\n"]),
        other => Err(ReplyError::UnexpectedByte(other)),
    }
}

/// The count in the header at `at`, and the position behind it. `None`: it is not whole.
fn count(buf: &[u8], at: usize) -> Result<Option<(u64, usize)>, ReplyError> {
    match number_line(buf, at + 1) {
        NumberLine::Incomplete => Ok(None),
        // A null has a type of its own.
        NumberLine::Number { value, end } => {
            let count = u64::try_from(value).map_err(|_| ReplyError::BadLength)?;
            Ok(Some((count, end)))
        }
        NumberLine::Bad => Err(ReplyError::BadLength),
    }
}

/// Moves over the header at `at`, which counts values or pairs of them.
fn begin_values(
    scanner: &mut ReplyScanner,
    buf: &[u8],
    at: usize,
    values_each: u64,
) -> Result<usize, ReplyError> {
    let Some((count, end)) = count(buf, at)? else {
        return Ok(at);
    };
    // An empty attribute may stand in front of another, so each counts.
    note_depth(scanner, count > 0 || buf[at] == b'|')?;
    scanner.values_left = count
        .checked_mul(values_each)
        .and_then(|values| scanner.values_left.checked_add(values))
        .ok_or(ReplyError::BadLength)?;
    Ok(end)
}

fn begin_aggregate(
    scanner: &mut ReplyScanner,
    buf: &[u8],
    at: usize,
    values_each: u64,
) -> Result<usize, ReplyError> {
    let next = begin_values(scanner, buf, at, values_each)?;
    if next > at {
        scanner.values_left -= 1;
        scanner.push |= !scanner.begun && buf[at] == b'>';
    }
    Ok(next)
}

/// An attribute stands in front of a value and is none itself.
fn begin_attribute(scanner: &mut ReplyScanner, buf: &[u8], at: usize) -> Result<usize, ReplyError> {
    begin_values(scanner, buf, at, 2)
}

fn begin_blob(
    scanner: &mut ReplyScanner,
    buf: &[u8],
    at: usize,
    kind: u8,
) -> Result<usize, ReplyError> {
    let Some((bytes, end)) = count(buf, at)? else {
        return Ok(at);
    };
    scanner.arrays_in_a_row = 0;
    scanner.values_left -= 1;
    scanner.data_left = bytes + 2;
    scanner.error |= !scanner.begun && kind == b'!';
    Ok(end)
}

/// Moves over the word at `at`, one of `words`, which are of one length.
fn begin_word(
    scanner: &mut ReplyScanner,
    buf: &[u8],
    at: usize,
    words: &[&[u8]],
) -> Result<usize, ReplyError> {
    let here = &buf[at..];
    if words.iter().any(|word| here.starts_with(word)) {
        scanner.arrays_in_a_row = 0;
        scanner.values_left -= 1;
        return Ok(at + words[0].len());
    }
    if words.iter().any(|word| word.starts_with(here)) {
        return Ok(at);
    }
    Err(ReplyError::BadLine)
}
