//! Why a request got no reply from its server, and what its client is told instead.

use tidegate_config::Protocol;

/// The reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server refused the connection.
    Refused,
    /// No reply, or no connection, within the pool's `timeout_ms`.
    TimedOut,
    /// The server reset the connection.
    Reset,
    /// The server closed the connection before it replied.
    Closed,
    /// No route, or no neighbour, on the way to the server.
    NoRoute,
    /// Every server of the pool is ejected.
    AllEjected,
    /// The server is ejected.
    Ejected,
    /// The server sent something that is not a reply.
    Garbage,
    /// The reply was too large to wait for its turn, or to be merged.
    OverHold,
    /// The reply could not wait for its turn: the memory for that was in use.
    HoldFull,
    /// The request, or a key of it, has to be held as a whole and is too large for that.
    RequestTooLarge,
    /// The rest of a request was malformed.
    Unfinished,
    /// The server refused our password.
    Unauthorized,
    /// The server does not know RESP3.
    NoResp3,
    /// The server refused the database.
    NoDatabase,
    /// The server met an error after which it may have dropped replies.
    OutOfStep,
    /// The server answered that it cannot serve. Counts as a failure with `compat = "twemproxy"` only.
    Failing,
    /// A server answered its part of a request with an error, which `compat = "twemproxy"` makes a general one.
    PartFailed,
    /// Every connection slot, source port or table entry that the request needs is taken for good.
    NoResource,
    /// As many clients as the pool allows have a server connection of their own.
    NoOwnConnection,
    /// The process has no file descriptor for another connection.
    NoDescriptor,
    /// The request needs more entries in the worker's tables than these have.
    NoEntries,
    /// The server was taken out of the configuration, and did not answer in time.
    Left,
    /// The keys of a command that waits belong to another server now.
    Moved,
}

macro_rules! texts {
    ($($fault:ident => $text:literal,)*) => {
        impl Fault {
            /// The whole reply line for the client, in its protocol's form.
            pub fn reply(self, protocol: Protocol) -> &'static str {
                match (self, protocol) {
                    $((Self::$fault, Protocol::Memcached) => concat!("SERVER_ERROR ", $text, "\r\n"),
                      (Self::$fault, Protocol::Redis) => concat!("-ERR ", $text, "\r\n"),)*
                }
            }

            /// The reason alone, for logs.
            pub fn text(self) -> &'static str {
                match self { $(Self::$fault => $text,)* }
            }
        }
    };
}

texts! {
    Refused => "Connection refused",
    TimedOut => "Connection timed out",
    Reset => "Connection reset by peer",
    Closed => "Connection closed by server",
    NoRoute => "No route to host",
    AllEjected => "No server available: all are ejected",
    Ejected => "Server is ejected after failures",
    Garbage => "Invalid reply from server",
    OverHold => "Reply too large to be held by the proxy (limit client_reply_hold_bytes)",
    HoldFull => "No room to hold the reply until its turn (limit reply_hold_bytes)",
    RequestTooLarge => "Request too large to be held by the proxy (limit request_hold_bytes)",
    Unfinished => "Malformed end of request",
    Unauthorized => "Server refused the proxy's password (setting server_auth)",
    NoResp3 => "Server refused RESP3 (HELLO 3)",
    NoDatabase => "Server refused to select the database (setting databases)",
    OutOfStep => "Reply may have been dropped by server after an internal error",
    Failing => "Server cannot serve (OOM, BUSY or LOADING)",
    PartFailed => "Server answered a part of the request with an error",
    NoResource => "Proxy is out of server connections (limit server_connections_max)",
    NoOwnConnection => "No server connection left for a client of its own (limit own_connections_max)",
    NoDescriptor => "Proxy is out of file descriptors (limit open files)",
    Left => "Server was taken out of the configuration",
    Moved => "Keys have another server by a new configuration: ask again",
    NoEntries => "Pool has more servers than the proxy can ask at once (limit requests_max)",
}

impl Fault {
    /// The same as [`Fault::reply`] in twemproxy's words, where it has its own: the system's texts for the errors of its sockets.
    pub fn reply_as_twemproxy(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::AllEjected, _) => Self::Refused.reply(protocol),
            (Self::Closed, Protocol::Memcached) => "SERVER_ERROR unknown\r\n",
            (Self::Closed, Protocol::Redis) => "-ERR unknown\r\n",
            (Self::Garbage | Self::Failing | Self::PartFailed, Protocol::Memcached) => {
                "SERVER_ERROR Invalid argument\r\n"
            }
            (Self::Garbage | Self::Failing | Self::PartFailed, Protocol::Redis) => {
                "-ERR Invalid argument\r\n"
            }
            _ => self.reply(protocol),
        }
    }

    /// Whether a server or the way to it failed, and not a limit of the proxy.
    pub(crate) fn is_of_server(self) -> bool {
        match self {
            Self::OverHold
            | Self::HoldFull
            | Self::RequestTooLarge
            | Self::Unfinished
            | Self::NoResource
            | Self::NoResp3
            | Self::NoDatabase
            | Self::NoOwnConnection
            | Self::NoDescriptor
            | Self::NoEntries
            | Self::PartFailed => false,
            Self::Refused
            | Self::TimedOut
            | Self::Reset
            | Self::Closed
            | Self::NoRoute
            | Self::AllEjected
            | Self::Ejected
            | Self::Garbage
            | Self::Unauthorized
            | Self::OutOfStep
            | Self::Left
            | Self::Moved
            | Self::Failing => true,
        }
    }
}
