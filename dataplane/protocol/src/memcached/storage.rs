//! set, add, replace, append, prepend, cas.

use std::ops::Range;

use crate::reply::ReplyShape;
use crate::request::{Parsed, Refusal, Request, Route};
use crate::rest::{Ends, RequestRest};
use crate::scan::{NumberLine, number_line, token_end, unsigned};

use super::line::{Line, is_key};
use super::{
    BAD_DATA_CHUNK, BAD_FORMAT, ERROR, line_request, refuse_line, refuse_with_body, unless_noreply,
};

/// Most bytes of a data block. memcached: `INT_MAX - 2`. How much it stores is for the server to say.
const BLOCK_BYTES_MAX: u64 = i32::MAX as u64 - 2;

/// Most digits of a `cas unique`, which has 64 bits.
const CAS_DIGITS_MAX: usize = 20;

/// The storage request by far most frequent, with few instructions: `set`, single blanks, short numbers, no `noreply`, its block
/// whole. `None` leaves it to [`parse`], which would say the same.
#[inline]
pub(super) fn parse_plain_set(buf: &[u8]) -> Option<Request> {
    let key_end = token_end(buf, 4);
    let exptime_start = number_and_blank(buf, key_end + 1)?;
    let bytes_start = number_and_blank(buf, exptime_start)?;
    let NumberLine::Number { value, end } = number_line(buf, bytes_start) else {
        return None;
    };
    if buf[key_end] != b' ' || !is_key(&(4..key_end)) || value < 0 || value as u64 > BLOCK_BYTES_MAX
    {
        return None;
    }
    let content_end = end + value as usize;
    if buf.get(content_end..content_end + 2)? != b"\r\n" {
        return None;
    }
    Some(Request {
        name: "set",
        route: Route::Key,
        argc: 1,
        key: 4..key_end,
        prefix: 0..0,
        bytes: content_end + 2,
        noreply: None,
        reply: ReplyShape::Line,
    })
}

/// The position behind the blank behind the number of at most nine digits at `at`: so many fit 32 bits with and without sign.
#[inline]
fn number_and_blank(buf: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    while buf.get(end)?.is_ascii_digit() {
        end += 1;
    }
    (buf[end] == b' ' && (1..=9).contains(&(end - at))).then_some(end + 1)
}

/// Parses `<key> <flags> <exptime> <bytes> [<cas unique>] [noreply]` and the data block.
pub(super) fn parse(buf: &[u8], mut line: Line, name: &'static str, with_cas: bool) -> Parsed {
    let words = 4 + usize::from(with_cas);
    let Some((tokens, count)) = line.tokens::<6>() else {
        return refuse_odd_line(&line);
    };
    if count != words && count != words + 1 {
        return refuse_line(&line, ERROR);
    }
    let [key, flags, exptime, bytes, cas, _] = &tokens;
    let word = |token: &Range<usize>| &line.content[token.clone()];
    // memcached looks at the last word alone, and lets another word than noreply stand there.
    let noreply = (count > words && line.is_noreply(&tokens[words]))
        .then(|| tokens[words - 1].end..tokens[words].end);
    let wants_none = noreply.is_some();

    let Some(block) = block_bytes(word(bytes)) else {
        return refuse_line(&line, unless_noreply(wants_none, BAD_FORMAT));
    };
    let sound = is_key(key)
        && unsigned(word(flags)).is_some_and(|flags| u32::try_from(flags).is_ok())
        && is_exptime(word(exptime))
        && (!with_cas || is_cas_unique(word(cas)));
    if !sound {
        return refuse_with_body(&line, unless_noreply(wants_none, BAD_FORMAT), block + 2);
    }

    let mut request = line_request(&line, name);
    request.key = key.clone();
    request.noreply = noreply;
    with_block(buf, &line, request, block, wants_none)
}

/// The request of a sound line, with the data block behind it.
pub(super) fn with_block(
    buf: &[u8],
    line: &Line,
    mut request: Request,
    block: u32,
    wants_none: bool,
) -> Parsed {
    let content_end = line.bytes + block as usize;
    let end = content_end + 2;
    match buf.get(content_end..end) {
        Some(b"\r\n") => {
            request.bytes = end;
            Parsed::Whole(request)
        }
        // memcached goes on behind the two bytes that should have been the block's end.
        Some(_) => Parsed::Refused(Refusal::skip(
            unless_noreply(wants_none, BAD_DATA_CHUNK),
            end,
        )),
        None => {
            request.bytes = buf.len().min(content_end);
            let rest = RequestRest {
                args_left: 0,
                body_left: (end - request.bytes) as u32,
                ends: Ends::Block,
            };
            Parsed::Head {
                request,
                rest,
                need: end,
            }
        }
    }
}

/// Refuses a line of too many words, or with a control character in it: with its block if the length stands in its place.
fn refuse_odd_line(line: &Line) -> Parsed {
    let mut words = line
        .content
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    match words.nth(4).and_then(block_bytes) {
        Some(block) if line.has_control() => refuse_with_body(line, BAD_FORMAT, block + 2),
        _ => refuse_line(line, ERROR),
    }
}

pub(super) fn block_bytes(word: &[u8]) -> Option<u32> {
    unsigned(word)
        .filter(|&bytes| bytes <= BLOCK_BYTES_MAX)
        .map(|bytes| bytes as u32)
}

/// Whether the word is an expiration time: 32 bits, negative for "expired already".
pub(super) fn is_exptime(word: &[u8]) -> bool {
    let (digits, limit) = match word.strip_prefix(b"-") {
        Some(digits) => (digits, 1 << 31),
        None => (word, (1 << 31) - 1),
    };
    unsigned(digits).is_some_and(|value| value <= limit)
}

fn is_cas_unique(word: &[u8]) -> bool {
    // The largest numbers of 20 digits do not fit 64 bits, so those are compared as text.
    let largest = b"18446744073709551615";
    !word.is_empty()
        && word.iter().all(u8::is_ascii_digit)
        && (word.len() < CAS_DIGITS_MAX || word.len() == CAS_DIGITS_MAX && word <= &largest[..])
}
