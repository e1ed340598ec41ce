//! What twemproxy 0.5 does not take of what the parser takes.

use crate::request::{Parsed, Refusal, Request, Resume};
use crate::scan::find_byte;

/// Parses what stands at the front of `buf`, and refuses what twemproxy does not take.
pub(crate) fn parse(buf: &[u8], resume: &mut Resume) -> Parsed {
    let parsed = super::parse(buf, resume);
    match &parsed {
        Parsed::Whole(request) | Parsed::Head { request, .. } if !takes(request, buf) => {
            Parsed::Refused(Refusal::SILENT)
        }
        _ => parsed,
    }
}

/// Whether twemproxy takes a request that was found sound.
fn takes(request: &Request, buf: &[u8]) -> bool {
    let noreply = usize::from(request.noreply.is_some());
    let mut words = words_from(buf, request.key.end);
    match request.name {
        "gat" | "gats" | "flush_all" | "verbosity" | "cache_memlimit" | "stats" | "mg" | "ms"
        | "md" | "ma" | "me" | "mn" => false,
        // These two have no key: the first word is the name.
        "version" => words.count() == 1,
        "delete" => words.count() == noreply,
        "incr" | "decr" | "touch" => words.next().is_some_and(is_delta) && words.count() == noreply,
        "set" | "add" | "replace" | "append" | "prepend" => storage(words, 3 + noreply),
        "cas" => storage(words, 4 + noreply),
        _ => true,
    }
}

/// Whether `count` words follow the key, of which the second, a time, has no sign.
fn storage<'a>(mut words: impl Iterator<Item = &'a [u8]>, count: usize) -> bool {
    let exptime = words.nth(1).unwrap_or_default();
    exptime.iter().all(u8::is_ascii_digit) && words.count() + 2 == count
}

/// Digits, or a minus and digits: what is wrong with the number is for the server to say.
fn is_delta(word: &[u8]) -> bool {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    !word.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// The words of the command line from `at` on.
fn words_from(buf: &[u8], at: usize) -> impl Iterator<Item = &[u8]> {
    let end = find_byte(buf, at, b'\n').unwrap_or(buf.len());
    let line = buf.get(at..end).unwrap_or_default();
    line.strip_suffix(b"\r")
        .unwrap_or(line)
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
}
