//! Taking a request apart: its keys, its arguments.

use std::ops::Range;

use crate::request::{Request, Route, Split};
use crate::resp::{self, BulkHeader, Place, bulk_header};
use crate::scan::token_end;

/// One key of a request. Ranges count from the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPart {
    /// The key, which chooses the server.
    pub key: Range<usize>,
    /// What to copy into that server's part of a split request: memcached the key; Redis the key with its header and line end, MSET its
    /// value as well.
    pub wire: Range<usize>,
}

/// The keys of a request, in order.
#[derive(Clone, Debug)]
pub struct KeyIter<'a> {
    buf: &'a [u8],
    at: usize,
    /// Keys that were not returned yet, without the one that stands apart.
    left: u32,
    apart: Option<Range<usize>>,
    kind: Kind,
}

/// What a key's wire form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// memcached: a word.
    Word,
    /// Redis: so many bulks, of which the first is the key.
    Bulks(u32),
}

impl Request {
    /// The keys of this request, which [`crate::Parsed::Whole`] returned for the front of `buf`: of one that is split
    /// ([`Route::Split`]), that goes to one server with all its keys ([`Route::Together`]), or to a connection of its own
    /// ([`Route::Pinned`]). Any other has none: its only routing key is `key`.
    pub fn keys<'a>(&self, buf: &'a [u8]) -> KeyIter<'a> {
        let (kind, left) = match self.route {
            Route::Split(Split::MemcachedGet) => (Kind::Word, self.argc),
            Route::Split(Split::Mset) => (Kind::Bulks(2), (self.argc - 1) / 2),
            Route::Split(_) => (Kind::Bulks(1), self.argc - 1),
            Route::Together | Route::Pinned(_) => {
                return self.keys_at(resp::keys_of(self, buf), buf);
            }
            _ => (Kind::Word, 0),
        };
        KeyIter {
            buf: buf.get(..self.bytes).unwrap_or(buf),
            at: self.prefix.end,
            left,
            apart: None,
            kind,
        }
    }

    /// The keys of this Redis request at `place`.
    pub(crate) fn keys_at<'a>(&self, place: Place, buf: &'a [u8]) -> KeyIter<'a> {
        KeyIter {
            buf: buf.get(..self.bytes).unwrap_or(buf),
            at: place.at,
            left: place.count,
            apart: place.apart,
            kind: Kind::Bulks(place.step),
        }
    }

    /// The arguments of this Redis request, which [`crate::Parsed::Whole`] returned for the front of `buf`: the name, or the
    /// container's, first.
    pub fn arguments<'a>(&self, buf: &'a [u8]) -> Arguments<'a> {
        Arguments {
            buf: buf.get(..self.bytes).unwrap_or(buf),
            at: self.prefix.start,
            left: self.argc,
        }
    }
}

/// The arguments of a Redis request, in order. Ranges count from the front of the buffer.
#[derive(Clone, Debug)]
pub struct Arguments<'a> {
    buf: &'a [u8],
    /// Where the next one starts, its header included.
    pub(crate) at: usize,
    /// How many were not returned yet.
    pub(crate) left: u32,
}

impl<'a> Arguments<'a> {
    /// Leaves out the next `count`, as far as there are so many.
    pub(crate) fn pass(&mut self, count: u32) {
        for _ in 0..count {
            self.next();
        }
    }

    /// The content of the next.
    pub(crate) fn word(&mut self) -> Option<&'a [u8]> {
        let buf = self.buf;
        self.next().and_then(|range| buf.get(range))
    }
}

impl Iterator for Arguments<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        next_bulk(self.buf, &mut self.at)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

/// The word at `at` or behind the blanks there.
fn next_word(buf: &[u8], at: &mut usize) -> Range<usize> {
    while buf.get(*at) == Some(&b' ') {
        *at += 1;
    }
    let word = *at..token_end(buf, *at);
    *at = word.end;
    word
}

/// The content of the bulk at `at`, which moves behind its line end.
fn next_bulk(buf: &[u8], at: &mut usize) -> Option<Range<usize>> {
    let BulkHeader::Bulk { start, bytes } = bulk_header(buf, *at) else {
        return None;
    };
    let end = start + bytes as usize;
    *at = end + 2;
    (*at <= buf.len()).then_some(start..end)
}

impl Iterator for KeyIter<'_> {
    type Item = KeyPart;

    #[inline]
    fn next(&mut self) -> Option<KeyPart> {
        if let Some(key) = self.apart.take() {
            return Some(KeyPart {
                wire: key.clone(),
                key,
            });
        }
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let Kind::Bulks(bulks) = self.kind else {
            let key = next_word(self.buf, &mut self.at);
            return Some(KeyPart {
                wire: key.clone(),
                key,
            });
        };
        let wire_start = self.at;
        let key = next_bulk(self.buf, &mut self.at)?;
        for _ in 1..bulks {
            next_bulk(self.buf, &mut self.at)?;
        }
        Some(KeyPart {
            key,
            wire: wire_start..self.at,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left as usize + usize::from(self.apart.is_some());
        (left, Some(left))
    }
}
