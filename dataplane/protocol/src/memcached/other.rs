//! The commands that are neither retrieval nor storage: one line, and but for `stats` one line back.

use std::ops::Range;

use crate::reply::ReplyShape;
use crate::request::{Local, Merge, Parsed, Request, Route};
use crate::scan::unsigned;

use super::line::{Line, is_key};
use super::storage::is_exptime;
use super::{BAD_FORMAT, ERROR, line_request, refuse_line, unless_noreply};

const BAD_DELAY: &str = "CLIENT_ERROR invalid exptime argument\r\n";

const OF_ONE_SERVER: &str =
    "SERVER_ERROR these statistics are about one server: ask the server itself\r\n";

const DELETE_USAGE: &str =
    "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";

/// `delete <key> [0] [noreply]`. The 0 was a time once; memcached still takes it, and nothing else there.
pub(super) fn parse_delete(mut line: Line) -> Parsed {
    let Some((tokens, count @ 1..)) = line.tokens::<3>() else {
        return refuse_line(&line, ERROR);
    };
    let last = &tokens[count - 1];
    let wants_none = count > 1 && line.is_noreply(last);
    let middle = count - 1 - usize::from(wants_none);
    let sound = middle == 0 || middle == 1 && &line.content[tokens[1].clone()] == b"0";
    if !sound {
        return refuse_line(&line, unless_noreply(wants_none, DELETE_USAGE));
    }
    let noreply = wants_none.then(|| tokens[count - 2].end..last.end);
    keyed(
        &line,
        Request {
            key: tokens[0].clone(),
            noreply,
            ..line_request(&line, "delete")
        },
    )
}

/// `incr <key> <value> [noreply]`, the same for decr, and `touch <key> <exptime> [noreply]`. The server judges the number.
pub(super) fn parse_with_number(mut line: Line, name: &'static str) -> Parsed {
    let Some((tokens, count @ 2..)) = line.tokens::<3>() else {
        return refuse_line(&line, ERROR);
    };
    if line.is_noreply(&tokens[1]) {
        // memcached goes by the last word of the line. Passed on with `noreply` as its number, and so as its last word, the
        // request would get no reply, and the next client's reply would be taken for it.
        let wants_none = line.is_noreply(&tokens[count - 1]);
        return refuse_line(&line, unless_noreply(wants_none, BAD_FORMAT));
    }
    let noreply = (count == 3 && line.is_noreply(&tokens[2])).then(|| tokens[1].end..tokens[2].end);
    keyed(
        &line,
        Request {
            key: tokens[0].clone(),
            noreply,
            ..line_request(&line, name)
        },
    )
}

/// `verbosity <level> [noreply]`, for all servers.
pub(super) fn parse_verbosity(line: Line) -> Parsed {
    parse_setting(line, "verbosity", BAD_FORMAT)
}

/// `cache_memlimit <megabytes> [noreply]`, for all servers.
pub(super) fn parse_memlimit(line: Line) -> Parsed {
    parse_setting(line, "cache_memlimit", ERROR)
}

/// `<name> <number> [noreply]`. What stands for a number here is one for every server, so that none of them differs.
fn parse_setting(mut line: Line, name: &'static str, bad_number: &'static str) -> Parsed {
    let Some((tokens, count @ 1..)) = line.tokens::<2>() else {
        return refuse_line(&line, ERROR);
    };
    let wants_none = line.is_noreply(&tokens[count - 1]);
    let noreply = (count == 2 && wants_none).then(|| tokens[0].end..tokens[1].end);
    let is_number =
        unsigned(&line.content[tokens[0].clone()]).is_some_and(|n| u32::try_from(n).is_ok());
    if !is_number {
        return refuse_line(&line, unless_noreply(wants_none, bad_number));
    }
    Parsed::Whole(broadcast(&line, name, Merge::FlushAll, noreply))
}

/// `flush_all [delay] [noreply]`, for all servers. A second word besides them is for memcached to ignore.
pub(super) fn parse_flush_all(mut line: Line) -> Parsed {
    let Some((tokens, count)) = line.tokens::<2>() else {
        return refuse_line(&line, ERROR);
    };
    let wants_none = count > 0 && line.is_noreply(&tokens[count - 1]);
    let has_delay = count > usize::from(wants_none);
    if has_delay && !is_exptime(&line.content[tokens[0].clone()]) {
        // Also for the word noreply in this place: it must not be the last of what a server gets.
        return refuse_line(&line, unless_noreply(wants_none, BAD_DELAY));
    }
    let noreply = wants_none.then(|| {
        let before = if count == 2 {
            tokens[0].end
        } else {
            line.name_end()
        };
        before..tokens[count - 1].end
    });
    Parsed::Whole(broadcast(&line, "flush_all", Merge::FlushAll, noreply))
}

/// `stats [<what> …]`: what servers count, put together; their settings, which should be the same on all, as one of them has them.
/// Statistics about the connections or items of one server are for that server to tell.
pub(super) fn stats(mut line: Line) -> Parsed {
    if line.has_control() {
        return refuse_line(&line, BAD_FORMAT);
    }
    let what = line.next_token();
    let more = line.next_token();
    let request = match (&line.content[what], &line.content[more]) {
        (b"" | b"items" | b"slabs" | b"sizes" | b"sizes_enable" | b"sizes_disable", _) => Request {
            reply: ReplyShape::Stats,
            ..broadcast(&line, "stats", Merge::Stats, None)
        },
        (b"settings", _) => Request {
            route: Route::Any,
            reply: ReplyShape::Stats,
            argc: 0,
            ..line_request(&line, "stats")
        },
        (b"reset", _) | (b"detail", b"on" | b"off") => {
            broadcast(&line, "stats", Merge::FlushAll, None)
        }
        (b"conns" | b"cachedump" | b"detail" | b"extstore" | b"proxy" | b"dump", _) => {
            return refuse_line(&line, OF_ONE_SERVER);
        }
        _ => return refuse_line(&line, ERROR),
    };
    Parsed::Whole(request)
}

fn broadcast(
    line: &Line,
    name: &'static str,
    merge: Merge,
    noreply: Option<Range<usize>>,
) -> Request {
    Request {
        route: Route::Broadcast(merge),
        argc: 0,
        noreply,
        ..line_request(line, name)
    }
}

/// `version`, whatever words follow.
pub(super) fn version(line: &Line) -> Parsed {
    if line.has_control() {
        return refuse_line(line, ERROR);
    }
    Parsed::Whole(local(line, "version", Local::Version))
}

/// `quit`, whatever words follow.
pub(super) fn quit(line: &Line) -> Parsed {
    if line.has_control() {
        return refuse_line(line, ERROR);
    }
    Parsed::Whole(local(line, "quit", Local::Quit))
}

fn keyed(line: &Line, request: Request) -> Parsed {
    if is_key(&request.key) {
        Parsed::Whole(request)
    } else {
        refuse_line(line, unless_noreply(request.noreply.is_some(), BAD_FORMAT))
    }
}

fn local(line: &Line, name: &'static str, local: Local) -> Request {
    Request {
        route: Route::Local(local),
        argc: 0,
        ..line_request(line, name)
    }
}
