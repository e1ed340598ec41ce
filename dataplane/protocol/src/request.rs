//! What a request is, whatever its protocol.

use std::ops::Range;

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
    /// memcached get/gets: VALUE blocks in request order, then END.
    MemcachedGet,
    /// Redis MGET: one array in request order.
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
    /// memcached verbosity and the like: a constant reply line. Not used for unknown commands.
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
    /// The key that routes it (of a split request: the first).
    pub key: Range<usize>,
    /// Bytes of the request that are in the buffer: all of them for [`Parsed::Whole`].
    pub bytes: usize,
    /// memcached `noreply`: the range to leave out when the request is passed on (leading space included), so that the
    /// server always replies and replies stay in step. The proxy drops the reply.
    pub noreply: Option<Range<usize>>,
    /// How the server's reply is measured.
    pub reply: ReplyShape,
}

/// The rest of a request of which the front was parsed: measures the bytes that follow without keeping them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRest {
    pub(crate) args_left: u32,
    pub(crate) body_left: u64,
    // Filled out by the implementation.
}

/// Where an unfinished request stands, so that the next look goes on there. `Default` is the start of a request.
/// Valid as long as the front of the buffer is the same request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    // Filled out by the implementation. Small (at most 40 bytes): every client connection holds one.
}

/// A request that cannot be taken. What the client gets, and how the stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The whole reply, line end included: in the protocol's own form.
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
    /// It cannot be taken.
    Refused(Refusal),
}
