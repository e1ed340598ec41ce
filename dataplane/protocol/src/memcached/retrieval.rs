//! get, gets, gat, gats.

use crate::reply::ReplyShape;
use crate::request::{Parsed, Request, Route, Split};
use crate::scan::token_end;

use super::line::{Line, is_key};
use super::{BAD_FORMAT, ERROR, MEMCACHED_KEY_BYTES_MAX, line_request, refuse_line};

const BAD_EXPTIME: &str = "CLIENT_ERROR invalid exptime argument\r\n";

/// Most blanks before the name of a retrieval that is longer than other lines may be. memcached: 100.
const LEADING_BLANKS_MAX: usize = 100;

/// The rest of the request by far most frequent: `get`, one blank, then one key, CR LF.
#[inline]
pub(super) fn parse_single_get(buf: &[u8]) -> Option<Request> {
    let end = token_end(buf, 4);
    if buf.get(end..end + 2)? != b"\r\n" || !(5..=4 + MEMCACHED_KEY_BYTES_MAX).contains(&end) {
        return None;
    }
    Some(Request {
        name: "get",
        route: Route::Key,
        argc: 1,
        key: 4..end,
        prefix: 0..4,
        bytes: end + 2,
        noreply: None,
        reply: ReplyShape::Values,
    })
}

/// Whether the line at the front of `buf`, which may lack its end, is a retrieval.
pub(super) fn is_retrieval(buf: &[u8]) -> bool {
    let blanks = buf.iter().take_while(|&&byte| byte == b' ').count();
    let name = &buf[blanks..];
    blanks <= LEADING_BLANKS_MAX
        && [&b"get "[..], b"gets ", b"gat ", b"gats "]
            .iter()
            .any(|wanted| name.starts_with(wanted))
}

/// Parses the line behind `name`; `with_exptime` when an expiration time stands before the keys.
pub(super) fn parse(mut line: Line, name: &'static str, with_exptime: bool) -> Parsed {
    let name_start = line
        .content
        .iter()
        .take_while(|&&byte| byte == b' ')
        .count();
    if with_exptime {
        let exptime = line.next_token();
        if exptime.is_empty() {
            return refuse_line(&line, ERROR);
        }
        if !super::storage::is_exptime(&line.content[exptime]) {
            return refuse_line(&line, BAD_EXPTIME);
        }
    }
    let first = line.next_token();
    let mut key = first.clone();
    let mut keys: u32 = 0;
    while !key.is_empty() {
        if !is_key(&key) {
            return refuse_line(&line, BAD_FORMAT);
        }
        keys += 1;
        key = line.next_token();
    }
    if !line.is_at_end() {
        return refuse_line(&line, BAD_FORMAT);
    }
    if keys == 0 {
        return refuse_line(&line, ERROR);
    }
    let mut request = line_request(&line, name);
    request.route = if keys == 1 {
        Route::Key
    } else {
        Route::Split(Split::MemcachedGet)
    };
    request.argc = keys;
    request.prefix = name_start..first.start;
    request.key = first;
    request.reply = ReplyShape::Values;
    Parsed::Whole(request)
}
