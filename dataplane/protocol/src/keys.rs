//! Taking a request with several keys apart.

use std::ops::Range;

use crate::request::{Request, Route, Split};
use crate::resp::{BulkHeader, bulk_header};
use crate::scan::token_end;

/// One key of a split request. Ranges count from the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPart {
    /// The key, which chooses the server.
    pub key: Range<usize>,
    /// What to copy into that server's part: memcached the key; Redis the key with its header and line end, MSET its value as well.
    pub wire: Range<usize>,
}

/// The keys of a split request, in order.
#[derive(Clone, Debug)]
pub struct KeyIter<'a> {
    buf: &'a [u8],
    at: usize,
    /// Keys that were not returned yet.
    left: u32,
    split: Split,
}

impl Request {
    /// The keys of this request, which [`crate::Parsed::Whole`] returned for the front of `buf`. A request that is not split
    /// ([`Route::Split`]) has none: its only routing key is `key`.
    pub fn keys<'a>(&self, buf: &'a [u8]) -> KeyIter<'a> {
        let (split, left) = match self.route {
            Route::Split(Split::MemcachedGet) => (Split::MemcachedGet, self.argc),
            Route::Split(Split::Mset) => (Split::Mset, (self.argc - 1) / 2),
            Route::Split(split) => (split, self.argc - 1),
            Route::Key | Route::Any | Route::Local(_) => (Split::Sum, 0),
        };
        KeyIter {
            buf: buf.get(..self.bytes).unwrap_or(buf),
            at: self.prefix.end,
            left,
            split,
        }
    }
}

impl KeyIter<'_> {
    /// The content of the next bulk, and the position after its line end.
    fn bulk(&mut self) -> Option<Range<usize>> {
        let BulkHeader::Bulk { start, bytes } = bulk_header(self.buf, self.at) else {
            return None;
        };
        let end = start + bytes as usize;
        self.at = end + 2;
        (self.at <= self.buf.len()).then_some(start..end)
    }
}

impl Iterator for KeyIter<'_> {
    type Item = KeyPart;

    #[inline]
    fn next(&mut self) -> Option<KeyPart> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if self.split == Split::MemcachedGet {
            while self.buf.get(self.at) == Some(&b' ') {
                self.at += 1;
            }
            let key = self.at..token_end(self.buf, self.at);
            self.at = key.end;
            return Some(KeyPart {
                key: key.clone(),
                wire: key,
            });
        }
        let wire_start = self.at;
        let key = self.bulk()?;
        if self.split == Split::Mset {
            self.bulk()?;
        }
        Some(KeyPart {
            key,
            wire: wire_start..self.at,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}
