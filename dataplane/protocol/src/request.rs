//! What a request is, whatever its protocol.

use std::ops::Range;

use crate::reply::ReplyShape;
use crate::rest::RequestRest;

/// The protocol spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// memcached text.
    Memcached,
    /// Redis RESP2.
    Redis,
}

/// How a request finds its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the server that owns `Request::key`.
    Key,
    /// Several keys, perhaps on several servers: see [`Split`].
    Split(Split),
    /// To any server.
    Any,
    /// Answered by the proxy.
    Local(Local),
}

/// How the keys of a request are spread and its replies joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// memcached get, gets, gat, gats: VALUE blocks in request order, then END. A part is `Request::prefix`, keys with blanks
    /// between them, CR LF.
    MemcachedGet,
    /// Redis MGET: one array in request order. A part of this and of the other Redis splits is `*n`, CR LF, `Request::prefix`,
    /// the wire forms of its keys; `n` counts the name as well.
    Mget,
    /// Redis MSET: key/value pairs, +OK once all servers said so.
    Mset,
    /// Redis DEL, UNLINK, TOUCH, EXISTS: the integers are added.
    Sum,
}

/// What the proxy answers by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// Redis PING without or with a message (then `Request::key` is the message: reply `$n` bulk).
    Ping,
    /// Close after everything owed was sent; Redis says +OK first, memcached nothing.
    Quit,
    /// Redis AUTH: `Request::key` is the password; a second argument makes it `AUTH user password` (`Request::argc` 3, key is the last argument).
    Auth,
    /// Redis SELECT: `Request::key` is the database.
    Select,
    /// Redis COMMAND and its subcommands.
    Command,
    /// memcached version.
    Version,
    /// memcached verbosity: OK, unless `Request::noreply` is there. Not used for unknown commands.
    Ok,
}

/// One parsed request. Ranges count from the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Lower-case name, for statistics and logs.
    pub name: &'static str,
    /// Where it goes.
    pub route: Route,
    /// Redis: number of arguments with the name. memcached: number of keys.
    pub argc: u32,
    /// The key that routes it (of a split request: the first). Empty for a route without one.
    pub key: Range<usize>,
    /// What every part of a split request starts with. memcached: from the name to the first key, the blank before it
    /// included (`get `, `gat 30 `). Redis: the name's wire form (`$4`, CR LF, `MGET`, CR LF).
    pub prefix: Range<usize>,
    /// Bytes of the request that are in the buffer: all of them for [`Parsed::Whole`].
    pub bytes: usize,
    /// memcached `noreply`: the range to leave out when the request is passed on (leading space included), so that the
    /// server always replies and replies stay in step. The proxy drops the reply.
    pub noreply: Option<Range<usize>>,
    /// How the server's reply is measured.
    pub reply: ReplyShape,
}

/// Where an unfinished request stands, so that the next look goes on there. `Default` is the start of a request.
///
/// Valid as long as the front of the buffer is the same request. The parser puts it back to the start with [`Parsed::Whole`],
/// [`Parsed::Skip`] and [`Parsed::Refused`]; a caller that takes a [`Parsed::Head`] does so itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The position up to which the request was looked at.
    pub(crate) at: u32,
    /// Redis: what follows `at`.
    pub(crate) rest: RequestRest,
    /// Redis: arguments with the name. 0 until the name was looked up.
    pub(crate) argc: u32,
    /// Redis: arguments before the key that were not looked at yet, the key included. 0 once it is known.
    pub(crate) until_key: u32,
    pub(crate) key_start: u32,
    pub(crate) key_end: u32,
    pub(crate) name_start: u32,
    /// Redis: index into the command table.
    pub(crate) command: u16,
}

impl Resume {
    /// How to leave out a request that was looked at in part and will not be taken: so many bytes from its front, then what
    /// the rest measures. `None`: its length is not known, as that of a line without its end.
    pub fn skip(&self) -> Option<(usize, RequestRest)> {
        (self.argc > 0).then_some((self.at as usize, self.rest))
    }
}

// Every client connection holds one.
const _: () = assert!(size_of::<Resume>() <= 40);

/// A request that cannot be taken. What the client gets, and how the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The whole reply, line end included: in the protocol's own form. Empty when the client wants none (memcached `noreply`).
    pub reply: RefusalText,
    /// How the stream goes on.
    pub recovery: Recovery,
}

/// Text of a refusal: a constant, or a constant around the command's name taken from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalText {
    /// Send as it is.
    Constant(&'static str),
    /// Send `before`, then the bytes `name_start .. name_start + name_bytes` of the buffer with bytes outside printable ASCII replaced by `?`, then `after`.
    Named {
        /// Text before the name.
        before: &'static str,
        /// Where the name starts.
        name_start: u32,
        /// How many bytes of it are shown, at most 128.
        name_bytes: u32,
        /// Text after the name.
        after: &'static str,
    },
}

/// How a stream goes on after a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// Drop this many bytes from the front of the buffer, then measure away `rest`; the next request follows.
    Skip {
        /// Bytes in the buffer.
        bytes: usize,
        /// What has not arrived.
        rest: RequestRest,
    },
    /// The end of the request cannot be known: reply, then close.
    Close,
}

/// What stands at the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not decidable. The buffer has to hold at least `need` bytes (more than it does) before another look is of use.
    Incomplete {
        /// Bytes from the front of the buffer.
        need: usize,
    },
    /// All of it.
    Whole(Request),
    /// Its route is known and it goes to one server (`Route::Key` or `Route::Any`), but its end is not here. It can be passed on from here:
    /// the first `request.bytes` bytes, then what `rest` measures. Or look again with `need` bytes.
    Head {
        /// `bytes` covers what was measured so far.
        request: Request,
        /// Measures what follows `request.bytes`.
        rest: RequestRest,
        /// At least this many bytes make up the whole request.
        need: usize,
    },
    /// Bytes that ask for nothing, such as the empty array of Redis: drop them and look again. There is no reply.
    Skip {
        /// Bytes from the front of the buffer.
        bytes: usize,
    },
    /// It cannot be taken.
    Refused(Refusal),
}

/// Looks at the front of `buf`, which holds what is contiguous at the front of a client's receive buffer.
///
/// `resume` remembers how far earlier looks at the same request came, so that all looks together are linear in its bytes. A
/// caller that waits for `need` bytes before it looks again has at most a few looks per request.
#[inline]
pub fn parse_request(protocol: Protocol, buf: &[u8], resume: &mut Resume) -> Parsed {
    match protocol {
        Protocol::Redis => crate::resp::parse(buf, resume),
        Protocol::Memcached => crate::memcached::parse(buf, resume),
    }
}

/// The same for a client of twemproxy: what that proxy does not take is refused without a reply, and its connection is to be closed.
///
/// Its commands and their numbers of arguments are those of twemproxy 0.5, and so is the argument by which each finds its server. A
/// request that is taken here is framed as [`parse_request`] frames it, so it is as safe to pass on.
#[inline]
pub fn parse_request_as_twemproxy(protocol: Protocol, buf: &[u8], resume: &mut Resume) -> Parsed {
    let parsed = match protocol {
        Protocol::Redis => crate::resp::parse_as_twemproxy(buf, resume),
        Protocol::Memcached => crate::memcached::twemproxy::parse(buf, resume),
    };
    match parsed {
        Parsed::Refused(_) | Parsed::Skip { .. } => {
            *resume = Resume::default();
            Parsed::Refused(Refusal::SILENT)
        }
        taken => taken,
    }
}

/// A request that needs more bytes; `at_least` is a lower bound of its length.
pub(crate) fn incomplete(buf: &[u8], at_least: usize) -> Parsed {
    Parsed::Incomplete {
        need: at_least.max(buf.len() + 1),
    }
}

impl Refusal {
    /// A refusal without a reply, after which the connection is closed.
    pub const SILENT: Self = Self::close("");

    /// A refusal of which the end of the request is unknown.
    pub(crate) const fn close(reply: &'static str) -> Self {
        Self {
            reply: RefusalText::Constant(reply),
            recovery: Recovery::Close,
        }
    }

    /// A refusal of the first `bytes` bytes.
    pub(crate) const fn skip(reply: &'static str, bytes: usize) -> Self {
        Self {
            reply: RefusalText::Constant(reply),
            recovery: Recovery::Skip {
                bytes,
                rest: RequestRest::NOTHING,
            },
        }
    }

    /// The same refusal when its offsets count from `by` bytes further ahead.
    pub(crate) fn shifted(mut self, by: usize) -> Self {
        if let RefusalText::Named { name_start, .. } = &mut self.reply {
            *name_start += by as u32;
        }
        self
    }
}
