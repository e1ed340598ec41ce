//! Measuring the part of a request that follows its front.

use crate::request::Refusal;
use crate::resp::{self, BulkHeader};

/// Longest piece of a request that [`RequestRest::measure`] has to see whole: a bulk header such as `$536870912` with its line
/// end. With this many bytes in the buffer it always makes progress.
pub const REQUEST_TOKEN_BYTES_MAX: usize = 32;

/// What the last two bytes of a counted body are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ends {
    /// CR LF, after a RESP bulk.
    #[default]
    Bulk,
    /// CR LF, after a memcached data block.
    Block,
    /// Anything: the body is skipped.
    Any,
}

/// The rest of a request of which the front was parsed: measures the bytes that follow without keeping them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestRest {
    /// RESP bulks of which not even the header was measured.
    pub(crate) args_left: u32,
    /// Bytes left of the body that was begun, its line end included.
    pub(crate) body_left: u32,
    pub(crate) ends: Ends,
}

/// What [`RequestRest::measure`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestScan {
    /// Bytes from the front of the slice that belong to the request. Fewer than the slice holds when the request ends there, or
    /// when a token at its end is not whole.
    pub bytes: usize,
    /// The request ends after them.
    pub done: bool,
}

impl RequestRest {
    /// Nothing follows.
    pub(crate) const NOTHING: Self = Self {
        args_left: 0,
        body_left: 0,
        ends: Ends::Any,
    };

    /// `args_left` bulks follow.
    #[inline]
    pub(crate) fn bulks(args_left: u32) -> Self {
        Self {
            args_left,
            body_left: 0,
            ends: Ends::Bulk,
        }
    }

    /// Nothing of the request is left.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.args_left == 0 && self.body_left == 0
    }

    /// At least this many bytes are left.
    #[inline]
    pub(crate) fn bytes_min(&self) -> usize {
        self.body_left as usize + self.args_left as usize * resp::BULK_BYTES_MIN
    }

    /// Measures how much of `buf` belongs to the request, and moves on by that much: the next call starts behind it.
    ///
    /// It stops before a token that is not whole in `buf`, which is at most [`REQUEST_TOKEN_BYTES_MAX`] long. The bytes of a bulk
    /// are not looked at, except for its line end. Offsets in a refusal's text count from the front of `buf`; a request that was
    /// passed on in part cannot be taken back, so its refusals end the connection on both sides.
    pub fn measure(&mut self, buf: &[u8]) -> Result<RestScan, Refusal> {
        let mut at = 0;
        loop {
            if self.body_left > 0 {
                at = self.measure_body(buf, at)?;
                if self.body_left > 0 {
                    return Ok(RestScan {
                        bytes: at,
                        done: false,
                    });
                }
            }
            if self.args_left == 0 {
                return Ok(RestScan {
                    bytes: at,
                    done: true,
                });
            }
            match resp::bulk_header(buf, at) {
                BulkHeader::Incomplete => {
                    return Ok(RestScan {
                        bytes: at,
                        done: false,
                    });
                }
                BulkHeader::Bad => return Err(resp::bulk_fault(buf, at)),
                BulkHeader::Bulk { start, bytes } => {
                    self.args_left -= 1;
                    self.body_left = bytes + 2;
                    at = start;
                }
            }
        }
    }

    /// Moves over the begun body from `at` and returns where it stopped.
    #[inline]
    fn measure_body(&mut self, buf: &[u8], mut at: usize) -> Result<usize, Refusal> {
        let here = (buf.len() - at).min(self.body_left as usize);
        if self.ends == Ends::Any {
            self.body_left -= here as u32;
            return Ok(at + here);
        }
        let end = at + here;
        let content = (self.body_left as usize).saturating_sub(2).min(here);
        at += content;
        self.body_left -= content as u32;
        while at < end {
            let wanted = if self.body_left == 2 { b'\r' } else { b'\n' };
            if buf[at] != wanted {
                return Err(match self.ends {
                    Ends::Block => crate::memcached::BAD_DATA_CHUNK_PASSED_ON,
                    Ends::Bulk | Ends::Any => resp::BAD_BULK_END,
                });
            }
            at += 1;
            self.body_left -= 1;
        }
        Ok(at)
    }
}
