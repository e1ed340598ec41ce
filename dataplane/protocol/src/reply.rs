//! Measuring replies.

use crate::memcached::binary::{BinaryHead, reply::scan_frame};
use crate::memcached::meta::{Quiet, reply::scan_meta};
use crate::memcached::reply::scan_values;
use crate::memcached::stats::scan_stats;
use crate::resp::reply::scan_resp;
use crate::scan::find_byte;

/// The form of the reply that a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyShape {
    /// One value of RESP2 or RESP3, with everything in it and the attributes in front of it.
    Resp,
    /// One memcached line.
    Line,
    /// memcached VALUE blocks up to END, or one error line.
    Values,
    /// memcached STAT lines up to END, or one line: an error, RESET or OK.
    Stats,
    /// One reply to a memcached meta command: `VA` with a data block, or one line.
    Meta(Quiet),
    /// One binary frame, or all those of statistics, in answer to this request.
    Binary(BinaryHead),
}

// Every request on a server connection has one.
const _: () = assert!(size_of::<ReplyShape>() <= 8);

impl ReplyShape {
    /// Whether the reply is changed on its way, or its client may not want it, which the first bytes of it tell.
    #[inline]
    pub fn is_changed(self) -> bool {
        match self {
            Self::Resp | Self::Line | Self::Values | Self::Stats => false,
            Self::Meta(quiet) => quiet != Quiet::No,
            Self::Binary(_) => true,
        }
    }

    /// Whether a quiet client does not want the reply to a meta command that starts with these two bytes.
    pub fn hides(self, code: [u8; 2]) -> bool {
        matches!(self, Self::Meta(quiet) if quiet.hides(code))
    }
}

/// Longest piece of a reply that [`ReplyScanner::scan`] has to see whole: a VALUE line with the longest key is about 320 bytes long. With
/// this many bytes in the buffer it always makes progress.
pub const REPLY_TOKEN_BYTES_MAX: usize = 512;

/// Longest line of a reply. Servers write error texts of a few hundred bytes; a line that goes on so long is not from a
/// cache server, and its end would never be found.
pub const REPLY_LINE_BYTES_MAX: usize = 64 * 1024;

/// The reply to nearly every storage command.
const STORED: &[u8] = b"STORED\r\n";

/// Why a server's bytes are not a reply. After any of these the connection has to be closed: where the next reply
/// starts is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A reply cannot start like this.
    #[error(
        "the server's reply starts with byte {0:#04x}: check that the pool's protocol is the server's"
    )]
    UnexpectedByte(u8),
    /// A length or a count that is none.
    #[error("the server's reply has a malformed length")]
    BadLength,
    /// A line that is none of those that the protocol has here.
    #[error(
        "the server's reply has a malformed line: check that the pool's protocol is the server's"
    )]
    BadLine,
    /// A line without end.
    #[error("a line of the server's reply is longer than {REPLY_LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// Counted bytes are not followed by CR LF.
    #[error("the server's reply has data that is not followed by a line end")]
    BadDataEnd,
    /// Arrays in arrays, or maps or sets, without a value among them.
    #[error("the server's reply has more than {ARRAYS_IN_A_ROW_MAX} arrays inside each other")]
    TooDeep,
    /// A binary reply with the opcode or the opaque of another request.
    #[error("the server's reply belongs to another request")]
    WrongRequest,
}

/// Headers of arrays, maps, sets and attributes that may follow each other without another value between them. Redis nests a handful; a reply that only ever
/// opens arrays would never end and hold its connection for ever.
pub const ARRAYS_IN_A_ROW_MAX: u8 = 32;

/// What [`ReplyScanner::scan`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyScan {
    /// Bytes from the front of the slice that belong to the reply and can be passed on. Fewer than the slice holds when
    /// the reply ends there, or when a token at its end is not whole.
    pub bytes: usize,
    /// The reply ends after them.
    pub done: bool,
}

/// Measures one reply over as many slices as it comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyScanner {
    shape: ReplyShape,
    pub(crate) error: bool,
    pub(crate) server_failure: bool,
    pub(crate) push: bool,
    /// The first value was begun.
    pub(crate) begun: bool,
    /// Array headers since the last other value.
    pub(crate) arrays_in_a_row: u8,
    /// Bytes passed of a line that goes on.
    line_passed: u32,
    /// Values that were not begun: elements of nested arrays are simply counted together.
    pub(crate) values_left: u64,
    /// Bytes left of the data that was begun, its line end included.
    pub(crate) data_left: u64,
    /// The opaque of a binary reply.
    pub(crate) opaque: u32,
}

impl ReplyScanner {
    /// A scanner at the start of a reply.
    #[inline]
    pub fn new(shape: ReplyShape) -> Self {
        Self {
            shape,
            error: false,
            server_failure: false,
            push: false,
            begun: false,
            arrays_in_a_row: 0,
            line_passed: 0,
            values_left: 1,
            data_left: 0,
            opaque: 0,
        }
    }

    /// The same for a binary reply to the request that was sent with this opaque.
    #[must_use]
    pub fn expecting(self, opaque: u32) -> Self {
        Self { opaque, ..self }
    }

    /// A scanner of `count` RESP values in a row: the elements of an array whose header was read already.
    pub fn elements(count: u64) -> Self {
        Self {
            begun: true,
            values_left: count,
            ..Self::new(ReplyShape::Resp)
        }
    }

    /// Measures how much of `buf` belongs to the reply, and moves on by that much: the next call starts behind it.
    ///
    /// It stops before a token that is not whole in `buf`, which is at most [`REPLY_TOKEN_BYTES_MAX`] long; longer
    /// lines are passed on in pieces. The bytes of data are not looked at, except for the line end behind them.
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
        match self.shape {
            ReplyShape::Resp => scan_resp(self, buf),
            ReplyShape::Values => scan_values(self, buf),
            ReplyShape::Line => self.scan_single_line(buf),
            ReplyShape::Meta(_) => scan_meta(self, buf),
            ReplyShape::Binary(head) => scan_frame(self, head, buf),
            ReplyShape::Stats => scan_stats(self, buf),
        }
    }

    /// The reply is an error of the protocol: RESP `-` or `!`, memcached `ERROR`, `CLIENT_ERROR` or `SERVER_ERROR`, a binary status
    /// that blames the request or the server. Known once the first
    /// line was passed on; of VALUE blocks an error line may be the end.
    #[inline]
    pub fn is_error(&self) -> bool {
        self.error
    }

    /// The reply is one of the Redis errors that tell that the server cannot serve: `-OOM`, `-BUSY`, `-LOADING`.
    #[inline]
    pub fn redis_server_failure(&self) -> bool {
        self.server_failure
    }

    /// It is no reply to a request but a push of RESP3, which a server may send at any time. Known with the first bytes.
    #[inline]
    pub fn is_push(&self) -> bool {
        self.push
    }

    /// The reply was measured to its end.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.values_left == 0 && self.data_left == 0 && self.line_passed == 0
    }

    #[inline]
    fn scan_single_line(&mut self, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
        if !self.begun && buf.starts_with(STORED) {
            self.begun = true;
            self.values_left = 0;
            return Ok(ReplyScan {
                bytes: STORED.len(),
                done: true,
            });
        }
        self.scan_any_line(buf)
    }

    pub(crate) fn scan_any_line(&mut self, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
        if self.values_left == 0 && self.line_passed == 0 {
            return Ok(ReplyScan {
                bytes: 0,
                done: true,
            });
        }
        if !self.begun {
            match buf.first() {
                None => {
                    return Ok(ReplyScan {
                        bytes: 0,
                        done: false,
                    });
                }
                Some(byte) if byte.is_ascii_alphanumeric() => {}
                Some(&byte) => return Err(ReplyError::UnexpectedByte(byte)),
            }
        }
        let at = self.scan_line(buf, 0)?;
        if at > 0 && !self.begun {
            self.begun = true;
            self.error = crate::memcached::reply::is_error(buf);
        }
        let done = self.line_passed == 0 && at > 0;
        if done {
            self.values_left = 0;
        }
        Ok(ReplyScan { bytes: at, done })
    }

    /// A line was begun and its end did not come yet.
    #[inline]
    pub(crate) fn is_within_line(&self) -> bool {
        self.line_passed > 0
    }

    /// Moves over the line at `at`, or over what is left of it, and returns where that stopped: `at` itself when
    /// the line should be whole first.
    pub(crate) fn scan_line(&mut self, buf: &[u8], at: usize) -> Result<usize, ReplyError> {
        let passed = self.line_passed as usize;
        let found = find_byte(buf, at, b'\n');
        let here = found.map_or(buf.len(), |end| end + 1) - at;
        if passed + here > REPLY_LINE_BYTES_MAX {
            return Err(ReplyError::LineTooLong);
        }
        match found {
            Some(end) if end > at && buf[end - 1] == b'\r' => {
                self.line_passed = 0;
                Ok(end + 1)
            }
            Some(_) => Err(ReplyError::BadLine),
            // The last byte stays: it may be the CR of the line's end.
            None if passed + here > REPLY_TOKEN_BYTES_MAX => {
                let taken = here.saturating_sub(1);
                self.line_passed += taken as u32;
                Ok(at + taken)
            }
            None => Ok(at),
        }
    }

    /// Moves over the begun data at `at` and returns where that stopped.
    #[inline]
    pub(crate) fn scan_data(&mut self, buf: &[u8], mut at: usize) -> Result<usize, ReplyError> {
        let end = at + (self.data_left.min((buf.len() - at) as u64)) as usize;
        let content = self.data_left.saturating_sub(2).min((end - at) as u64);
        at += content as usize;
        self.data_left -= content;
        while at < end {
            let wanted = if self.data_left == 2 { b'\r' } else { b'\n' };
            if buf[at] != wanted {
                return Err(ReplyError::BadDataEnd);
            }
            at += 1;
            self.data_left -= 1;
        }
        Ok(at)
    }
}
