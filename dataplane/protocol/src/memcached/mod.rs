//! memcached requests. Here and in the modules for one kind of command each: the text protocol, a line of words, for the storage
//! commands followed by a counted data block. In [`meta`] its meta commands, in [`binary`] the binary protocol.
//!
//! The words of errors and the places where the stream goes on are memcached's own, with three deliberate differences:
//!
//! - A storage command whose line is faulty but tells the length of its block is refused with its block. memcached
//!   takes the block for commands, which lets a stored value act as a command.
//! - Control characters in a line are refused, as the protocol's description demands; memcached takes most of them.
//! - Numbers in the line of a storage command must be ones that every version of memcached takes. A server that refused the line would
//!   run the block as commands, on a connection that clients share.
//!
//! Names that memcached knows and the proxy does not support get a `SERVER_ERROR` that says so, other names `ERROR`.

pub(crate) mod binary;
mod commands;
mod line;
pub(crate) mod meta;
mod other;
pub(crate) mod reply;
mod retrieval;
pub(crate) mod stats;
mod storage;
pub(crate) mod twemproxy;

use crate::request::{Parsed, Recovery, Refusal, RefusalText, Request, Resume, incomplete};
use crate::rest::{Ends, RequestRest};
use crate::scan::find_byte;
use line::Line;
use meta::Quiet;

pub use commands::{MEMCACHED_COMMANDS, MEMCACHED_OPCODES, MemcachedCommand, MemcachedOpcode};

/// Longest key. The protocol's description: "the length limit of a key is set at 250 characters".
pub const MEMCACHED_KEY_BYTES_MAX: usize = 250;

/// Longest line of a command that is no retrieval. memcached closes a connection that has sent more without a line end.
pub const MEMCACHED_LINE_BYTES_MAX: usize = 2048;

/// Longest line of a retrieval: four thousand of the longest keys. memcached has no limit; here the receive buffer usually sets a lower
/// one. Without any, a client without line ends could make the search for one go on for ever.
pub const MEMCACHED_RETRIEVAL_BYTES_MAX: usize = 1024 * 1024;

const ERROR: &str = "ERROR\r\n";
const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const BAD_DATA_CHUNK: &str = "CLIENT_ERROR bad data chunk\r\n";
const LINE_TOO_LONG: Refusal = Refusal::close("CLIENT_ERROR line too long\r\n");
const BINARY: Refusal =
    Refusal::close("CLIENT_ERROR a connection is binary from its first byte or not at all\r\n");
const ADMINISTRATIVE: &str =
    "SERVER_ERROR command administers one server and is not passed on by the proxy\r\n";
const NO_WATCH: &str =
    "SERVER_ERROR watch turns a connection into a log and is not passed on by the proxy\r\n";

/// The refusal of a data block that does not end in CR LF, after its front was passed on.
pub(crate) const BAD_DATA_CHUNK_PASSED_ON: Refusal = Refusal::close(BAD_DATA_CHUNK);

/// Parses what stands at the front of `buf`.
#[inline]
pub(crate) fn parse(buf: &[u8], resume: &mut Resume) -> Parsed {
    if resume.at == 0
        && let Some(request) = parse_frequent(buf)
    {
        return Parsed::Whole(request);
    }
    parse_line(buf, resume)
}

/// The two requests that nearly all are.
#[inline]
fn parse_frequent(buf: &[u8]) -> Option<Request> {
    match buf.first_chunk::<4>()? {
        b"get " => retrieval::parse_single_get(buf),
        b"set " => storage::parse_plain_set(buf),
        _ => None,
    }
}

fn parse_line(buf: &[u8], resume: &mut Resume) -> Parsed {
    if buf.first() == Some(&binary::BINARY_REQUEST_MAGIC) {
        return Parsed::Refused(BINARY);
    }
    let line_end = find_byte(buf, resume.at as usize, b'\n');
    let line_bytes = line_end.unwrap_or(buf.len());
    if line_bytes > MEMCACHED_LINE_BYTES_MAX
        && (line_bytes > MEMCACHED_RETRIEVAL_BYTES_MAX || !retrieval::is_retrieval(buf))
    {
        *resume = Resume::default();
        return Parsed::Refused(LINE_TOO_LONG);
    }
    let Some(line_end) = line_end else {
        resume.at = buf.len() as u32;
        return incomplete(buf, 0);
    };
    let parsed = parse_command(buf, Line::new(buf, line_end));
    // A request that goes on after its line is looked at from the start of that line again: it is short.
    *resume = match parsed {
        Parsed::Head { .. } | Parsed::Incomplete { .. } => Resume {
            at: line_end as u32,
            ..Resume::default()
        },
        _ => Resume::default(),
    };
    parsed
}

/// Parses the command of a whole line.
fn parse_command(buf: &[u8], mut line: Line) -> Parsed {
    let name = line.next_token();
    match &line.content[name.clone()] {
        b"get" => retrieval::parse(line, "get", false),
        b"gets" => retrieval::parse(line, "gets", false),
        b"gat" => retrieval::parse(line, "gat", true),
        b"gats" => retrieval::parse(line, "gats", true),
        b"set" => storage::parse(buf, line, "set", false),
        b"add" => storage::parse(buf, line, "add", false),
        b"replace" => storage::parse(buf, line, "replace", false),
        b"append" => storage::parse(buf, line, "append", false),
        b"prepend" => storage::parse(buf, line, "prepend", false),
        b"cas" => storage::parse(buf, line, "cas", true),
        b"delete" => other::parse_delete(line),
        b"incr" => other::parse_with_number(line, "incr"),
        b"decr" => other::parse_with_number(line, "decr"),
        b"touch" => other::parse_with_number(line, "touch"),
        b"version" => other::version(&line),
        b"quit" => other::quit(&line),
        b"mg" => meta::parse(line, "mg", Quiet::Miss),
        b"ms" => meta::parse_set(buf, line),
        b"md" => meta::parse(line, "md", Quiet::Success),
        b"ma" => meta::parse(line, "ma", Quiet::Arithmetic),
        b"me" => meta::parse_debug(line),
        b"mn" => meta::parse_noop(&line),
        b"flush_all" => other::parse_flush_all(line),
        b"verbosity" => other::parse_verbosity(line),
        b"cache_memlimit" => other::parse_memlimit(line),
        b"stats" => other::stats(line),
        b"watch" => refuse_line(&line, NO_WATCH),
        b"slabs" | b"lru" | b"lru_crawler" | b"shutdown" | b"extstore" | b"refresh_certs"
        | b"misbehave" | b"debugtime" => refuse_line(&line, ADMINISTRATIVE),
        _ => refuse_line(&line, ERROR),
    }
}

/// The refusal of a request that is nothing but its line.
fn refuse_line(line: &Line, reply: &'static str) -> Parsed {
    Parsed::Refused(Refusal::skip(reply, line.bytes))
}

/// The refusal of a line and the `body` bytes behind it, of which any number may have arrived.
fn refuse_with_body(line: &Line, reply: &'static str, body: u32) -> Parsed {
    let rest = RequestRest {
        args_left: 0,
        body_left: body,
        ends: Ends::Any,
    };
    Parsed::Refused(Refusal {
        reply: RefusalText::Constant(reply),
        recovery: Recovery::Skip {
            bytes: line.bytes,
            rest,
        },
    })
}

/// `reply`, or nothing for a client that wants none.
fn unless_noreply(noreply: bool, reply: &'static str) -> &'static str {
    if noreply { "" } else { reply }
}

/// A whole request, to be adjusted.
fn line_request(line: &Line, name: &'static str) -> Request {
    Request {
        name,
        route: crate::request::Route::Key,
        argc: 1,
        key: 0..0,
        prefix: 0..0,
        bytes: line.bytes,
        noreply: None,
        reply: crate::reply::ReplyShape::Line,
    }
}

#[cfg(test)]
mod tests;
