//! Inline commands: a line of words instead of an array.
//!
//! Load balancers check a Redis port with an inline PING, so PING and QUIT are understood. Everything else is refused: quoting
//! rules and missing lengths make lines a way to smuggle commands through HTTP clients.

use crate::reply::ReplyShape;
use crate::request::{Local, Parsed, Refusal, Request, Resume, Route, incomplete};
use crate::scan::{find_byte, token_end};

use super::limits::REDIS_INLINE_BYTES_MAX;

const TOO_LONG: Refusal = Refusal::close("-ERR Protocol error: too big inline request\r\n");
const UNSUPPORTED: &str =
    "-ERR Protocol error: inline commands are not supported, except PING and QUIT\r\n";
/// What a browser can be made to send to a Redis port has these words at the start of a line. The commands that its body
/// smuggles in must not run, so the connection ends, as Redis ends it.
const HTTP: Refusal = Refusal::close("-ERR Protocol error: this is HTTP, not Redis\r\n");
const PING_ARITY: &str = "-ERR wrong number of arguments for 'ping' command\r\n";

/// Parses the line at the front of `buf`.
#[cold]
pub(super) fn parse(buf: &[u8], resume: &mut Resume) -> Parsed {
    let Some(line_end) = find_byte(buf, resume.at as usize, b'\n') else {
        if buf.len() > REDIS_INLINE_BYTES_MAX {
            *resume = Resume::default();
            return Parsed::Refused(TOO_LONG);
        }
        resume.at = buf.len() as u32;
        return incomplete(buf, 0);
    };
    *resume = Resume::default();
    let bytes = line_end + 1;
    if line_end > REDIS_INLINE_BYTES_MAX {
        return Parsed::Refused(TOO_LONG);
    }
    let line = &buf[..line_end - usize::from(buf[..line_end].ends_with(b"\r"))];
    let skip_blanks = |mut at: usize| {
        while line.get(at) == Some(&b' ') {
            at += 1;
        }
        at
    };
    let name_start = skip_blanks(0);
    if name_start == line.len() {
        return Parsed::Skip { bytes };
    }
    let name_end = token_end(line, name_start);
    let argument_start = skip_blanks(name_end);
    let argument_end = token_end(line, argument_start);
    let more = skip_blanks(argument_end) < line.len();
    let plain = !line
        .iter()
        .any(|byte| matches!(byte, b'"' | b'\'') || byte.is_ascii_control());

    let name = &line[name_start..name_end];
    let (name, local) = if plain && name.eq_ignore_ascii_case(b"ping") {
        if more {
            return Parsed::Refused(Refusal::skip(PING_ARITY, bytes));
        }
        ("ping", Local::Ping)
    } else if plain && name.eq_ignore_ascii_case(b"quit") {
        ("quit", Local::Quit)
    } else if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        return Parsed::Refused(HTTP);
    } else {
        return Parsed::Refused(Refusal::skip(UNSUPPORTED, bytes));
    };
    let has_argument = local == Local::Ping && argument_end > argument_start;
    Parsed::Whole(Request {
        name,
        route: Route::Local(local),
        argc: 1 + u32::from(has_argument),
        key: if has_argument {
            argument_start..argument_end
        } else {
            0..0
        },
        prefix: name_start..name_end,
        bytes,
        noreply: None,
        reply: ReplyShape::Resp,
    })
}
