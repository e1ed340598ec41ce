//! The cache-protocol parser shared by client and server side: memcached text and Redis RESP2.
//!
//! Requests are parsed in place at the front of a receive buffer; replies are only measured (where do they end, are they errors),
//! because a proxy passes them on. Nothing here allocates, keeps bytes, or knows connections. Both parsers can stop
//! anywhere and go on when more bytes are there, without looking at a byte twice.
#![forbid(unsafe_code)]

mod request;
mod reply;

pub use reply::*;
pub use request::*;
