//! The shape that nearly all requests have, parsed with few instructions.
//!
//! A command of the kind `GET key` or `SET key value`, whole in the buffer, with at most nine arguments of at most 999 bytes. Anything
//! else, faults included, is left to the general parser, which would say the same about these.

use crate::reply::ReplyShape;
use crate::request::{Request, Route};
use crate::scan::{short_number, word_at};

use super::commands::Rule;
use super::lookup::{self, Rows};

/// `*0`, CR LF, `$0`, CR LF with the digits left out.
const FRONT: u64 = u64::from_le_bytes([b'*', 0, b'\r', b'\n', b'$', 0, b'\r', b'\n']);
const FRONT_MASK: u64 = u64::from_le_bytes([0xff, 0, 0xff, 0xff, 0xff, 0, 0xff, 0xff]);
const FRONT_BYTES: usize = 8;

/// CR LF, which ends one bulk, and the `$` of the next.
const JOINT: u64 = 0x0024_0a0d;
const JOINT_BYTES: usize = 3;

/// The content of the bulk that follows the one whose content ends at `at`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn next_bulk(buf: &[u8], at: usize) -> Option<(usize, usize)> {
    let word = word_at(buf, at)?;
    if word & 0x00ff_ffff != JOINT {
        return None;
    }
    let (bytes, header_bytes) = short_number(word >> (8 * JOINT_BYTES))?;
    let start = at + JOINT_BYTES + header_bytes;
    Some((start, start + bytes as usize))
}

/// The request at the front of `buf`, if it has the shape.
#[inline]
pub(super) fn parse(rows: Rows, buf: &[u8]) -> Option<Request> {
    let front = word_at(buf, 0)?;
    let argc = u32::from(((front >> 8) as u8).wrapping_sub(b'0'));
    let name_bytes = usize::from(((front >> 40) as u8).wrapping_sub(b'0'));
    if front & FRONT_MASK != FRONT || argc.wrapping_sub(2) > 7 || name_bytes > 9 {
        return None;
    }
    let command = lookup::command(lookup::find(rows, buf, FRONT_BYTES, name_bytes)?);
    let arity = i32::from(command.arity);
    let fits = argc == arity.unsigned_abs() || arity < 0 && argc > arity.unsigned_abs();
    if command.rule != Rule::Key(1) || !fits {
        return None;
    }
    let name_end = FRONT_BYTES + name_bytes;
    let (key_start, key_end) = next_bulk(buf, name_end)?;
    let mut end = key_end;
    for _ in 2..argc {
        (_, end) = next_bulk(buf, end)?;
    }
    if buf.get(end..end + 2)? != b"\r\n" {
        return None;
    }
    Some(Request {
        name: command.name,
        route: Route::Key,
        argc,
        key: key_start..key_end,
        prefix: 4..name_end + 2,
        bytes: end + 2,
        noreply: None,
        reply: ReplyShape::Resp,
    })
}
