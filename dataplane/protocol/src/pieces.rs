//! Taking a divided Redis request apart while it arrives, key by key, when it is too large to be seen as a whole.

use std::ops::Range;

use crate::request::{Refusal, Request, Resume, Route, Split};
use crate::resp::{self, BULK_BYTES_MIN, BulkHeader, bulk_fault, bulk_header};
use crate::rest::RequestRest;

/// The front of a divided Redis request: see [`Resume::divided`] and [`Request::divided`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DividedFront {
    /// As [`crate::Request::name`].
    pub name: &'static str,
    /// How its keys are spread.
    pub split: Split,
    /// Its keys, in all.
    pub keys: u32,
    /// The wire form of its name, as [`crate::Request::prefix`]. The first key follows.
    pub prefix: Range<usize>,
}

/// What [`next_key`] found at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextKey {
    /// A key, for MSET with its value, in so many bytes.
    Whole {
        /// Bytes of its wire form.
        bytes: usize,
    },
    /// Not all of it is here.
    Partial {
        /// More bytes than there are, and not more than it has.
        need: usize,
        /// For a pair of MSET: its front, if that is whole.
        value: Option<ValueFront>,
    },
    /// It is not well formed, and where the request ends cannot be known.
    Refused(Refusal),
}

/// The front of a pair of MSET up to the first byte of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueFront {
    /// Where the key starts and ends.
    pub key: (usize, usize),
    /// Bytes in front of the value.
    pub bytes: usize,
    /// Measures the value and its line end.
    pub rest: RequestRest,
}

impl Resume {
    /// The front of the request that was looked at, if it is one that is divided and its name is known. The buffer holds at
    /// least [`DividedFront::prefix`].
    pub fn divided(&self) -> Option<DividedFront> {
        if self.argc == 0 {
            return None;
        }
        let prefix = resp::prefix_of(self.command, self.name_start as usize);
        divided(resp::name_of(self.command), self.route, self.argc, prefix)
    }
}

impl Request {
    /// Its front, if it is a Redis request that is divided.
    pub fn divided(&self) -> Option<DividedFront> {
        divided(self.name, self.route, self.argc, self.prefix.clone())
    }
}

fn divided(
    name: &'static str,
    route: Route,
    argc: u32,
    prefix: Range<usize>,
) -> Option<DividedFront> {
    let Route::Split(split @ (Split::Mget | Split::Mset | Split::Sum)) = route else {
        return None;
    };
    Some(DividedFront {
        name,
        split,
        keys: (argc - 1) / arguments_per_key(split),
        prefix,
    })
}

impl RequestRest {
    /// The rest of a request of which so many keys follow, for MSET with their values.
    pub fn keys(split: Split, keys: u32) -> Self {
        Self::bulks(keys * arguments_per_key(split))
    }

    /// What `self` measures, then what `then` does, of which no body was begun.
    #[must_use]
    pub fn followed_by(self, then: Self) -> Self {
        debug_assert_eq!(then.body_left, 0, "what follows starts with a header");
        Self {
            args_left: self.args_left + then.args_left,
            ..self
        }
    }
}

/// How many arguments a key of such a request takes.
pub fn arguments_per_key(split: Split) -> u32 {
    if split == Split::Mset { 2 } else { 1 }
}

/// Fewest bytes of a key of such a request, with its value for MSET.
pub fn key_bytes_min(split: Split) -> usize {
    BULK_BYTES_MIN * arguments_per_key(split) as usize
}

/// Looks at the key of a divided Redis request at the front of `buf`. It takes the same time whatever its length.
pub fn next_key(split: Split, buf: &[u8]) -> NextKey {
    let key = match bulk(buf, 0) {
        Ok(key) => key,
        Err(stopped) => return stopped.found(split),
    };
    if split != Split::Mset {
        return NextKey::Whole { bytes: key.1 + 2 };
    }
    let front = match bulk_header(buf, key.1 + 2) {
        BulkHeader::Bulk { start, bytes } => Some(ValueFront {
            key,
            bytes: start,
            rest: RequestRest {
                body_left: bytes + 2,
                ..RequestRest::bulks(0)
            },
        }),
        BulkHeader::Incomplete | BulkHeader::Bad => None,
    };
    match bulk(buf, key.1 + 2) {
        Ok((_, end)) => NextKey::Whole { bytes: end + 2 },
        Err(Stopped::Short { need }) => NextKey::Partial { need, value: front },
        Err(Stopped::Refused(refusal)) => NextKey::Refused(refusal),
    }
}

/// Why a bulk was not found.
enum Stopped {
    Short { need: usize },
    Refused(Refusal),
}

impl Stopped {
    /// It was the key.
    fn found(self, split: Split) -> NextKey {
        match self {
            Self::Short { need } => NextKey::Partial {
                need: need + key_bytes_min(split) - BULK_BYTES_MIN,
                value: None,
            },
            Self::Refused(refusal) => NextKey::Refused(refusal),
        }
    }
}

/// Where the content of the bulk at `at` starts and ends, if it is whole with its line end.
fn bulk(buf: &[u8], at: usize) -> Result<(usize, usize), Stopped> {
    let (start, end) = match bulk_header(buf, at) {
        BulkHeader::Bulk { start, bytes } => (start, start + bytes as usize),
        BulkHeader::Incomplete => {
            let need = (buf.len() + 1).max(at + BULK_BYTES_MIN);
            return Err(Stopped::Short { need });
        }
        BulkHeader::Bad => return Err(Stopped::Refused(bulk_fault(buf, at))),
    };
    // The first byte that is wrong is found even while the second is on its way.
    let line_end = buf.get(end..).unwrap_or_default();
    match line_end.get(..2).unwrap_or(line_end) {
        b"\r\n" => Ok((start, end)),
        [] | [b'\r'] => Err(Stopped::Short { need: end + 2 }),
        _ => Err(Stopped::Refused(resp::BAD_BULK_END)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Parsed, Protocol, parse_request};

    fn whole(bytes: usize) -> NextKey {
        NextKey::Whole { bytes }
    }

    /// Every cut of `wire` needs more than it has, and never more than there is.
    fn assert_cuts(split: Split, wire: &[u8]) {
        let followed = [wire, b"$1\r\nx\r\n"].concat();
        assert_eq!(next_key(split, wire), whole(wire.len()));
        assert_eq!(next_key(split, &followed), whole(wire.len()));
        for cut in 0..wire.len() {
            match next_key(split, &wire[..cut]) {
                NextKey::Partial { need, value } => {
                    assert!(need > cut && need <= wire.len(), "{need} after {cut}");
                    if let Some(front) = value {
                        let mut rest = front.rest;
                        let scan = rest.measure(&wire[front.bytes..]).unwrap();
                        assert!(scan.done && front.bytes + scan.bytes == wire.len());
                    }
                }
                other => panic!("{other:?} after {cut}"),
            }
        }
    }

    #[test]
    fn keys_and_pairs_are_found_whole_and_their_cuts_ask_for_what_they_have() {
        assert_cuts(Split::Sum, b"$3\r\nkey\r\n");
        assert_cuts(Split::Mget, b"$0\r\n\r\n");
        assert_cuts(Split::Mset, b"$3\r\nkey\r\n$12\r\nhello\r\nworld\r\n");
        assert_cuts(Split::Mset, b"$0\r\n\r\n$0\r\n\r\n");
        let long = [&b"$120\r\n"[..], &[b'k'; 120], b"\r\n"].concat();
        assert_cuts(Split::Sum, &long);
    }

    #[test]
    fn the_front_of_a_pair_tells_where_its_value_is() {
        let NextKey::Partial { need, value } = next_key(Split::Mset, b"$3\r\nkey\r\n$1000\r\nabc")
        else {
            panic!("the value is not whole");
        };
        assert_eq!(need, 16 + 1002);
        let front = value.unwrap();
        assert_eq!((front.key, front.bytes), ((4, 7), 16));
    }

    #[test]
    fn what_is_no_bulk_is_refused_at_its_first_wrong_byte() {
        for (split, wire) in [
            (Split::Sum, &b":3\r\n"[..]),
            (Split::Sum, b"$x"),
            (Split::Sum, b"$-1\r\n"),
            (Split::Sum, b"$3\r\nkeyX"),
            (Split::Sum, b"$3\r\nkey\rX"),
            (Split::Mset, b"$3\r\nkey\r\n*"),
            (Split::Mset, b"$3\r\nkey\r\n$1\r\nvv"),
        ] {
            assert!(
                matches!(next_key(split, wire), NextKey::Refused(_)),
                "{wire:?}"
            );
        }
    }

    #[test]
    fn the_front_of_a_divided_request_is_known_once_its_name_is() {
        let front = |wire: &[u8]| {
            let mut resume = Resume::default();
            let parsed = parse_request(Protocol::Redis, wire, &mut resume);
            assert!(!matches!(parsed, Parsed::Whole(_)));
            resume.divided()
        };
        let mset = front(b"*5\r\n$4\r\nMset\r\n$1\r\na\r\n$900\r\n").unwrap();
        assert_eq!(
            (mset.split, mset.keys, mset.prefix),
            (Split::Mset, 2, 4..14)
        );
        let del = front(b"*1000\r\n$3\r\ndel\r\n$7").unwrap();
        assert_eq!((del.split, del.keys, del.prefix), (Split::Sum, 999, 7..16));
        // One key alone is passed on; other commands are not divided.
        assert_eq!(front(b"*2\r\n$3\r\nDEL\r\n$7"), None);
        assert_eq!(front(b"*3\r\n$4\r\nMSET\r\n$1\r\na\r\n$9"), None);
        assert_eq!(front(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$9"), None);
        assert_eq!(front(b"*3\r\n$3\r\nDE"), None);
    }
}
