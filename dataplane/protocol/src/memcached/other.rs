//! The commands that are neither retrieval nor storage: one line, one line back.

use crate::request::{Local, Parsed, Request, Route};

use super::line::{Line, is_key};
use super::{BAD_FORMAT, ERROR, UNSUPPORTED, line_request, refuse_line, unless_noreply};

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

/// `verbosity <level> [noreply]`: the proxy has its own levels, so it only says OK.
pub(super) fn parse_verbosity(mut line: Line) -> Parsed {
    let Some((tokens, count @ 1..)) = line.tokens::<2>() else {
        return refuse_line(&line, ERROR);
    };
    let wants_none = line.is_noreply(&tokens[count - 1]);
    let noreply = (count == 2 && wants_none).then(|| tokens[0].end..tokens[1].end);
    if !line.content[tokens[0].clone()]
        .iter()
        .all(u8::is_ascii_digit)
    {
        return refuse_line(&line, unless_noreply(wants_none, BAD_FORMAT));
    }
    Parsed::Whole(Request {
        noreply,
        ..local(&line, "verbosity", Local::Ok)
    })
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

/// `flush_all [delay] [noreply]`: one client must not empty the cache of all servers.
pub(super) fn refuse_flush_all(mut line: Line) -> Parsed {
    let wants_none = match line.tokens::<2>() {
        Some((tokens, count @ 1..)) => line.is_noreply(&tokens[count - 1]),
        _ => false,
    };
    refuse_line(&line, unless_noreply(wants_none, UNSUPPORTED))
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
