//! What a pool with `compat = "twemproxy"` does otherwise; what that is and why, `tidegate_config::Compat` says.
//!
//! The parser refuses what twemproxy does not take, with an empty reply and the end of the connection. What is left for here are
//! the texts of errors, and what becomes of requests of several keys.

use crate::binary::UNAUTHENTICATED;
use crate::fault::Fault;
use crate::proxy::Proxy;
use crate::state::Pool;
use tidegate_config::Protocol;
use tidegate_protocol::{
    Parsed, Protocol as Dialect, Recovery, Refusal, Request, Resume, Route, Split as SplitKind,
    parse_request, parse_request_as_twemproxy,
};

/// What a request of several keys makes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Several {
    /// It has one key, or its pool is not compatible: nothing special.
    No,
    /// A server's own error becomes a general one.
    Written,
    /// The same, and the connection ends when a server fails.
    Read,
}

impl Pool {
    /// Looks at the front of a client's bytes.
    #[inline]
    pub fn parse(&self, dialect: Dialect, bytes: &[u8], resume: &mut Resume) -> Parsed {
        if self.twemproxy {
            parse_request_as_twemproxy(dialect, bytes, resume)
        } else {
            parse_request(dialect, bytes, resume)
        }
    }

    /// What a client is told in place of a reply.
    pub fn text(&self, fault: Fault) -> &'static str {
        if self.twemproxy {
            fault.reply_as_twemproxy(self.protocol)
        } else {
            fault.reply(self.protocol)
        }
    }

    /// What it makes of errors to a request.
    pub fn several(&self, request: &Request) -> Several {
        match request.route {
            _ if !self.twemproxy => Several::No,
            Route::Split(SplitKind::Mget | SplitKind::MemcachedGet) => Several::Read,
            Route::Split(_) => Several::Written,
            _ => Several::No,
        }
    }

    /// What a client is told that has to say first who it is.
    pub fn no_auth(&self) -> &'static str {
        if self.protocol == Protocol::Memcached {
            UNAUTHENTICATED
        } else if self.twemproxy {
            "-NOAUTH Authentication required\r\n"
        } else {
            "-NOAUTH Authentication required.\r\n"
        }
    }

    /// Whether a server that gave this error line has failed.
    pub fn is_failure(&self, error_line: &[u8]) -> bool {
        self.twemproxy
            && self.protocol == Protocol::Redis
            && tidegate_protocol::is_redis_server_failure(error_line)
    }
}

impl Proxy {
    /// What the client's pool makes of errors to this request.
    #[inline]
    pub(crate) fn several(&mut self, client: u32, request: &Request) -> Several {
        self.pool_of(client).several(request)
    }

    /// Reads no more requests of the client, and closes it when it has the replies that it is owed.
    pub(crate) fn close_as_twemproxy(&mut self, client: u32) {
        if !self.clients[client as usize].closing {
            self.clients[client as usize].closing = true;
            self.pool_of(client).counters.clients_closed_compat += 1;
        }
    }

    /// The refusal of the rest of a request, as the client's pool words it.
    pub(crate) fn worded(&mut self, client: u32, refusal: Refusal) -> Refusal {
        if self.pool_of(client).twemproxy {
            Refusal::SILENT
        } else {
            refusal
        }
    }

    /// The client is closed because of what it sent.
    pub(crate) fn close_for_protocol(&mut self, client: u32, refusal: &Refusal) {
        if *refusal == Refusal::SILENT {
            return self.close_as_twemproxy(client);
        }
        debug_assert_eq!(refusal.recovery, Recovery::Close);
        self.pool_of(client).counters.clients_closed_protocol += 1;
        self.clients[client as usize].closing = true;
    }
}
