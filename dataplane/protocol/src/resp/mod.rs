//! RESP requests: an array of bulk strings.
//!
//! `*2 $3 GET $5 apple`, with CR LF where the blanks are. The parser reads the array's length and the name, looks the name up in
//! the table of commands, walks to the key, and from there only measures. Keys that stand elsewhere are looked for when all is there.

pub(crate) mod catalogue;
mod commands;
mod frequent;
mod inline;
pub(crate) mod limits;
mod lookup;
mod plan;
pub(crate) mod reply;
mod reply3;
mod request;
mod subcommands;
mod table;
mod twemproxy;
mod whole;

use crate::request::{Recovery, Refusal, RefusalText};
use crate::scan::{NumberLine, number_line};
use limits::REDIS_BULK_BYTES_MAX;

pub use inline::write_inline;
pub(crate) use request::{name_of, parse, parse_as_twemproxy, prefix_of};
pub(crate) use whole::{Place, keys_of};

/// Fewest bytes of a bulk: `$0`, CR LF, CR LF.
pub(crate) const BULK_BYTES_MIN: usize = 6;

/// The refusal of a bulk without CR LF behind it. Redis skips two bytes there without a look. Passing such a request on would be safe
/// only as long as every server does the same.
pub(crate) const BAD_BULK_END: Refusal =
    Refusal::close("-ERR Protocol error: expected CRLF after bulk string\r\n");

/// A bulk's header in a request.
pub(crate) enum BulkHeader {
    /// Not whole.
    Incomplete,
    /// `bytes` bytes follow from `start` on, then CR LF.
    Bulk { start: usize, bytes: u32 },
    /// Not a bulk's header: see [`bulk_fault`].
    Bad,
}

/// Reads the bulk header at `at`.
#[inline]
pub(crate) fn bulk_header(buf: &[u8], at: usize) -> BulkHeader {
    match buf.get(at) {
        None => return BulkHeader::Incomplete,
        Some(b'$') => {}
        Some(_) => return BulkHeader::Bad,
    }
    match number_line(buf, at + 1) {
        NumberLine::Incomplete => BulkHeader::Incomplete,
        NumberLine::Number { value, end }
            if (0..=i64::from(REDIS_BULK_BYTES_MAX)).contains(&value) =>
        {
            BulkHeader::Bulk {
                start: end,
                bytes: value as u32,
            }
        }
        NumberLine::Number { .. } | NumberLine::Bad => BulkHeader::Bad,
    }
}

/// What Redis says about bytes at `at` that are no bulk's header.
#[cold]
pub(crate) fn bulk_fault(buf: &[u8], at: usize) -> Refusal {
    if buf.get(at) == Some(&b'$') {
        return Refusal::close("-ERR Protocol error: invalid bulk length\r\n");
    }
    Refusal {
        reply: RefusalText::Named {
            before: "-ERR Protocol error: expected '$', got '",
            name_start: at as u32,
            name_bytes: 1,
            after: "'\r\n",
        },
        recovery: Recovery::Close,
    }
}

#[cfg(test)]
mod tests;
