//! The meta commands: `mg`, `ms`, `md`, `ma`, `me` and `mn`, each a key and flags of one character, some with a token behind it.
//!
//! Flags go to the server as they are, known or not, with one exception: `q` is cut out, as `noreply` is, so that every request
//! has a reply and replies stay in step. The proxy then drops what the flag hides: see [`Quiet`].

pub(crate) mod base64;
pub(crate) mod reply;

use std::ops::Range;

use crate::reply::ReplyShape;
use crate::request::{Local, Parsed, Request, Route};

use super::line::{Line, is_key};
use super::storage::{block_bytes, with_block};
use super::{BAD_FORMAT, ERROR, line_request, refuse_line, refuse_with_body};
use base64::decode_key;

/// What memcached says of faulty flags, for each command in words of its own.
struct Words {
    bad_key: &'static str,
    duplicate: &'static str,
    too_many: &'static str,
}

const OF_GET: Words = Words {
    bad_key: "CLIENT_ERROR error decoding key\r\n",
    duplicate: "CLIENT_ERROR duplicate flag\r\n",
    too_many: "CLIENT_ERROR options flags are too long\r\n",
};
const OF_SET: Words = Words {
    too_many: "CLIENT_ERROR options flags too long\r\n",
    ..OF_GET
};
const OF_OTHERS: Words = Words {
    bad_key: "CLIENT_ERROR invalid or duplicate flag\r\n",
    duplicate: "CLIENT_ERROR invalid or duplicate flag\r\n",
    ..OF_SET
};

/// Most words of a line, its name included. memcached refuses more before it knows of a data block, which it then takes for commands.
const WORDS_MAX: usize = 19;

/// Which replies to a meta command the flag `q` hides from its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quiet {
    /// The flag was not there: none.
    #[default]
    No,
    /// `mg`: a miss.
    Miss,
    /// `ms`, `md`: what went well.
    Success,
    /// `ma`: what went well, though the new value was asked for. memcached before 1.6.40 shows it when the number was created.
    Arithmetic,
}

impl Quiet {
    /// Whether the reply that starts with these two bytes is hidden.
    pub(crate) fn hides(self, code: [u8; 2]) -> bool {
        match self {
            Self::No => false,
            Self::Miss => &code == b"EN",
            Self::Success => &code == b"HD",
            Self::Arithmetic => &code == b"HD" || &code == b"VA",
        }
    }
}

/// What the flags of a line say that the proxy has to know.
#[derive(Default)]
struct Flags {
    /// The place of `q`, and the end of the word before it.
    quiet: Option<Range<usize>>,
    base64: bool,
    /// Words of the line, flags and all.
    words: usize,
    twice_quiet: bool,
}

/// Reads the flags behind the word that ends at `at`, the `words`th.
fn flags(line: &mut Line, mut at: usize, words: usize) -> Flags {
    let mut flags = Flags {
        words,
        ..Flags::default()
    };
    loop {
        let word = line.next_token();
        if word.is_empty() {
            return flags;
        }
        flags.words += 1;
        // memcached goes by the first character, whatever follows.
        match line.content[word.start] {
            b'q' => {
                flags.twice_quiet |= flags.quiet.is_some();
                flags.quiet = Some(at..word.end);
            }
            b'b' => flags.base64 = true,
            _ => {}
        }
        at = word.end;
    }
}

/// What is wrong with a line of a sound key, if something is that must not reach a server.
fn fault(line: &Line, key: &Range<usize>, flags: &Flags, words: &Words) -> Option<&'static str> {
    if !line.is_at_end() {
        // A control character.
        return Some(BAD_FORMAT);
    }
    if flags.words > WORDS_MAX {
        return Some(words.too_many);
    }
    if flags.twice_quiet {
        return Some(words.duplicate);
    }
    let is_decoded = !flags.base64 || decode_key(&line.content[key.clone()]).is_some();
    (!is_decoded).then_some(words.bad_key)
}

/// The request of a line without fault.
fn request(
    line: &Line,
    name: &'static str,
    key: Range<usize>,
    flags: Flags,
    quiet: Quiet,
) -> Request {
    let quiet = if flags.quiet.is_some() {
        quiet
    } else {
        Quiet::No
    };
    Request {
        route: if flags.base64 {
            Route::Base64Key
        } else {
            Route::Key
        },
        key,
        noreply: flags.quiet,
        reply: ReplyShape::Meta(quiet),
        ..line_request(line, name)
    }
}

/// `mg`, `md` and `ma`: `<key> <flags>*`.
pub(super) fn parse(mut line: Line, name: &'static str, quiet: Quiet) -> Parsed {
    let key = line.next_token();
    if key.is_empty() && line.is_at_end() {
        return refuse_line(&line, ERROR);
    }
    if !is_key(&key) {
        return refuse_line(&line, BAD_FORMAT);
    }
    let flags = flags(&mut line, key.end, 2);
    let words = if quiet == Quiet::Miss {
        &OF_GET
    } else {
        &OF_OTHERS
    };
    match fault(&line, &key, &flags, words) {
        Some(reply) => refuse_line(&line, reply),
        None => Parsed::Whole(request(&line, name, key, flags, quiet)),
    }
}

/// `ms <key> <datalen> <flags>*` and its data block.
///
/// A line with a fault is refused with its block where its length can be told, also in the form that memcached 1.5 had: `ms <key> S<datalen>`.
pub(super) fn parse_set(buf: &[u8], mut line: Line) -> Parsed {
    let key = line.next_token();
    if key.is_empty() && line.is_at_end() {
        return refuse_line(&line, ERROR);
    }
    let length = line.next_token();
    let word = &line.content[length.clone()];
    let Some(block) = block_bytes(word) else {
        return match word.strip_prefix(b"S").and_then(block_bytes) {
            Some(block) => refuse_with_body(&line, BAD_FORMAT, block + 2),
            None => refuse_line(&line, BAD_FORMAT),
        };
    };
    let flags = flags(&mut line, length.end, 3);
    let fault = if is_key(&key) {
        fault(&line, &key, &flags, &OF_SET)
    } else {
        Some(BAD_FORMAT)
    };
    if let Some(reply) = fault {
        return refuse_with_body(&line, reply, block + 2);
    }
    let request = request(&line, "ms", key, flags, Quiet::Success);
    with_block(buf, &line, request, block, false)
}

/// `me <key> [b]`.
pub(super) fn parse_debug(mut line: Line) -> Parsed {
    let key = line.next_token();
    if !is_key(&key) {
        return refuse_line(&line, BAD_FORMAT);
    }
    let flag = line.next_token();
    // Other than the other meta commands, this one wants the flag alone and in this place.
    let base64 = &line.content[flag] == b"b";
    let flags = flags(&mut line, 0, 3);
    if !line.is_at_end() || flags.words > WORDS_MAX {
        return refuse_line(&line, BAD_FORMAT);
    }
    if base64 && decode_key(&line.content[key.clone()]).is_none() {
        return refuse_line(&line, BAD_FORMAT);
    }
    let flags = Flags {
        base64,
        ..Flags::default()
    };
    Parsed::Whole(request(&line, "me", key, flags, Quiet::No))
}

/// `mn`, whatever follows: the client wants to know that everything before it was answered.
pub(super) fn parse_noop(line: &Line) -> Parsed {
    if line.has_control() {
        return refuse_line(line, ERROR);
    }
    Parsed::Whole(Request {
        route: Route::Local(Local::MetaNoop),
        argc: 0,
        ..line_request(line, "mn")
    })
}
