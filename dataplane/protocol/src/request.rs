//! What a request is, whatever its protocol.

use std::ops::Range;

use crate::memcached::binary::{BinaryHead, BinaryStatus};
use crate::reply::ReplyShape;
use crate::rest::RequestRest;

/// The protocol spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// memcached text, meta commands included.
    Memcached,
    /// memcached binary.
    MemcachedBinary,
    /// Redis RESP2 and RESP3, which requests do not differ in.
    Redis,
}

/// How a request finds its servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// To the server that owns `Request::key`.
    Key,
    /// The same for a key that is written in base64: see [`crate::decode_key`].
    Base64Key,
    /// Several keys which all have to belong to one server: [`Request::keys`] lists them, `Request::key` is the first.
    Together,
    /// Several keys, perhaps on several servers: see [`Split`].
    Split(Split),
    /// To any server.
    #[default]
    Any,
    /// To the first server that there is: a script without keys, which should find what the one before it left.
    First,
    /// Answered by the proxy.
    Local(Local),
    /// The same bytes to every server of the pool, the replies joined: see [`Merge`].
    Broadcast(Merge),
    /// Redis SCAN: the cursor walks over all servers.
    Scan,
    /// Redis PUBLISH and PUBSUB: to the server that serves the pool's channels.
    Channel,
    /// Needs, opens or ends a server connection of the client's own: see [`Pin`].
    Pinned(Pin),
}

/// How the replies of all servers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// +OK if all said so, else the first error: FLUSHALL.
    Ok,
    /// Integers are added: DBSIZE.
    Sum,
    /// Arrays, one after the other: KEYS.
    Keys,
    /// The first reply, if none is an error: SCRIPT LOAD.
    Same,
    /// Arrays of integers, the least of each place: SCRIPT EXISTS.
    AllOf,
    /// RANDOMKEY.
    Random,
    /// INFO.
    Info,
    /// memcached flush_all, verbosity and cache_memlimit: `OK` if all said so, else the first other line.
    FlushAll,
    /// memcached stats: counts are added.
    Stats,
    /// memcached binary flush: an empty frame if all went well, else the first error.
    BinaryFlush,
    /// memcached binary stat: a frame for each statistic, then an empty one.
    BinaryStats,
}

/// What a request has to do with a server connection of the client's own. [`Request::keys`] lists the keys of those that have some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// MULTI begins a transaction.
    Multi,
    /// EXEC ends it.
    Exec,
    /// DISCARD gives it up.
    Discard,
    /// WATCH: the keys belong to one server, or the transaction cannot.
    Watch,
    /// UNWATCH.
    Unwatch,
    /// A command that may wait: BLPOP, XREAD with BLOCK, WAIT. With keys, unless it is WAIT or WAITAOF.
    Blocking,
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// PSUBSCRIBE.
    Psubscribe,
    /// PUNSUBSCRIBE.
    Punsubscribe,
    /// SSUBSCRIBE: the channels are keys.
    Ssubscribe,
    /// SUNSUBSCRIBE: the channels, if there are any, are keys.
    Sunsubscribe,
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
    /// Redis ECHO: its message is the argument behind the name, see [`Request::arguments`].
    Echo,
    /// Redis TIME.
    Time,
    /// Redis HELLO.
    Hello,
    /// Redis RESET.
    Reset,
    /// Redis CONFIG GET.
    ConfigGet,
    /// Redis CLIENT ID.
    ClientId,
    /// Redis CLIENT SETNAME.
    ClientSetname,
    /// Redis CLIENT GETNAME.
    ClientGetname,
    /// Redis CLIENT SETINFO.
    ClientSetinfo,
    /// Redis CLIENT REPLY.
    ClientReply,
    /// Redis CLIENT INFO.
    ClientInfo,
    /// Redis CLIENT LIST.
    ClientList,
    /// Redis CLIENT NO-EVICT.
    ClientNoEvict,
    /// Redis CLIENT NO-TOUCH.
    ClientNoTouch,
    /// memcached version.
    Version,
    /// memcached mn: `MN`, once everything before it is answered.
    MetaNoop,
    /// memcached binary noop: the same as a frame.
    BinaryNoop,
    /// memcached binary quit and quitq: close after everything owed was sent, quit after its own reply.
    BinaryQuit,
    /// memcached binary: which mechanisms of SASL there are.
    SaslMechanisms,
    /// memcached binary: `Request::key` is the mechanism, and what follows it are the credentials.
    SaslAuth,
    /// memcached binary: a further step of a mechanism that has several.
    SaslStep,
}

/// One parsed request. Ranges count from the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Lower-case name, for statistics and logs. That of a subcommand of Redis has its container's in front: `config|get`.
    pub name: &'static str,
    /// Where it goes.
    pub route: Route,
    /// Redis: number of arguments with the name. memcached: number of keys.
    pub argc: u32,
    /// The key that routes it (of a split request: the first). Empty for a route without one.
    pub key: Range<usize>,
    /// What every part of a split request starts with. memcached: from the name to the first key, the blank before it
    /// included (`get `, `gat 30 `). Redis: the name's wire form (`$4`, CR LF, `MGET`, CR LF), of a subcommand its container's.
    pub prefix: Range<usize>,
    /// Bytes of the request that are in the buffer: all of them for [`Parsed::Whole`].
    pub bytes: usize,
    /// memcached `noreply`: the range to leave out when the request is passed on (leading space included), so that the
    /// server always replies and replies stay in step. The proxy drops the reply. Of a meta command the flag `q`, which is
    /// left out as well; whether the reply is dropped then depends on what it is: see [`Request::is_silent`].
    pub noreply: Option<Range<usize>>,
    /// How the server's reply is measured.
    pub reply: ReplyShape,
}

impl Request {
    /// The client wants no reply, whatever it is.
    #[inline]
    pub fn is_silent(&self) -> bool {
        self.noreply.is_some() && !matches!(self.reply, ReplyShape::Meta(_))
    }
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
    pub(crate) key_start: u32,
    pub(crate) key_end: u32,
    pub(crate) name_start: u32,
    /// Redis: index into the table of rows.
    pub(crate) command: u16,
    /// Redis: where it goes, as far as that is known.
    pub(crate) route: Route,
    /// Redis: arguments up to the one that is sought, that one included. 0: none is.
    pub(crate) until: u8,
    /// Redis: what that argument is.
    pub(crate) sought: Sought,
}

/// The argument on which it depends how a Redis request is looked at further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sought {
    /// The key, or the first one.
    #[default]
    Key,
    /// The name of a subcommand.
    Subcommand,
    /// The count of the keys that follow.
    Count,
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
    /// Send a frame of the binary protocol: this status, and its text, in answer to this request.
    Binary(BinaryHead, BinaryStatus),
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
    /// Its route is known and it goes to one server (`Route::Key`, `Route::Any` or `Route::First`), but its end is not here. It can be passed on from here:
    /// the first `request.bytes` bytes, then what `rest` measures. Or look again with `need` bytes.
    Head {
        /// `bytes` covers what was measured so far.
        request: Request,
        /// Measures what follows `request.bytes`.
        rest: RequestRest,
        /// At least this many bytes make up the whole request.
        need: usize,
    },
    /// An inline command of Redis, whole. [`crate::write_inline`] makes the array of it which is to be looked at in its place.
    Inline {
        /// Bytes of the line, its end included.
        bytes: usize,
        /// Bytes of the array.
        wire_bytes: usize,
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
        Protocol::MemcachedBinary => crate::memcached::binary::request::parse(buf),
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
        Protocol::MemcachedBinary => Parsed::Refused(Refusal::SILENT),
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
