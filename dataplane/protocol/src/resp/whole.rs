//! The keys of a request that is there as a whole, wherever they stand.

use std::ops::Range;

use super::commands::{Command, KeySpec};
use super::lookup;
use crate::keys::Arguments;
use crate::request::{Parsed, Pin, Recovery, Refusal, RefusalText, Request, Route};
use crate::rest::RequestRest;

const SYNTAX: &str = "-ERR syntax error\r\n";
const UNBALANCED: &str = "-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.\r\n";
const BAD_COUNT: &str = "-ERR value is not an integer or out of range\r\n";
const NO_SOURCE: &str = "-ERR at least 1 input key is needed\r\n";

/// How many keys a request of `argc` arguments has from `first` to `last`.
pub(super) fn keys_in_range(argc: u32, first: u8, last: i8, step: u8) -> u32 {
    let last = if last < 0 {
        i64::from(argc) + i64::from(last)
    } else {
        i64::from(last)
    };
    let span = last - i64::from(first);
    if span < 0 {
        return 0;
    }
    span as u32 / u32::from(step) + 1
}

/// A number as strictly as Redis reads one.
pub(super) fn number(word: &[u8]) -> Option<i64> {
    let (negative, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let plain = digits == b"0" && !negative
        || matches!(digits, [b'1'..=b'9', more @ ..] if more.len() < 18 && more.iter().all(u8::is_ascii_digit));
    if !plain {
        return None;
    }
    let value = digits
        .iter()
        .fold(0i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if negative { -value } else { value })
}

/// Where the keys of a request are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// A key that stands in front of the others: a destination, or the key of SORT.
    pub(crate) apart: Option<Range<usize>>,
    /// Where the bulk of the first of the others starts.
    pub(crate) at: usize,
    /// How many others there are.
    pub(crate) count: u32,
    /// From the bulk of one of them to the next.
    pub(crate) step: u32,
}

impl Place {
    const NONE: Self = Self {
        apart: None,
        at: 0,
        count: 0,
        step: 1,
    };
}

/// The keys of `request`, which stands whole at the front of `buf`, and whether it may block for a while. Else the error reply.
fn place(command: &Command, request: &Request, buf: &[u8]) -> Result<(Place, bool), &'static str> {
    let mut walk = request.arguments(buf);
    walk.pass(1);
    let place = match command.keys {
        KeySpec::Plain => Place::NONE,
        KeySpec::Range { first, last, step } => {
            walk.pass(u32::from(first) - 1);
            Place {
                apart: None,
                at: walk.at,
                count: keys_in_range(request.argc, first, last, step),
                step: u32::from(step),
            }
        }
        KeySpec::Counted(position) | KeySpec::CountedOrNone(position) => {
            walk.pass(u32::from(position) - 1);
            counted(&mut walk, None)?
        }
        KeySpec::StoreCounted => {
            let destination = walk.next();
            let place = counted(&mut walk, destination)?;
            if place.count == 0 {
                return Err(NO_SOURCE);
            }
            place
        }
        KeySpec::SortStore => {
            let key = walk.next();
            sort_store(walk, key)
        }
        KeySpec::GeoStore(from) => {
            let key = walk.next();
            walk.pass(u32::from(from) - 2);
            geo_store(walk, key)
        }
        KeySpec::Streams(_) => return streams(walk),
    };
    Ok((place, false))
}

/// Keys behind their count.
fn counted(walk: &mut Arguments, apart: Option<Range<usize>>) -> Result<Place, &'static str> {
    let count = walk.word().and_then(number).ok_or(BAD_COUNT)?;
    if count < 0 || count > i64::from(walk.left) {
        return Err(SYNTAX);
    }
    Ok(Place {
        apart,
        at: walk.at,
        count: count as u32,
        step: 1,
    })
}

/// The last STORE counts, as for Redis. The words that follow another option are not taken for STORE.
fn sort_store(mut walk: Arguments, key: Option<Range<usize>>) -> Place {
    let mut place = Place {
        apart: key,
        ..Place::NONE
    };
    while let Some(word) = walk.word() {
        if word.eq_ignore_ascii_case(b"limit") {
            walk.pass(2);
        } else if word.eq_ignore_ascii_case(b"get") || word.eq_ignore_ascii_case(b"by") {
            walk.pass(1);
        } else if word.eq_ignore_ascii_case(b"store") && walk.left > 0 {
            place.at = walk.at;
            place.count = 1;
            walk.pass(1);
        }
    }
    place
}

/// The same for GEORADIUS. COUNT has a number behind it, the other options nothing.
fn geo_store(mut walk: Arguments, key: Option<Range<usize>>) -> Place {
    let mut place = Place {
        apart: key,
        ..Place::NONE
    };
    while let Some(word) = walk.word() {
        let stores = word.eq_ignore_ascii_case(b"store") || word.eq_ignore_ascii_case(b"storedist");
        if stores && walk.left > 0 {
            place.at = walk.at;
            place.count = 1;
            walk.pass(1);
        }
    }
    place
}

/// XREAD and XREADGROUP: options, STREAMS, keys, and as many ids.
fn streams(mut walk: Arguments) -> Result<(Place, bool), &'static str> {
    let mut blocks = false;
    while let Some(word) = walk.word() {
        if word.eq_ignore_ascii_case(b"block") {
            blocks = true;
            walk.pass(1);
        } else if word.eq_ignore_ascii_case(b"count") {
            walk.pass(1);
        } else if word.eq_ignore_ascii_case(b"group") {
            walk.pass(2);
        } else if word.eq_ignore_ascii_case(b"streams") {
            if walk.left == 0 {
                return Err(SYNTAX);
            }
            if !walk.left.is_multiple_of(2) {
                return Err(UNBALANCED);
            }
            let place = Place {
                apart: None,
                at: walk.at,
                count: walk.left / 2,
                step: 1,
            };
            return Ok((place, blocks));
        } else if !word.eq_ignore_ascii_case(b"noack") {
            return Err(SYNTAX);
        }
    }
    Err(SYNTAX)
}

/// Says where a request goes that is here as a whole, if that could not be told before.
pub(super) fn judge(command: &Command, buf: &[u8], mut request: Request) -> Parsed {
    match command.keys {
        KeySpec::StoreCounted | KeySpec::SortStore | KeySpec::GeoStore(_) | KeySpec::Streams(_) => {
        }
        _ => return Parsed::Whole(request),
    }
    let (place, blocks) = match place(command, &request, buf) {
        Ok(found) => found,
        Err(reply) => {
            return Parsed::Refused(Refusal {
                reply: RefusalText::Constant(reply),
                recovery: Recovery::Skip {
                    bytes: request.bytes,
                    rest: RequestRest::NOTHING,
                },
            });
        }
    };
    let first = request.keys_at(place.clone(), buf).next();
    request.key = first.map_or(0..0, |part| part.key);
    let keys = place.count + u32::from(place.apart.is_some());
    request.route = match keys {
        _ if blocks => Route::Pinned(Pin::Blocking),
        1 => Route::Key,
        _ => Route::Together,
    };
    Parsed::Whole(request)
}

/// Where the keys of a whole request are that goes to one server or to a connection of its own.
pub(crate) fn keys_of(request: &Request, buf: &[u8]) -> Place {
    lookup::row_named(request.name)
        .and_then(|command| place(command, request, buf).ok())
        .map_or(Place::NONE, |(place, _)| place)
}
